"""Row lines with resistance: transfer, share of the drive that arrives, and non-linear outputs.

Normalised as in :mod:`behavioral.kernels.ladder`; the network is that of `behavioral.wire_grid`.
Every array of up to 256 columns has row drivers of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from behavioral.kernels import grid, ladder
from behavioral.wire_grid import effective_matrix
from circuits.errors import SimulationError

if TYPE_CHECKING:
    from behavioral.cell import Cell
    from behavioral.first_order import OhmicArray

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]

SWEEPS = 500


@dataclass(frozen=True)
class Wires:
    """Wire resistances of an array, normalised.

    Attributes
    ----------
    r_row : float
        Segment of a row line: from the driver to the first cell, and between two cells.
    r, r_end : float
        Segment of a bit line, and from its last cell to the virtual ground.
    """

    r_row: float
    r: float
    r_end: float

    def transfer(self, g: Float32) -> Float32:
        """Return what arrives at the read-out over what the cell would pass, (rows, cols)."""
        if self.r_row:
            exact = effective_matrix(g, self.r_row, self.r, self.r_end)
            return np.asarray(exact / g, np.float32)
        out = np.empty_like(g)
        ladder.transfer_profile(g, self.r, self.r_end, out)
        return out

    def ladders(self, g: Float32) -> Float32:
        """Return its approximation by independent lines: a few percent off, but `O(rows cols)`."""
        return replace(self, r_row=0.0).transfer(g) * self.arrival(g)

    def arrival(self, g: Float32) -> Float32:
        """Return the share of each row's drive at its cells, with ideal bit lines."""
        if not self.r_row:
            return np.broadcast_to(np.float32(1.0), g.shape)
        mirrored = np.ascontiguousarray(g[:, ::-1].T)  # the driver is where bit lines are read
        out = np.empty_like(mirrored)
        ladder.transfer_profile(mirrored, self.r_row, self.r_row, out)
        return np.ascontiguousarray(out.T[:, ::-1])

    def outputs(self, laws: FloatArray, ohmic: Float32, x: FloatArray, rest: float) -> FloatArray:
        """Return the read-out currents (samples, cols) of non-linear cells, solved in full.

        Parameters
        ----------
        laws : (terms, rows, cols) float array
            Cell current over v - u, terms as in `behavioral.cell.powers`.
        ohmic : (rows, cols) array
            Similar ohmic cells.
        x : (samples, rows) array
        rest : float
            Voltage of the virtual ground.

        Raises
        ------
        SimulationError
            The sweeps did not converge.
        """
        from behavioral.cell import DEGREE

        y, change = np.zeros((len(x), ohmic.shape[1])), np.zeros(len(x))
        wires = (self.r_row, self.r, self.r_end, rest)
        x, ohmic = np.ascontiguousarray(x, float), ohmic.astype(float)
        grid.relax(laws, DEGREE, ohmic, *wires, x, 1e-9, SWEEPS, y, change)
        if not (change < 1e-6).all():
            raise SimulationError(
                f"nodes still move by {change.max():.2g} v_read after {SWEEPS} sweeps; lower "
                "r_row_wire_ohm_per_cell or r_wire_ohm_per_cell"
            )
        return y


def fitted_laws(cell: Cell, array: OhmicArray) -> FloatArray:
    """Return the laws of an array's cells as the mean cell's and one deviation from it."""
    g, alpha = array.g.astype(float), array.alpha.astype(float)
    laws = g * (cell.base[:, None, None] + alpha * cell.slope[:, None, None])
    laws[0] += g
    return np.asarray(laws)


def exact_laws(cell: Cell, rram: NDArray[np.floating], span: float) -> FloatArray:
    """Return the laws of cells from their RRAM conductances [S]."""
    ln_g = np.log(rram.astype(float))
    return np.stack([rram / span * np.interp(ln_g, cell.ln_g, k) for k in cell.coef.T])

"""Crossbar cells whose access transistors differ: what programming cannot or does not take out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import Cell
from behavioral.noise import normal, stream_key
from circuits.errors import FormatError

if TYPE_CHECKING:
    from behavioral.library import Library

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]

_POINTS = 1025  # of the spread over the cell conductance


@dataclass(frozen=True)
class CellMismatch:
    """Relative spread of a cell's conductance by mismatch, drawn once per cell.

    "open": an RRAM conductance is written as if every transistor were the mean one, and all of the
    spread stays. "trimmed": write-verify reads the cell itself at full swing, and only what the
    spread differs by at other row voltages stays.

    Attributes
    ----------
    g : (n,) float array
        Cell conductances, evenly spaced from 0, in any unit.
    sigma : (n,) float array
        Standard deviation there, as a share of the conductance.
    """

    g: FloatArray
    sigma: FloatArray

    @classmethod
    def of(cls, library: "Library", cell: Cell, unit: float) -> Self | None:
        """Return what a library's `Variation` asks for, over cell conductances in a unit [S].

        Returns
        -------
        CellMismatch, or None without mismatch

        Raises
        ------
        FormatError
            The library was made before mismatch of the cell was measured, or points failed.
        """
        variation = getattr(library, "variation", None)
        if variation is None or variation.mismatch == "none":
            return None
        spread = current_sigma(library.crossbar, trimmed=variation.mismatch == "trimmed")
        g = np.linspace(0.0, cell.conductance_range[1], _POINTS)
        rram = cell.rram_conductance(np.maximum(g, cell.conductance_range[0]))
        return cls(g / unit, interpolate_sigma(library.crossbar.mismatch_g, spread, rram))

    def factors(self, g: Float32, seed: tuple[int, ...], label: str, column: int) -> Float32:
        """Return what the mismatch of drawn cells multiplies their conductances by, (rows, cols).

        Parameters
        ----------
        g : (rows, cols) float32 array
            Cell conductances as programmed.
        seed : tuple of int
        label : str
            Of the array: "main+" ...
        column : int
            Index of the first column.
        """
        draws = normal(stream_key((*seed, column), f"mismatch/{label}"), g.shape)
        spread = np.interp(g, self.g, self.sigma).astype(np.float32)
        return np.asarray(1.0 + spread * draws, np.float32)


def interpolate_sigma(g: FloatArray, sigma: FloatArray, at: FloatArray) -> FloatArray:
    """Interpolate a spread over RRAM conductances g (p,) [S]: over G it is nearly constant."""
    return np.asarray(at * np.interp(np.log(at), np.log(g), sigma / g))


def current_sigma(crossbar: object, *, trimmed: bool = False) -> FloatArray:
    """Return the relative standard deviation of cell currents at ``mismatch_g``, (p,).

    Root mean square over the row voltages; `trimmed`: of what is left when each current is right
    at full swing, where write-verify reads.

    Raises
    ------
    FormatError
        The library holds no mismatch of the cell.
    """
    parts = np.asarray(getattr(crossbar, "mismatch_parts", ()), float)
    if not parts.size or not np.isfinite(parts).all():
        raise FormatError(
            "this library holds no mismatch of the crossbar cell; make it again: nldpe characterize"
        )
    if trimmed:
        parts = parts - parts[:, -1:]
    return np.asarray(np.sqrt((parts**2).sum(axis=2).mean(axis=1)))

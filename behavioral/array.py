"""What programming a tile leaves behind."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.correction import Correction
from behavioral.programming import Noise
from behavioral.spread import Spread

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class ProgrammedArray:
    """One programmed tile (or a row of tiles): everything a product needs.

    Attributes
    ----------
    correction : Correction
        Effective matrix, and how the non-linearity of the cells enters.
    spread : Spread or None
        Per-read noise of the effective matrix.
    devices : (2 slices, rows, cols) float32 array or None
        RRAM conductances [S] of main +, main -, error +, error -; kept on request.
    error_scale : (groups,) float array
        k of each group of 256 columns; empty without error slice.
    clipped : int
        Cells whose target lay above g_max.
    noise : "none", "frozen" or "per-read"
    levels : (rows, levels) float32 array or None
        What row drivers make of evenly spaced inputs from -1 to 1; None: ideal drivers.
    offset : (cols,) float32 array or None
        What random offsets of transimpedance stages add to the column outputs on their way to the
        data line; not part of a product.
    """

    correction: Correction
    spread: Spread | None
    devices: Float32 | None
    error_scale: NDArray[np.float64]
    clipped: int
    noise: Noise
    levels: Float32 | None = None
    offset: Float32 | None = None

    @property
    def rows(self) -> int:
        """Rows in use."""
        return int(self.correction.common.size)

    @property
    def cols(self) -> int:
        """Columns (outputs)."""
        return int(self.correction.matrix.shape[1])

    @property
    def effective(self) -> Float32:
        """Effective matrix (rows, cols), a view: ``y`` is ``x @ effective`` but for corrections."""
        return self.correction.matrix[: self.rows]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays a product needs."""
        return self.correction.nbytes + (self.spread.nbytes if self.spread is not None else 0)

"""Per-read noise of a matrix: the variance of each output for given inputs.

The variance of an output is a sum over all rows of squared inputs. Rows that add little to it, and
nearly the same in every column, share one row of that product: a deviation must be right to a
fraction of a percent, not to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.blas import multiply
from behavioral.kernels import crossbar as kernels
from behavioral.noise import add_read_noise
from behavioral.threads import passes

Float32 = NDArray[np.float32]

WORTH = 32  # rows times columns spared, for each row, below which picking rows costs more
ERROR = 0.01  # of a variance, rms over outputs and typical inputs: 0.5 % of the deviation


@dataclass(frozen=True)
class Spread:
    """What squared inputs are multiplied with to give variances.

    Attributes
    ----------
    own : (own,) uint32 array
        Rows of the array that have a row of the matrix to themselves.
    weights : (rows,) float32 array
        What the squares of the other rows enter the last row of the matrix with; 0 for own rows.
    matrix : (own, or own + 1 where rows are shared; cols) float32 array
    """

    own: NDArray[np.uint32]
    weights: Float32
    matrix: Float32

    @classmethod
    def of(cls, variance: Float32, x: Float32, tiles: int = 1) -> Spread:
        """Choose the rows that share.

        Parameters
        ----------
        variance : (rows, cols) float32 array
            Variance of each element of a matrix.
        x : (samples, rows) float32 array
            Typical inputs.
        tiles : int
            How many arrays are summed: their errors are independent, so each may have more.
            0: none may have any.
        """
        rows, weights = np.arange(len(variance), dtype=np.uint32), np.zeros(len(variance), "f4")
        if not variance.size:
            return cls(rows, weights, variance)
        square = np.square(x, dtype=float)
        mean = variance.mean(axis=1, dtype=float)
        drive, fourth = square.mean(axis=0), np.square(square).mean(axis=0)
        error = fourth * variance.var(axis=1, dtype=float)
        rising = np.argsort(error, kind="stable")
        most = ERROR**2 * tiles * float(drive @ mean) ** 2
        shared = rising[: np.searchsorted(np.cumsum(error[rising]), most, side="right")]
        if len(shared) < 2 or len(shared) * variance.shape[1] < WORTH * len(mean):
            return cls(rows, weights, variance)
        own = np.setdiff1d(rows, shared).astype(np.uint32)
        weights[shared] = mean[shared]
        part = drive[shared] @ variance[shared].astype(float)
        whole = float(drive[shared] @ mean[shared])
        column = part / whole if whole > 0 else np.ones(variance.shape[1])
        matrix = np.concatenate([variance[own], column[None].astype(np.float32)])
        return cls(own, weights, matrix)

    @property
    def parts(self) -> int:
        """Rows of the matrix."""
        return len(self.own) + int(len(self.own) < len(self.weights))

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self.own.nbytes + self.weights.nbytes + self.matrix.nbytes

    def square(self, driven: Float32, first: int, out: Float32, place: int) -> None:
        """Write what the matrix is multiplied with into columns of `out` from `place` on.

        For inputs of the array in columns of `driven` from `first` on.
        """
        kernels.square(driven, first, self.own, self.weights, out, place)

    def disturb(
        self,
        y: Float32,
        driven: Float32,
        columns: slice,
        seed: int | tuple[int, ...],
        first_sample: int,
    ) -> None:
        """Add noise to outputs y (samples, columns) for inputs (samples, at least rows)."""
        for part in passes(*y.shape):
            squares = self.squares(driven[part])
            disturb(y[part], squares, self.matrix, columns, seed, first_sample + part.start)

    def squares(self, driven: Float32) -> Float32:
        """Return what the matrix is multiplied with for inputs (samples, at least rows)."""
        out = np.empty((len(driven), self.parts), np.float32)
        self.square(driven, 0, out, 0)
        return out


def disturb(
    y: Float32,
    squares: Float32,
    matrix: Float32,
    columns: slice,
    seed: int | tuple[int, ...],
    first_sample: int,
) -> None:
    """Add noise to outputs y (samples, columns) whose variances are ``squares @ matrix``, in place.

    Samples are numbered from `first_sample` on in the stream of the seed and the columns.
    """
    for part in passes(*y.shape):
        some = np.empty((part.stop - part.start, y.shape[1]), np.float32)
        multiply(squares[part], matrix, columns, some)
        add_read_noise(y[part], some, seed, columns.start or 0, first_sample + part.start)

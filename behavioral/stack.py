"""Row tiles whose currents add up before conversion: one matrix, one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from behavioral.crossbar import ProgrammedArray
from behavioral.noise import add_read_noise

if TYPE_CHECKING:
    from behavioral.crossbar import CrossbarModel

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Stack:
    """The matrices of row tiles below one another.

    Attributes
    ----------
    arrays : list of ProgrammedArray
        The tiles; their matrices and variances are views of those here.
    inputs : list of slice
        Inputs of each tile.
    matrix : (parts, cols) float32 array
    variance : (rows of all tiles, cols) float32 array or None
        Variance of the sum under per-read noise.
    """

    arrays: list[ProgrammedArray]
    inputs: list[slice]
    matrix: Float32
    variance: Float32 | None

    @classmethod
    def of(cls, arrays: Sequence[ProgrammedArray], inputs: Sequence[slice]) -> Stack | None:
        """Stack tiles; None where one has terms that need its own output."""
        if any(array.correction.terms.size for array in arrays):
            return None
        matrix, matrices = _below([array.correction.matrix for array in arrays])
        variances: Sequence[Float32 | None] = [None] * len(arrays)
        variance = None
        if all(array.variance is not None for array in arrays):
            variance, variances = _below([a.variance for a in arrays if a.variance is not None])
        views = [
            replace(array, correction=replace(array.correction, matrix=part), variance=spread)
            for array, part, spread in zip(arrays, matrices, variances, strict=True)
        ]
        return cls(views, list(inputs), matrix, variance)

    def drive(self, model: CrossbarModel, x: Float32) -> Float32:
        """Return what is multiplied with the matrix for row voltages x (batch, inputs).

        Behind it come, under per-read noise, what is multiplied with the variance: the squares of
        the direct inputs.
        """
        direct = 0 if self.variance is None else len(self.variance)
        out = np.empty((len(x), len(self.matrix) + direct), np.float32)
        place, square = 0, len(self.matrix)
        for array, inputs in zip(self.arrays, self.inputs, strict=True):
            model.drive_rows(array, x, inputs, out, place)
            if direct:
                np.square(
                    out[:, place : place + array.rows], out=out[:, square : square + array.rows]
                )
            place, square = place + len(array.correction.matrix), square + array.rows
        return out

    def read_block(
        self,
        driven: Float32,
        columns: slice,
        *,
        seed: int | tuple[int, ...] = 0,
        first_sample: int = 0,
        out: Float32,
    ) -> None:
        """Do `CrossbarModel.read_block` for the sum of all tiles; `driven` is from `drive`."""
        parts = len(self.matrix)
        np.matmul(driven[:, :parts], self.matrix[:, columns], out=out)
        if self.variance is not None:
            variance = driven[:, parts:] @ self.variance[:, columns]
            add_read_noise(out, variance, seed, columns.start, first_sample)


def _below(parts: Sequence[Float32]) -> tuple[Float32, list[Float32]]:
    """Return matrices below one another, and each as a view."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts])
    return whole, [whole[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]

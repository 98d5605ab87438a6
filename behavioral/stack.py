"""Row tiles whose currents add up before conversion: one matrix, one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from behavioral.array import ProgrammedArray
from behavioral.blas import multiply
from behavioral.spread import disturb

if TYPE_CHECKING:
    from behavioral.crossbar import CrossbarModel

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Stack:
    """The matrices of row tiles below one another.

    Attributes
    ----------
    arrays : list of ProgrammedArray
        The tiles; their matrices and spreads are views of those here.
    inputs : list of slice
        Inputs of each tile.
    matrix : (parts, cols) float32 array
    spread : (spread parts, cols) float32 array or None
        What gives the variance of the sum under per-read noise, see `behavioral.spread`.
    """

    arrays: list[ProgrammedArray]
    inputs: list[slice]
    matrix: Float32
    spread: Float32 | None

    @classmethod
    def of(cls, arrays: Sequence[ProgrammedArray], inputs: Sequence[slice]) -> Stack | None:
        """Stack tiles; None where one has terms that need its own output."""
        if any(array.correction.terms.size for array in arrays):
            return None
        matrix, parts = _below([array.correction.matrix for array in arrays])
        views = [
            replace(array, correction=replace(array.correction, matrix=part))
            for array, part in zip(arrays, parts, strict=True)
        ]
        spreads = [array.spread for array in arrays if array.spread is not None]
        if not spreads:
            return cls(views, list(inputs), matrix, None)
        spread, parts = _below([part.matrix for part in spreads])
        views = [
            replace(array, spread=replace(own, matrix=part))
            for array, own, part in zip(views, spreads, parts, strict=True)
        ]
        return cls(views, list(inputs), matrix, spread)

    def drive(self, model: CrossbarModel, x: Float32) -> Float32:
        """Return what is multiplied with the matrix for row voltages x (batch, inputs).

        Behind it come, under per-read noise, the squares that are multiplied with the spread.
        """
        squares = 0 if self.spread is None else len(self.spread)
        out = np.empty((len(x), len(self.matrix) + squares), np.float32)
        place, square = 0, len(self.matrix)
        for array, inputs in zip(self.arrays, self.inputs, strict=True):
            model.drive_rows(array, x, inputs, out, place)
            if array.spread is not None:
                array.spread.square(out, place, out, square)
                square += array.spread.parts
            place += len(array.correction.matrix)
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
        multiply(driven[:, :parts], self.matrix, columns, out)
        if self.spread is not None:
            disturb(out, driven[:, parts:], self.spread, columns, seed, first_sample)


def _below(parts: Sequence[Float32]) -> tuple[Float32, list[Float32]]:
    """Return matrices below one another, and each as a view."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts])
    return whole, [whole[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]

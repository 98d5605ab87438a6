"""What programming a layer leaves behind: all that a chip needs to compute it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from behavioral.acam import AcamUnit
from behavioral.array import ProgrammedArray
from behavioral.correction import Correction
from behavioral.spread import Spread
from behavioral.stack import Stack
from system.layer_spec import LayerSpec
from system.quantization import Float, InputCodes


@dataclass(frozen=True)
class LayerState:
    """A programmed layer; every large array stands in it once.

    Attributes
    ----------
    spec : LayerSpec
    tiles : list of ProgrammedArray
        Row tiles without the matrices, of their spreads neither.
    matrix : (rows of all tiles, second products included, out) float32 array
    spread : (spread parts of all tiles, out) float32 array or None
    inputs : list of (first, last) int pairs
        Inputs of each tile.
    stacked : bool
        Whether the tiles are one product.
    units : list of AcamUnit
    fine_unit : AcamUnit or None
    """

    spec: LayerSpec
    tiles: list[ProgrammedArray]
    matrix: Float
    spread: Float | None
    inputs: list[tuple[int, int]]
    stacked: bool
    units: list[AcamUnit]
    fine_unit: AcamUnit | None

    @classmethod
    def of(
        cls,
        spec: LayerSpec,
        arrays: list[ProgrammedArray],
        inputs: list[slice],
        stack: Stack | None,
        units: list[AcamUnit],
        fine_unit: AcamUnit | None,
    ) -> LayerState:
        """Gather the parts of a programmed layer."""
        if stack is None:
            spreads = [array.spread.matrix for array in arrays if array.spread is not None]
            matrix = np.concatenate([array.correction.matrix for array in arrays])
            spread = np.concatenate(spreads) if spreads else None
        else:
            matrix, spread = stack.matrix, stack.spread
        return cls(
            spec,
            [_without_matrix(array) for array in arrays],
            matrix,
            spread,
            [(part.start, part.stop) for part in inputs],
            stack is not None,
            units,
            fine_unit,
        )

    def arrays(self) -> list[ProgrammedArray]:
        """Return the tiles with their matrices, which are views."""
        found, top, row = [], 0, 0
        for tile in self.tiles:
            end, spread = top + tile.rows + tile.correction.second.size, tile.spread
            correction = replace(tile.correction, matrix=self.matrix[top:end])
            if spread is not None and self.spread is not None:
                spread = replace(spread, matrix=self.spread[row : row + spread.parts])
                row += spread.parts
            found.append(replace(tile, correction=correction, spread=spread))
            top = end
        return found

    def stack(self, arrays: list[ProgrammedArray]) -> Stack | None:
        """Return the tiles as one product, if they are."""
        if not self.stacked:
            return None
        return Stack(arrays, [slice(*part) for part in self.inputs], self.matrix, self.spread)


def _without_matrix(array: ProgrammedArray) -> ProgrammedArray:
    correction = replace(array.correction, matrix=array.correction.matrix[:0])
    spread = array.spread
    if spread is not None:
        spread = replace(spread, matrix=spread.matrix[:0])
    return replace(array, correction=correction, spread=spread)


CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (LayerState, LayerSpec, InputCodes, ProgrammedArray, Correction, Spread, AcamUnit)
}

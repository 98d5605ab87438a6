"""One conversion by ACAM units: from column outputs to values, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamUnit
from behavioral.acam_unit import convert_block, per_column
from system.layer_spec import Ends
from system.quantization import Float


@dataclass(frozen=True)
class Conversion:
    """ACAM units with the data lines before them and the values after them.

    Attributes
    ----------
    unit : AcamUnit
    gain : (out,) float array
        What 1 in normalised column output is worth.
    line : (out,) float arrays
        Column outputs, times `gain`, at the two ends of the data line.
    values : (out,) float arrays
        Values of code 0 and of the top code.
    """

    unit: AcamUnit
    gain: Float
    line: Ends
    values: Ends

    @cached_property
    def _affine(self) -> Float:
        low, high = self.line
        width = high - low
        return per_column(len(self.gain), self.gain / width, -low / width)

    @cached_property
    def _ends(self) -> Float:
        bottom, top = self.values
        step = (top - bottom) / np.float32(self.unit.top)
        return per_column(len(self.gain), bottom, step)

    def position(self, y: Float, columns: slice = slice(None)) -> Float:
        """Return the data-line positions (n, out) of column outputs y (n, out)."""
        scale, shift = self._affine[:, columns]
        return np.asarray(y * scale + shift)

    def value(self, code: NDArray[np.int64], columns: slice = slice(None)) -> Float:
        """Return the values (n, out) of codes (n, out)."""
        base, step = self._ends[:, columns]
        return np.asarray(base + step * code, np.float32)

    def codes(self, y: Float, columns: slice = slice(None)) -> NDArray[np.int64]:
        """Return the codes (n, out) of column outputs y (n, out)."""
        out, plain = np.empty(y.shape, np.uint16), per_column(len(self.gain), 0.0, 1.0)
        y = np.ascontiguousarray(y)
        convert_block(self.unit, y, columns, self._affine, plain, out)
        return out.astype(np.int64)

    def run(self, y: Float, columns: slice) -> int:
        """Replace column outputs y (n, some columns) by values; returns how many were clipped."""
        return convert_block(self.unit, y, columns, self._affine, self._ends, y)

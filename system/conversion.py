"""One conversion by ACAM units: from column outputs to values, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamUnit
from behavioral.acam_unit import convert_block, per_column
from behavioral.kernels import conversion as kernels
from behavioral.kernels.steps import CELLS, INSIDE
from system.layer_spec import Ends
from system.quantization import Float

_ROUNDED = 1 / 64  # of a cell: more than single precision moves a position


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
    part : int
        Random stream of the noise on these lines.
    """

    unit: AcamUnit
    gain: Float
    line: Ends
    values: Ends
    part: int = 0

    @cached_property
    def affine(self) -> Float:
        """Scale and shift (2, out) from column outputs to the data line."""
        low, high = self.line
        width = high - low
        return per_column(len(self.gain), self.gain / width, -low / width)

    @cached_property
    def span(self) -> Float:
        """Column outputs (out,) that fill the data line."""
        low, high = self.line
        return np.asarray((high - low) / self.gain, np.float32)

    @cached_property
    def ends(self) -> Float:
        """Base and step (2, out) from codes to values."""
        bottom, top = self.values
        step = (top - bottom) / np.float32(self.unit.top)
        return per_column(len(self.gain), bottom, step)

    def position(self, y: Float, columns: slice = slice(None)) -> Float:
        """Return the data-line positions (n, out) of column outputs y (n, out)."""
        scale, shift = self.affine[:, columns]
        return np.asarray(y * scale + shift)

    def value(self, code: NDArray[np.int64], columns: slice = slice(None)) -> Float:
        """Return the values (n, out) of codes (n, out)."""
        base, step = self.ends[:, columns]
        return np.asarray(base + step * code, np.float32)

    def codes(self, y: Float, columns: slice = slice(None)) -> NDArray[np.int64]:
        """Return the codes (n, out) of column outputs y (n, out)."""
        out, plain = np.empty(y.shape, np.uint16), per_column(len(self.gain), 0.0, 1.0)
        y = np.ascontiguousarray(y)
        convert_block(self.unit, y, columns, self.affine, plain, out)
        return out.astype(np.int64)

    def run(self, y: Float, columns: slice) -> int:
        """Replace column outputs y (n, some columns) by values; returns how many were clipped."""
        return convert_block(self.unit, y, columns, self.affine, self.ends, y)


@dataclass(frozen=True)
class RangedConversion:
    """Two sets of units on the same outputs: the fine one's codes count where they reach.

    Attributes
    ----------
    wide, fine : Conversion
    inside : (out,) float arrays
        Values of the wide units between which the fine ones count.
    """

    wide: Conversion
    fine: Conversion
    inside: Ends

    @cached_property
    def _constants(self) -> tuple[Float, Float, Float, Float]:
        """Return the lines, ends, and bounds of `behavioral.kernels.conversion.convert_ranges`."""
        lines = np.concatenate([self.wide.affine, self.fine.affine])
        ends = np.concatenate([self.wide.ends, self.fine.ends])
        return lines, ends, per_column(lines.shape[1], *self.inside), self._sure()

    def _sure(self) -> Float:
        """Return outputs (2, out) between which the wide units certainly say inside.

        A little less at each end than their tables show: positions are rounded.
        """
        unit, (scale, shift) = self.wide.unit, self.wide.affine
        run = np.empty((2, len(scale)), np.int64)
        low, high = (end / self.fine.gain for end in self.fine.line)
        middle = np.clip(((low + high) / 2 * scale + shift) * CELLS, 0, CELLS - 1)
        (base, step), (least, most) = self.wide.ends, per_column(len(scale), *self.inside)
        kernels.certain(unit.table, base, step, least, most, middle.astype(np.int64), run)
        start = max(float(unit.bottom) / INSIDE, 0.0)  # below, inputs are clipped
        reach = np.stack([np.maximum(run[0], start) + _ROUNDED, run[1] - _ROUNDED])
        sure = (reach / CELLS - shift) / scale
        return np.where(scale > 0, sure, [[np.inf], [-np.inf]]).astype(np.float32)

    def run(self, y: Float, columns: slice) -> int:
        """Replace column outputs y (n, some columns) by values; returns how many were clipped."""
        wide, fine = (
            unit.table if len(unit.table) == 1 else unit.table[columns]
            for unit in (self.wide.unit, self.fine.unit)
        )
        line, ends, inside, sure = (part[:, columns] for part in self._constants)
        bottom = self.wide.unit.bottom
        return int(kernels.convert_ranges(wide, fine, y, line, bottom, ends, inside, sure))

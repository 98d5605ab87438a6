"""One programmed ACAM unit per column: what it holds, and the checked way into the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.kernels import conversion as kernels
from behavioral.kernels.steps import POSITIONS
from behavioral.noise import seed_path
from behavioral.threads import blocks, in_place, run_all
from circuits.errors import ParameterError

SingleArray = NDArray[np.float32]

_MOST = 2**16 - 1  # sum of the codes of units in parallel


@dataclass(frozen=True)
class AcamUnit:
    """Programmed ACAM units of a set of columns. Made by `AcamModel.program`.

    Parameters
    ----------
    columns : int
        Columns served; arrays with one column are shared by all of them.
    bits : int
        Width of the output code.
    gray : bool
        Rows hold Gray-code bits; codes are always decoded.
    table : (columns or 1, cells, 2) int64 array, or (columns or 1, levels) uint8 or uint16 array
        The sum of codes along the data line, see `behavioral.kernels.steps`; or at DAC levels.
    copies : int
        Units whose codes the table adds up.
    bit : (rows,) int array
        Output bit of each row.
    lo, hi : (columns or 1, rows) float32 arrays or None
        Actual bounds on the data line, noise included; -inf and +inf are open branches, a row
        with ``lo >= hi`` never matches. None if not kept.
    g_lo, g_hi : (columns or 1, rows) float32 arrays or None [S]
        RRAM conductances as read; 0 where the branch is disabled. None if not kept.
    flat_below : bool
        The function is constant below the data line: inputs there saturate as meant, and are not
        counted as clipped.
    floor : float
        Data-line position at which the codes begin; inputs below it count as clipped.
    empty_rows, stuck_devices, clipped_devices : int
        Rows that never match, devices stuck off, and devices whose noisy conductance was clipped
        to the characterised range.
    """

    columns: int
    bits: int
    gray: bool
    table: NDArray[Any]
    bit: NDArray[np.int64]
    lo: SingleArray | None = None
    hi: SingleArray | None = None
    g_lo: SingleArray | None = None
    g_hi: SingleArray | None = None
    flat_below: bool = False
    floor: float = 0.0
    empty_rows: int = 0
    stuck_devices: int = 0
    clipped_devices: int = 0
    copies: int = 1

    @property
    def top(self) -> int:
        """The highest code."""
        return int(self.copies * (2**self.bits - 1))

    @property
    def levels(self) -> bool:
        """The table is indexed by a DAC code instead of a data-line position."""
        return self.table.ndim == 2

    @property
    def bottom(self) -> np.float32:
        """The position of the step table below which inputs count as clipped."""
        return np.float32(-np.inf if self.flat_below else self.floor * POSITIONS)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays [bytes]."""
        arrays = (self.table, self.lo, self.hi, self.g_lo, self.g_hi)
        return sum(a.nbytes for a in arrays if a is not None)


def convert(
    unit: AcamUnit, y: ArrayLike, line: SingleArray, ends: SingleArray, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], int]:
    """Convert ``u = y * scale + shift`` to ``base + step * code``, block by block.

    `line` holds scale and shift, `ends` base and step, (2, columns) each.
    """
    if unit.levels:
        raise ParameterError("the unit is indexed by DAC codes; index unit.table instead")
    y = check_input(y, unit.columns)
    out = np.empty(y.shape, dtype)

    def fill(place: tuple[slice, slice]) -> int:
        with in_place(out, place) as block:
            inputs = np.ascontiguousarray(y[place])
            return convert_block(unit, inputs, place[1], line, ends, block)

    clipped = sum(run_all(fill, blocks(*y.shape)))
    if clipped:
        refuse_nan(y, line)
    return out, clipped


def convert_block(
    unit: AcamUnit,
    y: SingleArray,
    columns: slice,
    line: SingleArray,
    ends: SingleArray,
    out: NDArray[Any],
) -> int:
    """Convert a contiguous block of some columns on this thread; returns how many were clipped.

    `line` and `ends` are those of all columns; `out` may be `y`.
    """
    table = unit.table if len(unit.table) == 1 else unit.table[columns]
    some = [np.ascontiguousarray(part[:, columns]) for part in (line, ends)]
    return int(kernels.convert(table, y, some[0], unit.bottom, some[1], out))


def per_column(columns: int, *values: ArrayLike) -> SingleArray:
    """Return (values, columns) float32, each value one number or one per column."""
    out = np.empty((len(values), columns), np.float32)
    for row, value in zip(out, values, strict=True):
        row[:] = value
    return out


def copy_seeds(seed: int | tuple[int, ...], copies: int) -> list[tuple[int, ...]]:
    """Return the seed of each of so many units on the same data lines."""
    path = seed_path(seed)
    return [(*path, copy) if copy else path for copy in range(copies)]


def refuse_nan(*arrays: SingleArray) -> None:
    """Raise ParameterError if any array holds NaN."""
    for a in arrays:
        if np.isnan(a).any():
            raise ParameterError(
                f"NaN in the input of an ACAM unit ({np.isnan(a).sum()} of {a.size} values):"
                " a layer before it overflowed or read undefined data"
            )


def check_input(u: ArrayLike, columns: int) -> SingleArray:
    """Return the input as a C-contiguous (batch, columns) float32 array."""
    u = np.ascontiguousarray(u, dtype=np.float32)
    if u.ndim != 2 or u.shape[1] != columns:
        raise ParameterError(f"input of shape {u.shape}; the unit takes (batch, {columns})")
    return u


def check_rows(
    lo: ArrayLike, hi: ArrayLike, bit: ArrayLike, bits: int, columns: int | None, copies: int
) -> tuple[SingleArray, SingleArray, NDArray[np.int64], int]:
    """Return checked row arrays of `AcamModel.program` and the number of columns."""
    lo = np.ascontiguousarray(np.atleast_2d(np.asarray(lo, np.float32)))
    hi = np.ascontiguousarray(np.atleast_2d(np.asarray(hi, np.float32)))
    bit = np.ascontiguousarray(bit, dtype=np.int64)
    if not 1 <= bits <= 16:
        raise ParameterError(f"bits = {bits}: an output code has 1 to 16 bits")
    if not 1 <= copies <= _MOST // (2**bits - 1):
        raise ParameterError(
            f"{copies} copies of {bits} bits; 1 to {_MOST // (2**bits - 1)} add up to 16 bits"
        )
    if lo.ndim != 2 or lo.shape != hi.shape or bit.shape != (lo.shape[1],):
        raise ParameterError(
            f"lo {lo.shape}, hi {hi.shape} and bit {bit.shape} must be (columns, rows) twice and"
            " (rows,)"
        )
    if bit.size and (bit.min() < 0 or bit.max() >= bits):
        raise ParameterError(f"rows name bits {bit.min()} to {bit.max()} of a {bits}-bit code")
    if np.isnan(lo).any() or np.isnan(hi).any():
        raise ParameterError("a window bound is NaN; use -inf and inf for open bounds")
    count = lo.shape[0] if columns is None else columns
    if lo.shape[0] not in (1, count) or count < 1:
        raise ParameterError(f"windows of {lo.shape[0]} columns do not fit {count} columns")
    return lo, hi, bit, count

"""Kernels that convert column outputs through the step tables of ACAM units."""

import numpy as np
from numba import njit

_RUN = 256  # outputs that narrow units convert in one go
_LINE = 64  # bytes of a line of the cache
_TOGETHER = 128  # columns that wide ones convert, sample by sample
_FIRST = np.int64(0)  # a plain 0 would be a type of its own, compiled twice


@njit(cache=True, nogil=True)
def _fetch(entries):  # type: ignore[no-untyped-def]
    """Read every line of the tables in order: cheaper than misses at random later."""
    seen = entries[0]
    for k in range(0, entries.size, _LINE // entries.itemsize):
        seen |= entries[k]
    return seen


@njit(cache=True, nogil=True)
def _convert_runs(entries, cells, y, first, line, offset, bottom, ends, out):  # type: ignore[no-untyped-def]
    """Convert outputs from number ``first`` of every run (runs, size); returns the clipped.

    ``line`` and ``ends`` are those of the outputs, ``offset`` is where the table of each starts.
    One pass an operation: all but the look-up vectorise.
    """
    top, final, zero = np.float32(cells), np.uint32(cells - 1), np.float32(0.0)
    scale, shift, base, step = line[0], line[1], ends[0], ends[1]
    size, inside = offset.size, 0
    index, code = np.empty(size, np.uint32), np.empty(size, entries.dtype)
    if y.shape[0] * _LINE > cells * entries.itemsize:
        code[0] = _fetch(entries)
    for b in range(y.shape[0]):
        row, result = y[b, first : first + size], out[b, first : first + size]
        for j in range(size):
            t = (row[j] * scale[j] + shift[j]) * top
            inside += (t >= bottom) & (t <= top)
            t = t if t > zero else zero
            t = t if t < top else top
            index[j] = offset[j] + min(np.uint32(np.int32(t)), final)
        for j in range(size):
            code[j] = entries[index[j]]
        for j in range(size):
            result[j] = base[j] + step[j] * np.float32(code[j])
    return y.shape[0] * size - inside


@njit(cache=True, nogil=True)
def convert(table, y, line, bottom, ends, out):  # type: ignore[no-untyped-def]
    """Convert ``u = y * scale + shift`` through the step tables.

    Parameters
    ----------
    table : (columns or 1, cells) unsigned array
    y : (batch, columns) float32 array
    line : (2, columns) float32 array
        Scale and shift.
    bottom : float32
        Inputs below it count as clipped: 0, or -inf where the line is meant to saturate.
    ends : (2, columns) float32 array
        Base and step: what is emitted is ``base + step * code``.
    out : (batch, columns) array, overwritten; may be ``y``.

    Returns
    -------
    clipped : int
        Inputs outside [bottom, 1], NaN included.
    """
    batch, columns = y.shape
    cells, entries = table.shape[1], table.reshape(-1)
    stride = np.uint32(cells if table.shape[0] > 1 else 0)
    clipped = 0
    if columns > _TOGETHER:  # tables of a group of columns stay in the second-level cache
        for first in range(0, columns, _TOGETHER):
            last = min(first + _TOGETHER, columns)
            own = entries if stride == 0 else entries[first * cells : last * cells]
            offset = np.empty(last - first, np.uint32)
            for j in range(last - first):
                offset[j] = np.uint32(j) * stride
            clipped += _convert_runs(
                own, cells, y, first, line[:, first:last].copy(), offset, bottom,
                ends[:, first:last].copy(), out,
            )  # fmt: skip
        return clipped
    samples = min(max(1, _RUN // max(columns, 1)), max(batch, 1))  # of one run
    size = samples * columns
    offset = np.zeros(size, np.uint32)
    lines, every = np.empty((2, size), np.float32), np.empty((2, size), np.float32)
    for j in range(size):
        offset[j] = np.uint32(j % columns) * stride
        for k in range(2):
            lines[k, j], every[k, j] = line[k, j % columns], ends[k, j % columns]
    runs = batch // samples
    whole, rest = runs * samples, (batch - runs * samples) * columns
    clipped += _convert_runs(
        entries, cells, y[:whole].reshape(runs, size), _FIRST, lines, offset, bottom, every,
        out[:whole].reshape(runs, size),
    )  # fmt: skip
    if rest:
        clipped += _convert_runs(
            entries, cells, y[whole:].reshape(1, rest), _FIRST, lines, offset[:rest], bottom, every,
            out[whole:].reshape(1, rest),
        )  # fmt: skip
    return clipped


@njit(cache=True, nogil=True)
def certain(table, base, step, low, high, middle, out):  # type: ignore[no-untyped-def]
    """Find the run of cells around one cell whose values lie between two ends.

    Parameters
    ----------
    table : (columns or 1, cells) unsigned array
    base, step : (columns,) float32 arrays
        The value of a code is ``base + step * code``.
    low, high : (columns,) float32 arrays
        What values must lie between.
    middle : (columns,) int64 array
        The cell.
    out : (2, columns) int64 array, overwritten
        First cell of the run and the one after its last; equal where ``middle`` is not in it.
    """
    cells = table.shape[1]
    for j in range(base.size):
        line = table[min(j, table.shape[0] - 1)]
        first = last = middle[j]
        while last < cells and low[j] < base[j] + step[j] * np.float32(line[last]) < high[j]:
            last += 1
        while first < last and first > 0:
            value = base[j] + step[j] * np.float32(line[first - 1])
            if not low[j] < value < high[j]:
                break
            first -= 1
        out[0, j], out[1, j] = first, last


@njit(cache=True, nogil=True)
def convert_ranges(coarse, fine, y, line, bottom, ends, inside, sure):  # type: ignore[no-untyped-def]
    """Convert through fine tables, but where the value of the coarse ones is outside their range.

    Parameters
    ----------
    coarse, fine : (columns or 1, cells) unsigned arrays
    y : (batch, columns) float32 array, overwritten
    line, ends : (4, columns) float32 arrays
        Scale and shift, base and step as in `convert`: of the coarse tables, of the fine ones.
    bottom : float32
        As in `convert`, for the coarse tables.
    inside : (2, columns) float32 array
        Values of the coarse tables between which the fine ones count.
    sure : (2, columns) float32 array
        Inputs between which they certainly do: the coarse tables are not asked.

    Returns
    -------
    clipped : int
        Inputs outside the range of the coarse tables, NaN included.
    """
    clipped = 0
    for first in range(0, line.shape[1], _TOGETHER):
        last = min(first + _TOGETHER, line.shape[1])
        clipped += _convert_group(
            coarse, fine, y, first, line[:, first:last].copy(), bottom,
            ends[:, first:last].copy(), inside[:, first:last].copy(), sure[:, first:last].copy(),
        )  # fmt: skip
    return clipped


@njit(cache=True, nogil=True)
def _convert_group(coarse, fine, y, first, line, bottom, ends, inside, sure):  # type: ignore[no-untyped-def]
    """Do `convert_ranges` for columns from number ``first`` on; one pass an operation."""
    size, cells, zero = line.shape[1], fine.shape[1], np.float32(0.0)
    top, final = np.float32(cells), np.uint32(cells - 1)
    start = first if fine.shape[0] > 1 else 0
    entries = fine[start : start + (size if fine.shape[0] > 1 else 1)].reshape(-1)
    stride = np.uint32(cells if fine.shape[0] > 1 else 0)
    scale, shift, base, step = line[2], line[3], ends[2], ends[3]
    low, high = sure[0], sure[1]
    offset = np.arange(size).astype(np.uint32) * stride
    index, code = np.empty(size, np.uint32), np.empty(size, entries.dtype)
    value = np.empty(size, np.float32)
    if y.shape[0] * _LINE > cells * entries.itemsize:
        code[0] = _fetch(entries)
    clipped = 0
    for b in range(y.shape[0]):
        row, known = y[b, first : first + size], 0
        for j in range(size):
            known += (row[j] > low[j]) & (row[j] < high[j])
            t = (row[j] * scale[j] + shift[j]) * top
            t = t if t > zero else zero
            t = t if t < top else top
            index[j] = offset[j] + min(np.uint32(np.int32(t)), final)
        for j in range(size):
            code[j] = entries[index[j]]
        for j in range(size):
            value[j] = base[j] + step[j] * np.float32(code[j])
        if known < size:
            for j in range(size):
                if not low[j] < row[j] < high[j]:
                    cell, beyond = _coarse_cell(row[j], line[0, j], line[1, j], coarse, bottom)
                    clipped += beyond
                    found = coarse[min(first + j, coarse.shape[0] - 1), cell]
                    wide = ends[0, j] + ends[1, j] * np.float32(found)
                    if not inside[0, j] < wide < inside[1, j]:
                        value[j] = wide
        for j in range(size):
            row[j] = value[j]
    return clipped


@njit(cache=True, nogil=True)
def _coarse_cell(y, scale, shift, table, bottom):  # type: ignore[no-untyped-def]
    """Return the cell of an output, and whether it was clipped."""
    top = np.float32(table.shape[1])
    t = (y * scale + shift) * top
    inside = bottom <= t <= top
    t = t if t > np.float32(0.0) else np.float32(0.0)
    return min(np.int64(t if t < top else top), table.shape[1] - 1), not inside

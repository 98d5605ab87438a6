"""Kernels that convert column outputs through the step tables of ACAM units."""

import numpy as np
from numba import njit

from behavioral.kernels.steps import CELLS, EDGES, INSIDE, LANE, POSITIONS

_RUN = 256  # outputs that narrow units convert in one go
_LINE = 64  # bytes of a line of the cache
_TABLE = 16 * CELLS  # bytes of a column's table
_TOGETHER = 128  # columns that wide ones convert, sample by sample
_FIRST = np.int64(0)  # a plain 0 would be a type of its own, compiled twice

_TOP, _FINAL = np.float32(POSITIONS), np.int32(POSITIONS - 1)
_ZERO = np.float32(0.0)
_EVERY = np.int64(sum(1 << LANE * i for i in range(EDGES)))  # 1 in each lane of an edge
_GUARDS = _EVERY << (LANE - 1)  # from which a lane borrows where the place is before its edge


@njit(cache=True, nogil=True)
def _position(t):  # type: ignore[no-untyped-def]
    """Return the position on the line of an input, in positions; NaN is at its start."""
    t = t if t > _ZERO else _ZERO
    return min(np.int32(t if t < _TOP else _TOP), _FINAL)


@njit(cache=True, nogil=True)
def _in_lanes(position):  # type: ignore[no-untyped-def]
    """Return the place inside its cell, beside a guard bit, in the lane of every edge."""
    return np.int64(position & (INSIDE - 1)) * _EVERY + _GUARDS


@njit(cache=True, nogil=True)
def _code(place, edges, codes):  # type: ignore[no-untyped-def]
    """Return the code at a place, in lanes, of a cell: as many codes on as edges are passed."""
    passed = (place - edges) >> (LANE - 1) & _EVERY
    count = (passed + (passed >> LANE) + (passed >> 2 * LANE)) & EDGES
    return np.int32(codes >> LANE * count) & 0xFFFF


@njit(cache=True, nogil=True)
def _fetch(words):  # type: ignore[no-untyped-def]
    """Read every line of the tables in order: cheaper than misses at random later."""
    seen = np.int64(0)
    for k in range(0, words.size, _LINE // 8):
        seen |= words[k]
    return seen


@njit(cache=True, nogil=True)
def _convert_runs(cells, y, first, line, offset, bottom, ends, out):  # type: ignore[no-untyped-def]
    """Convert outputs from number ``first`` of every run (runs, size); returns the clipped.

    ``line`` and ``ends`` are those of the outputs, ``offset`` is where the table of each starts.
    One pass an operation: all but the look-up vectorise. A cell moves as one complex number.
    """
    scale, shift, base, step = line[0], line[1], ends[0], ends[1]
    size, inside = offset.size, 0
    index, place = np.empty(size, np.uint32), np.empty(size, np.int64)
    cell = np.empty(size, np.complex128)
    words = cell.view(np.int64)
    if y.shape[0] * _LINE > _TABLE:
        words[0] = _fetch(cells.view(np.int64))
    for b in range(y.shape[0]):
        row, result = y[b, first : first + size], out[b, first : first + size]
        for j in range(size):
            t = (row[j] * scale[j] + shift[j]) * _TOP
            inside += (t >= bottom) & (t <= _TOP)
            position = _position(t)
            index[j] = offset[j] + np.uint32(position // INSIDE)
            place[j] = _in_lanes(position)
        for j in range(size):
            cell[j] = cells[index[j]]
        for j in range(size):
            result[j] = base[j] + step[j] * np.float32(
                _code(place[j], words[2 * j], words[2 * j + 1])
            )
    return y.shape[0] * size - inside


@njit(cache=True, nogil=True)
def convert(table, y, line, bottom, ends, out):  # type: ignore[no-untyped-def]
    """Convert ``u = y * scale + shift`` through the step tables.

    Parameters
    ----------
    table : (columns or 1, CELLS, 2) int64 array
        See `behavioral.kernels.steps`.
    y : (batch, columns) float32 array
    line : (2, columns) float32 array
        Scale and shift.
    bottom : float32
        Position below which inputs count as clipped: 0, or -inf where the line is meant to
        saturate.
    ends : (2, columns) float32 array
        Base and step: what is emitted is ``base + step * code``.
    out : (batch, columns) array, overwritten; may be ``y``.

    Returns
    -------
    clipped : int
        Inputs outside [bottom, 1], NaN included.
    """
    batch, columns = y.shape
    cells = table.reshape(-1).view(np.complex128)
    stride = np.uint32(CELLS if table.shape[0] > 1 else 0)
    clipped = 0
    if columns > _TOGETHER:  # tables of a group of columns stay in the second-level cache
        for first in range(0, columns, _TOGETHER):
            last = min(first + _TOGETHER, columns)
            own = cells if stride == 0 else cells[first * CELLS : last * CELLS]
            offset = np.arange(last - first).astype(np.uint32) * stride
            clipped += _convert_runs(
                own, y, first, line[:, first:last].copy(), offset, bottom,
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
        cells, y[:whole].reshape(runs, size), _FIRST, lines, offset, bottom, every,
        out[:whole].reshape(runs, size),
    )  # fmt: skip
    if rest:
        clipped += _convert_runs(
            cells, y[whole:].reshape(1, rest), _FIRST, lines, offset[:rest], bottom, every,
            out[whole:].reshape(1, rest),
        )  # fmt: skip
    return clipped


@njit(cache=True, nogil=True)
def certain(table, base, step, low, high, middle, out):  # type: ignore[no-untyped-def]
    """Find the run of cells around one cell whose values lie between two ends.

    Parameters
    ----------
    table : (columns or 1, CELLS, 2) int64 array
    base, step : (columns,) float32 arrays
        The value of a code is ``base + step * code``.
    low, high : (columns,) float32 arrays
        What values must lie between.
    middle : (columns,) int64 array
        The cell.
    out : (2, columns) int64 array, overwritten
        First cell of the run and the one after its last; equal where ``middle`` is not in it.
    """
    for j in range(base.size):
        codes = table[min(j, table.shape[0] - 1), :, 1]
        first = last = middle[j]
        while last < CELLS and _within(codes[last], base[j], step[j], low[j], high[j]):
            last += 1
        while 0 < first < last and _within(codes[first - 1], base[j], step[j], low[j], high[j]):
            first -= 1
        out[0, j], out[1, j] = first, last


@njit(cache=True, nogil=True)
def _within(codes, base, step, low, high):  # type: ignore[no-untyped-def]
    """Return whether all values of a cell lie between two ends."""
    inside = True
    for i in range(EDGES + 1):
        value = base + step * np.float32(codes >> LANE * i & 0xFFFF)
        inside &= low < value < high
    return inside


@njit(cache=True, nogil=True)
def convert_ranges(coarse, fine, y, line, bottom, ends, inside, sure):  # type: ignore[no-untyped-def]
    """Convert through fine tables, but where the value of the coarse ones is outside their range.

    Parameters
    ----------
    coarse, fine : (columns or 1, CELLS, 2) int64 arrays
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
    size, several = line.shape[1], fine.shape[0] > 1
    cells = (fine[first : first + size] if several else fine).reshape(-1).view(np.complex128)
    offset = np.arange(size).astype(np.uint32) * np.uint32(CELLS if several else 0)
    unsure = np.empty(size + 1, np.uint32)
    others = coarse.reshape(-1)
    start = (first + np.arange(size)) * (CELLS if coarse.shape[0] > 1 else 0)
    scale, shift, base, step = line[2], line[3], ends[2], ends[3]
    low, high = sure[0], sure[1]
    index, place = np.empty(size, np.uint32), np.empty(size, np.int64)
    cell, value = np.empty(size, np.complex128), np.empty(size, np.float32)
    words = cell.view(np.int64)
    if y.shape[0] * _LINE > _TABLE:
        words[0] = _fetch(cells.view(np.int64))
    clipped = 0
    for b in range(y.shape[0]):
        row, known = y[b, first : first + size], 0
        for j in range(size):
            known += (row[j] > low[j]) & (row[j] < high[j])
            position = _position((row[j] * scale[j] + shift[j]) * _TOP)
            index[j] = offset[j] + np.uint32(position // INSIDE)
            place[j] = _in_lanes(position)
        for j in range(size):
            cell[j] = cells[index[j]]
        for j in range(size):
            value[j] = base[j] + step[j] * np.float32(
                _code(place[j], words[2 * j], words[2 * j + 1])
            )
        if known < size:
            n = 0
            for j in range(size):
                unsure[n] = j
                n += not low[j] < row[j] < high[j]
            for i in range(n):
                j = unsure[i]
                t = (row[j] * line[0, j] + line[1, j]) * _TOP
                clipped += not bottom <= t <= _TOP
                position = _position(t)
                k = 2 * (np.int64(start[j]) + position // INSIDE)
                code = _code(_in_lanes(position), others[k], others[k + 1])
                wide = ends[0, j] + ends[1, j] * np.float32(code)
                within = (inside[0, j] < wide) & (wide < inside[1, j])
                value[j] = value[j] if within else wide
        for j in range(size):
            row[j] = value[j]
    return clipped

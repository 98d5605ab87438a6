"""Step tables of ACAM units: the code anywhere on a data line, edges included.

A line is divided into `CELLS` cells of `INSIDE` positions. A cell is two words of four lanes of 16
bits: the places of up to `EDGES` edges inside it, and the codes before, between and after them.
Where noise and copies crowd more edges into a cell, those go that change least.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

CELLS = 256
EDGES = 3
INSIDE = 1 << 15
POSITIONS = CELLS * INSIDE
LANE = 16  # bits
NEVER = INSIDE - 1  # place of an edge that a cell lacks: the code beyond it is the last one again
_FAR = np.int64(1) << 20  # no code is as far off
_TOGETHER = 16  # columns that share work arrays


@njit(cache=True, nogil=True)
def _beyond(edge):  # type: ignore[no-untyped-def]
    """Return the first position beyond an edge in [0, 1]; beyond 1 is the end of the line."""
    return min(np.int64(math.floor(np.float64(edge) * POSITIONS)) + 1, POSITIONS - 1)


@njit(cache=True, nogil=True)
def _list_edges(bounds, j, bit, held, edges):  # type: ignore[no-untyped-def]
    """List the edges of column ``j``; returns how many.

    An edge is ``(position << 32) + (copy << 5) + (bit << 1) + opens``. Windows that are open at the
    start of the line are counted in ``held``.
    """
    n, zero, one = 0, np.float32(0.0), np.float32(1.0)
    for c in range(bounds.shape[0]):
        for r in range(bit.size):
            low, high = bounds[c, 0, j, r], bounds[c, 1, j, r]
            which = np.int64(c * 16 + bit[r])
            if low >= high or low >= one or high <= zero:
                continue
            if low < zero:
                held[which] += 1
            else:
                edges[n] = (_beyond(low) << 32) + (which << 1) + 1
                n += 1
            if high <= one:
                edges[n] = (_beyond(high) << 32) + (which << 1)
                n += 1
    return n


@njit(cache=True, nogil=True)
def _sort(edges, n, out, place):  # type: ignore[no-untyped-def]
    """Sort edges by where on the line they roughly are, then neighbours."""
    parts, shift = np.int64(CELLS), np.int64(32 + LANE - 1)
    while parts < n:
        parts, shift = 2 * parts, shift - 1
    place[: parts + 1] = 0
    for i in range(n):
        place[(edges[i] >> shift) + 1] += 1
    for k in range(parts):
        place[k + 1] += place[k]
    for i in range(n):
        part = edges[i] >> shift
        out[place[part]] = edges[i]
        place[part] += 1
    for i in range(1, n):
        edge, k = out[i], i
        while k > 0 and out[k - 1] > edge:
            out[k] = out[k - 1]
            k -= 1
        out[k] = edge


@njit(cache=True, nogil=True)
def _drop(place, code):  # type: ignore[no-untyped-def]
    """Let the nearest code take over the stretch, of one more than fit, where that changes least.

    Code i, from 1 on, holds from ``place[i]`` to ``place[i + 1]``; before the first and after the
    last are codes that are far off. What changes is length times squared jump.
    """
    best, chosen, after = _FAR * _FAR, np.int64(1), np.int64(0)
    for i in range(1, EDGES + 3):
        left, right = abs(code[i] - code[i - 1]), abs(code[i] - code[i + 1])
        jump = min(left, right)
        cost = (place[i + 1] - place[i]) * jump * jump
        less = cost < best
        best = cost if less else best
        chosen = np.int64(i) if less else chosen
        after = np.int64(right < left) if less else after
    gone = chosen + after  # the edge
    for i in range(2, EDGES + 2):
        place[i] = place[i + (i >= gone)]
    for i in range(1, EDGES + 2):
        code[i] = code[i + (i >= chosen)]


@njit(cache=True, nogil=True)
def _flip(edge, gray, held, codes):  # type: ignore[no-untyped-def]
    """Let a window open or close; returns by how much the sum of all copies' codes changes."""
    which, change = (edge >> 1) & 0x7FFFFFFF, 2 * (edge & 1) - 1
    held[which] += change
    if held[which] != (change + 1) // 2:
        return np.int64(0)  # another window of the bit is open
    bit, copy = which & 15, which >> 4
    before = codes[copy]
    codes[copy] = before ^ ((np.int64(2) << bit) - 1 if gray else np.int64(1) << bit)
    return codes[copy] - before


@njit(cache=True, nogil=True)
def _walk(edges, n, gray, held, codes, place, total, last):  # type: ignore[no-untyped-def]
    """Find where the sum of codes changes, and to what, from number 1 on; number 0 is the start.

    ``last`` becomes the number of the last change in each cell, 0 where there is none.
    """
    m, now = 0, np.int64(0)
    for c in range(codes.size):
        now += codes[c]
    place[0], total[0], last[:] = 0, now, 0
    for i in range(n):
        now += _flip(edges[i], gray, held, codes)
        at = edges[i] >> 32
        if now != total[m] and (i + 1 == n or edges[i + 1] >> 32 > at):
            m += 1
            place[m], total[m] = at, now
            last[at >> (LANE - 1)] = m


@njit(cache=True, nogil=True)
def _thin(place, total, before, final, at, code):  # type: ignore[no-untyped-def]
    """Keep `EDGES` edges of one cell, whose last is number ``final``; ``before`` is of another."""
    code[1] = total[before]
    for i in range(1, EDGES + 1):
        at[i + 1], code[i + 1] = place[before + i] & NEVER, total[before + i]
    for i in range(before + EDGES + 1, final + 1):
        at[EDGES + 2], code[EDGES + 2] = place[i] & NEVER, total[i]
        _drop(at, code)


@njit(cache=True, nogil=True)
def _fill(place, total, last, table):  # type: ignore[no-untyped-def]
    """Write the cells of a column from where its code changes; see `_walk`."""
    at, code = np.empty((2, EDGES + 4), np.int64)
    at[1], at[EDGES + 3], code[0], code[EDGES + 3] = 0, INSIDE, -_FAR, _FAR
    before = np.int64(0)
    for cell in range(CELLS):
        final = max(last[cell], before)
        edges = final - before
        if edges > EDGES:
            _thin(place, total, before, final, at, code)
            table[cell, 0] = at[2] | at[3] << LANE | at[4] << 2 * LANE
            table[cell, 1] = code[1] | code[2] << LANE | code[3] << 2 * LANE | code[4] << 3 * LANE
        else:
            where, codes = np.int64(0), total[before]
            for i in range(1, EDGES + 1):
                known = place[before + i] & NEVER if i <= edges else np.int64(NEVER)
                where |= known << LANE * (i - 1)
                codes |= total[min(before + i, final)] << LANE * i
            table[cell, 0], table[cell, 1] = where, codes
        before = final


@njit(cache=True, nogil=True, parallel=True)
def compile_steps(bounds, bit, gray, table):  # type: ignore[no-untyped-def]
    """Compile the step table of every column.

    Parameters
    ----------
    bounds : (copies, 2, columns, rows) float32 array
        Lower and upper bounds of the units in parallel on each column's line, whose codes are
        added. A crossed window (lo >= hi) covers nothing.
    bit : (rows,) int64 array
        Output bit of each row, 0 = least significant.
    gray : bool
        The bits are those of the Gray code.
    table : (columns, CELLS, 2) int64 array, overwritten
    """
    copies, _, columns, rows = bounds.shape
    for block in prange((columns + _TOGETHER - 1) // _TOGETHER):
        edges, ordered = np.empty((2, 2 * copies * rows), np.int64)
        place, total = np.zeros((2, 2 * copies * rows + 1 + EDGES), np.int64)
        places = np.empty(max(2 * CELLS, 4 * copies * rows + 1), np.int32)
        held, codes = np.empty(16 * copies, np.int64), np.empty(copies, np.int64)
        last = np.empty(CELLS, np.int64)
        for j in range(block * _TOGETHER, min(columns, (block + 1) * _TOGETHER)):
            held[:], codes[:] = 0, 0
            n = _list_edges(bounds, j, bit, held, edges)
            for which in range(held.size):
                several = held[which]
                if several > 0:
                    held[which] = 0
                    _flip(np.int64(2 * which + 1), gray, held, codes)
                    held[which] = several
            _sort(edges, n, ordered, places)
            _walk(ordered, n, gray, held, codes, place, total, last)
            _fill(place, total, last, table[j])

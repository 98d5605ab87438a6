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
_FAR = np.int64(1) << 20  # a jump that no code makes
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
def _sort(edges, n, out, ends):  # type: ignore[no-untyped-def]
    """Sort edges into equal parts of the line, then neighbours; returns how many parts.

    ``ends`` becomes the end of each.
    """
    parts, shift = np.int64(CELLS), np.int64(32 + LANE - 1)
    while parts < 2 * n:
        parts, shift = 2 * parts, shift - 1
    ends[: parts + 1] = 0
    for i in range(n):
        ends[np.uint64((edges[i] >> shift) + 1)] += np.uint32(1)
    total = np.uint32(0)
    for k in range(parts):
        total += ends[k]
        ends[k] = total
    for i in range(n):
        edge = edges[i]
        part = np.uint64(edge >> shift)
        k = ends[part]
        out[k] = edge
        ends[part] = k + np.uint32(1)
    before = np.int64(0)
    for i in range(n):
        edge = out[i]
        if edge < before:
            k = i
            while k > 0 and out[k - 1] > edge:
                out[k] = out[k - 1]
                k -= 1
            out[k] = edge
        else:
            before = edge
    return parts


@njit(cache=True, nogil=True)
def _flip(edge, gray, held, codes):  # type: ignore[no-untyped-def]
    """Let a window open or close; returns by how much the sum of all copies' codes changes."""
    which, opens = np.uint64(edge >> 1 & 0x7FFFFFFF), edge & 1
    now = held[which] + 2 * opens - 1
    held[which] = now
    if now != opens:
        return np.int64(0)  # another window of the bit is open
    bit, copy = edge >> 1 & 15, np.uint64(edge >> 5 & 0x7FFFFFF)
    before = codes[copy]
    codes[copy] = before ^ ((np.int64(2) << bit) - 1 if gray else np.int64(1) << bit)
    return codes[copy] - before


@njit(cache=True, nogil=True)
def _weigh(length, left, right, code):  # type: ignore[no-untyped-def]
    """Return what changes if a neighbour's code takes over a stretch, and which edge goes then."""
    jump = min(left, right)
    return length * jump * jump << 6 | code << 3 | code + (right < left)


@njit(cache=True, nogil=True)
def _fill(edges, ends, parts, gray, held, codes, table):  # type: ignore[no-untyped-def]
    """Walk the sorted edges, cell by cell; ``ends`` are those of ``parts`` equal parts of the line.

    Whenever a cell has four edges, a neighbour's code takes over the stretch where that changes
    least: by length times squared jump. Edges that it lacks lie at its start, where they are free.
    """
    now, first, each = np.int64(0), np.int64(0), parts // CELLS
    for c in range(codes.size):
        now += codes[c]
    for cell in range(CELLS):
        last = np.int64(ends[np.uint64((cell + 1) * each - 1)])
        p1 = p2 = p3 = np.int64(0)
        c0 = c1 = c2 = c3 = now
        for i in range(first, last):
            now += _flip(edges[i], gray, held, codes)
            if i + 1 < last and edges[i + 1] >> 32 == edges[i] >> 32:
                continue  # others at the same place follow
            p4, c4 = edges[i] >> 32 & (INSIDE - 1), now
            d1, d2, d3, d4 = abs(c1 - c0), abs(c2 - c1), abs(c3 - c2), abs(c4 - c3)
            least = min(_weigh(p1, _FAR, d1, 0), _weigh(p2 - p1, d1, d2, 1))
            least = min(least, min(_weigh(p3 - p2, d2, d3, 2), _weigh(p4 - p3, d3, d4, 3)))
            least = min(least, _weigh(INSIDE - p4, d4, _FAR, 4))
            code, edge = least >> 3 & 7, least & 7
            p1, p2, p3 = p2 if edge < 2 else p1, p3 if edge < 3 else p2, p4 if edge < 4 else p3
            c0, c1 = c1 if code < 1 else c0, c2 if code < 2 else c1
            c2, c3 = c3 if code < 3 else c2, c4 if code < 4 else c3
        table[cell, 0] = p1 | p2 << LANE | p3 << 2 * LANE
        table[cell, 1] = c0 | c1 << LANE | c2 << 2 * LANE | c3 << 3 * LANE
        first = last


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
        ends = np.empty(max(2 * CELLS, 8 * copies * rows + 1), np.uint32)
        held, codes = np.empty(16 * copies, np.int64), np.empty(copies, np.int64)
        for j in range(block * _TOGETHER, min(columns, (block + 1) * _TOGETHER)):
            held[:], codes[:] = 0, 0
            n = _list_edges(bounds, j, bit, held, edges)
            for which in range(held.size):
                several = held[which]
                if several > 0:
                    held[which] = 0
                    _flip(np.int64(2 * which + 1), gray, held, codes)
                    held[which] = several
            parts = _sort(edges, n, ordered, ends)
            _fill(ordered, ends, parts, gray, held, codes, table[j])

"""Analog CAM kernels: program thresholds, tabulate codes at DAC levels, search row by row.

Everything here works on the normalised data line ``u`` in [0, 1]. A row of a column is a window
``lo < u < hi``; rows of one output bit are ORed; ``-inf`` and ``+inf`` mark a disabled branch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

# An octave table samples a function of conductance at 2**7 points per factor of two: the index
# is the top 16 bits of the float32, so a look-up costs no logarithm.
_SHIFT = 16
_FRACTION = np.float32(1.0 / 65536.0)
_TOGETHER = 16  # columns whose tables are compiled with the same work arrays


@njit(cache=True, nogil=True)
def octave_lookup(table, base, g):  # type: ignore[no-untyped-def]
    """Interpolate an octave table linearly at conductance ``g`` > 0 (float32) inside its range."""
    word = np.float32(g).view(np.int32)
    cell = (word >> _SHIFT) - base
    part = np.float32(word & 0xFFFF) * _FRACTION
    return table[cell] + part * (table[cell + 1] - table[cell])


class Cell(NamedTuple):
    """Tables of a characterised cell, in the form that the kernels read.

    Attributes
    ----------
    inverse : (2, m) float32 array [S]
        Conductance at m uniform threshold voltages, for the lower and the upper bound.
    inverse_start, inverse_gain : (2,) float32 arrays [V], [1/V]
        First voltage, and table positions per volt.
    forward : (2, t) float32 array [V]
        Octave tables of the threshold voltage.
    write, read : (t,) float32 arrays [S]
        Octave tables of the standard deviations of programming noise, and of drift and read noise.
    shift : float32
        What a conductance has drifted since it was written, mean [S].
    base : int
        Octave index of the first entry.
    g_range : (2,) float32 array [S]
        Characterised conductances.
    v_range : (2,) float32 array [V]
        Data line at u = 0 and u = 1.
    overlap_axis : (4,) float32 array
        Lower threshold at the start of the axis [V], positions per volt, largest affected width
        [V], and 1 if the overlap of the halves is on.
    least, narrow, widen : float32 arrays [V]
        See `behavioral.overlap.Overlap`.
    """

    inverse: Any
    inverse_start: Any
    inverse_gain: Any
    forward: Any
    write: Any
    read: Any
    shift: Any
    base: Any
    g_range: Any
    v_range: Any
    overlap_axis: Any
    least: Any
    narrow: Any
    widen: Any


@njit(cache=True, nogil=True)
def _line(table, position):  # type: ignore[no-untyped-def]
    """Interpolate linearly at a table position, clipped to the ends."""
    position = min(max(position, np.float32(0.0)), np.float32(table.size - 1))
    cell = min(np.int64(position), table.size - 2)
    return table[cell] + (position - np.float32(cell)) * (table[cell + 1] - table[cell])


@njit(cache=True, nogil=True)
def _plane(table, row, column):  # type: ignore[no-untyped-def]
    """Interpolate bilinearly at a table position, clipped to the ends."""
    row = min(max(row, np.float32(0.0)), np.float32(table.shape[0] - 1))
    cell = min(np.int64(row), table.shape[0] - 2)
    low, high = _line(table[cell], column), _line(table[cell + 1], column)
    return low + (row - np.float32(cell)) * (high - low)


@njit(cache=True, nogil=True)
def _aim(v, wanted, side, cell, scale, aim):  # type: ignore[no-untyped-def]
    """Turn the thresholds [V] of one bound into targets [S], deviations of a write [S], scales.

    Rows whose bound ``wanted`` [u] is outside (0, 1) have no device, and no noise.
    """
    inverse = cell.inverse[side]
    start, gain = cell.inverse_start[side], cell.inverse_gain[side]
    for r in range(v.size):
        inside = np.float32(0.0) < wanted[r] < np.float32(1.0)
        aim[0, r] = _line(inverse, (v[r] - start) * gain) if inside else cell.g_range[0]
        aim[2, r] = scale if inside else np.float32(0.0)
        aim[1, r] = aim[2, r] * octave_lookup(cell.write, cell.base, aim[0, r])


@njit(cache=True, nogil=True)
def _octave_lookups(table, base, g, out):  # type: ignore[no-untyped-def]
    """Look up every conductance; `octave_lookup` without a branch or a call in its loop."""
    words = g.view(np.int32)
    for r in range(g.size):
        word = words[r]
        cell = (word >> _SHIFT) - base
        part = np.float32(word & 0xFFFF) * _FRACTION
        out[r] = table[cell] + part * (table[cell + 1] - table[cell])


@njit(cache=True, nogil=True)
def _program_bound(aim, forward, cell, normals, actual, g):  # type: ignore[no-untyped-def]
    """Send one bound of all rows through the device: actual thresholds [V] out.

    One pass an operation, so that they vectorise. Returns the devices clipped.
    """
    least, most, base = cell.g_range[0], cell.g_range[1], np.int32(cell.base)
    target, deviation, scale, shift = aim[0], aim[1], aim[2], cell.shift
    noisy, written, spread = np.empty_like(g), np.empty_like(g), np.empty_like(g)
    clipped = 0
    for r in range(g.size):
        noisy[r] = target[r] + deviation[r] * normals[r, 0]
        written[r] = min(max(noisy[r], least), most)
    _octave_lookups(cell.read, base, written, spread)
    for r in range(g.size):
        final = written[r] + scale[r] * (shift + spread[r] * normals[r, 1])
        g[r] = min(max(final, least), most)
        clipped += (written[r] != noisy[r]) | (g[r] != final)
    _octave_lookups(forward, base, g, actual)
    return clipped


@njit(cache=True, nogil=True)
def _widen(a, b, lo, hi, axis, widen):  # type: ignore[no-untyped-def]
    """Move thresholds [V] outwards so that the effective edges come out where they were."""
    start, gain, width = axis[0], axis[1], axis[2]
    first, second = widen[0], widen[1]
    per_volt = np.float32(widen.shape[2] - 1) / width
    for r in range(a.size):
        closed = lo[r] > np.float32(0.0) and hi[r] < np.float32(1.0) and lo[r] < hi[r]
        if closed and b[r] - a[r] < width:
            column = (b[r] - a[r]) * per_volt
            edge = a[r] - _plane(first, (a[r] - start) * gain, column)
            edge = a[r] - _plane(first, (edge - start) * gain, column)  # it varies slowly
            b[r] += _plane(second, (edge - start) * gain, column)
            a[r] = edge


@njit(cache=True, nogil=True)
def _narrow(a, b, branch, axis, least, narrow):  # type: ignore[no-untyped-def]
    """Replace thresholds [V] by effective edges; they cross where no voltage matches."""
    start, gain, width = axis[0], axis[1], axis[2]
    first, second = narrow[0], narrow[1]
    top = np.float32(narrow.shape[2] - 1)
    for r in range(a.size):
        if branch[0, r] > 0 and branch[1, r] > 0 and b[r] - a[r] < width:
            row = (a[r] - start) * gain
            below = _line(least, row)
            excess = (b[r] - a[r] - below) / (width - below)
            if excess > np.float32(0.0):
                column = np.float32(math.sqrt(excess)) * top
                low, high = _plane(first, row, column), _plane(second, row, column)
                a[r], b[r] = a[r] + low, b[r] - high
            else:
                a[r], b[r] = max(a[r], b[r]), min(a[r], b[r])


@njit(cache=True, nogil=True)
def _find_branches(lo, hi, branch):  # type: ignore[no-untyped-def]
    """Say which bounds (2, rows) have a device: 1; are open: 0; belong to an unused row: -1."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for r in range(lo.size):
        unused = lo[r] >= hi[r] or lo[r] >= one or hi[r] <= zero
        branch[0, r] = -1 if unused else lo[r] > zero
        branch[1, r] = -1 if unused else hi[r] < one


@njit(cache=True, nogil=True, parallel=True)
def aim(lo, hi, cell, scale, aims, branches):  # type: ignore[no-untyped-def]
    """Find what the devices of wanted rows are programmed to, for any number of units.

    Parameters
    ----------
    lo, hi : (columns, rows) float32 arrays
        Wanted bounds on the data line. ``lo <= 0`` and ``hi >= 1`` are open branches.
    cell : Cell
    scale : float32
        Factor on both standard deviations.
    aims : (columns, 2, 3, rows) float32 array
        Results of each bound: conductances [S], deviations of a write [S], scales of a read.
    branches : (columns, 2, rows) int8 array
        Results: 1 where a bound has a device, 0 where its branch is open, -1 in unused rows.
    """
    for j in prange(lo.shape[0]):
        v_lo, span = cell.v_range[0], cell.v_range[1] - cell.v_range[0]
        a, b = v_lo + lo[j] * span, v_lo + hi[j] * span
        if cell.overlap_axis[3] > np.float32(0.0):
            _widen(a, b, lo[j], hi[j], cell.overlap_axis, cell.widen)
        _aim(a, lo[j], 0, cell, scale, aims[j, 0])
        _aim(b, hi[j], 1, cell, scale, aims[j, 1])
        _find_branches(lo[j], hi[j], branches[j])


@njit(cache=True, nogil=True, error_model="numpy")  # a division that may raise is no vector
def _place(v, branch, opened, unused, v_range, g):  # type: ignore[no-untyped-def]
    """Put thresholds [V] of one bound on the data line; others where they do not matter."""
    zero, start, span = np.float32(0.0), v_range[0], v_range[1] - v_range[0]
    for r in range(v.size):
        u = (v[r] - start) / span
        u = u if branch[r] > 0 else opened
        v[r] = u if branch[r] >= 0 else unused
        g[r] = g[r] if branch[r] > 0 else zero


@njit(cache=True, nogil=True)
def _program_column(aims, branch, cell, normals, stuck, actual, g):  # type: ignore[no-untyped-def]
    """Program the rows of one column; see `program`."""
    a, b, infinite = actual[0], actual[1], np.float32(np.inf)
    clipped = _program_bound(aims[0], cell.forward[0], cell, normals[:, 0], a, g[0])
    clipped += _program_bound(aims[1], cell.forward[1], cell, normals[:, 1], b, g[1])
    if cell.overlap_axis[3] > np.float32(0.0):
        _narrow(a, b, branch, cell.overlap_axis, cell.least, cell.narrow)
    _place(a, branch[0], -infinite, infinite, cell.v_range, g[0])
    _place(b, branch[1], infinite, -infinite, cell.v_range, g[1])
    for r in range(stuck.shape[0]):
        if (stuck[r, 0] and branch[0, r] > 0) or (stuck[r, 1] and branch[1, r] > 0):
            a[r], b[r] = infinite, -infinite
            g[0, r] = g[1, r] = np.float32(0.0)
    return clipped


@njit(cache=True, nogil=True, parallel=True)
def program(aims, branches, cell, normals, stuck, actual, g):  # type: ignore[no-untyped-def]
    """Program all rows of all columns of one unit each; results are written in place.

    Parameters
    ----------
    aims, branches : arrays
        Of `aim`, for every column or one for all.
    cell : Cell
    normals : (columns, rows, 2, 2) float32 array
        Standard normal draws, [..., bound, (write, read)].
    stuck : (columns, rows, 2) bool array
        Devices that are stuck off; without rows where none is.
    actual, g : (2, columns, rows) float32 arrays
        Results: effective bounds in u, and conductances as read [S] (0 where no device is used).

    Returns
    -------
    clipped : int
        Devices whose noisy conductance left the characterised range.
    """
    clipped, last = 0, aims.shape[0] - 1
    for j in prange(actual.shape[1]):
        k = min(np.int64(j), last)  # a parallel index is unsigned
        clipped += _program_column(
            aims[k], branches[k], cell, normals[j], stuck[j], actual[:, j], g[:, j]
        )
    return clipped


@njit(cache=True, nogil=True)
def _find_runs(lo, hi, points, first, end):  # type: ignore[no-untyped-def]
    """Find the run of points of each row; one is empty where its end is not beyond its first."""
    last = float(max(points - 1, 1))
    for r in range(lo.size):
        low = min(max(float(lo[r]) * last, -1.0), float(points))
        high = min(max(float(hi[r]) * last, 0.0), float(points))
        first[r], end[r] = np.int32(math.floor(low)) + np.int32(1), np.int32(math.ceil(high))


@njit(cache=True, nogil=True)
def _set_runs(first, end, bit, wide, words):  # type: ignore[no-untyped-def]
    """Set the bit of every row at the points of its run; 8 points a word, or 4 if they are wide."""
    one, zero = np.uint64(1), np.uint64(0)
    shift, width = (np.int32(2), np.uint64(16)) if wide else (np.int32(3), np.uint64(8))
    every = np.uint64(0x0001000100010001 if wide else 0x0101010101010101)
    inside = (np.int32(1) << shift) - np.int32(1)
    words[:] = zero
    for r in range(first.size):
        if first[r] >= end[r]:
            continue
        mask = every << np.uint64(bit[r])
        head = ~zero << (np.uint64(first[r] & inside) * width)
        tail = (one << (np.uint64(end[r] & inside) * width)) - one
        begin, stop = first[r] >> shift, end[r] >> shift
        if begin == stop:
            words[begin] |= mask & head & tail
            continue
        words[begin] |= mask & head
        words[stop] |= mask & tail
        run = words[begin + 1 : stop]  # a slice lets the loop vectorise
        for i in range(run.size):
            run[i] |= mask


@njit(cache=True, nogil=True)
def _add_codes(line, gray, table):  # type: ignore[no-untyped-def]
    """Add the codes that the points of a line hold, in Gray code or not."""
    if gray:
        for i in range(table.size):
            code = line[i]
            code ^= code >> line.dtype.type(1)
            code ^= code >> line.dtype.type(2)
            code ^= code >> line.dtype.type(4)
            if line.itemsize > 1:
                code ^= code >> line.dtype.type(8)
            line[i] = code
    for i in range(table.size):
        table[i] += line[i]


@njit(cache=True, nogil=True, parallel=True)
def compile_levels(lo, hi, bit, gray, table):  # type: ignore[no-untyped-def]
    """Evaluate every column at uniform DAC levels, ends of the line included; add to `table`.

    OR each window over its run of points, several of which are one word, then decode Gray in
    one sweep. A crossed window (lo >= hi) covers no point.

    Parameters
    ----------
    lo, hi : (columns, rows) float32 arrays
    bit : (rows,) int64 array
        Output bit of each row, 0 = least significant.
    gray : bool
    table : (columns, levels) uint8 or uint16 array, added to.
    """
    columns, points = table.shape
    wide = bit.size > 0 and bit.max() > 7
    for block in prange((columns + _TOGETHER - 1) // _TOGETHER):
        first, end = np.empty((2, bit.size), np.int32)
        words = np.empty((points >> 2) + 1, np.uint64)
        for j in range(block * _TOGETHER, min(columns, (block + 1) * _TOGETHER)):
            _find_runs(lo[j], hi[j], points, first, end)
            _set_runs(first, end, bit, wide, words)
            if wide:
                _add_codes(words.view(np.uint16), gray, table[j])
            else:
                _add_codes(words.view(np.uint8), gray, table[j])


@njit(cache=True, nogil=True)
def search(lo, hi, bit, gray, u, out):  # type: ignore[no-untyped-def]
    """Compare each input with every row of its column: exact, no grid, slow.

    Parameters
    ----------
    lo, hi : (columns or 1, rows) float32 arrays
    bit : (rows,) int64 array
    gray : bool
    u : (batch, columns) float32 array
    out : (batch, columns) uint16 array, overwritten.
    """
    shared = lo.shape[0] == 1
    for b in range(u.shape[0]):
        for j in range(u.shape[1]):
            source = 0 if shared else j
            code = 0
            for r in range(lo.shape[1]):
                if lo[source, r] < u[b, j] < hi[source, r]:
                    code |= 1 << bit[r]
            if gray:
                code ^= code >> 8
                code ^= code >> 4
                code ^= code >> 2
                code ^= code >> 1
            out[b, j] = code

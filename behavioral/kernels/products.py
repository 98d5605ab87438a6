"""Products by log codes: encode, gather-accumulate, element-wise products, softmax.

A packed log code is ``attenuation + section * negative``: the number of log steps below the
operand's maximum, and the sign as a multiple of ``section``. Adding two packed codes adds the
logarithms and the signs; the sum indexes an exp table of three sections (+, -, +). The
attenuation ``section / 2 - 1`` stands for zero: any sum with it falls beyond the last step.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_LANE = np.uint64(0xFFFF)  # four codes lie in one 64-bit word: adding words adds codes
_S16, _S32, _S48 = np.uint64(16), np.uint64(32), np.uint64(48)


@njit(cache=True, nogil=True)
def _encode_rows(x, gain, shares, logs, unit, section, block, code, shift):  # type: ignore[no-untyped-def]
    """Encode rows (rows, k), one pass an operation; returns how many values were clipped.

    ``unit`` is the log unit of the first row, or negative: that of the place in the row.
    """
    size, (units, levels) = x.shape[1], logs.shape
    top, entries = np.float32(levels - 1), logs.reshape(-1)
    limit = top + np.float32(1.0)
    nothing, zero, negative = np.uint16(0), np.uint16(section // 2 - 1), np.uint16(section)
    offset, index = np.empty(size, np.uint32), np.empty(size, np.uint32)
    for k in range(size):
        offset[k] = np.uint32(k % units) * np.uint32(levels)
    inside = 0
    for m in range(x.shape[0]):
        row, line, whole = x[m], code[m], gain[m]
        if unit >= 0:
            offset[:] = np.uint32((unit + m) % units) * np.uint32(levels)
        for k in range(size):
            t = abs(row[k]) * (whole * shares[k]) + np.float32(0.5)
            inside += t < limit  # false for NaN as well
            t = t if t < limit else top
            index[k] = offset[k] + np.uint32(np.int32(t))
        for k in range(size):
            line[k] = entries[index[k]]
        least = zero
        if block:
            for k in range(size):
                least = min(least, line[k])
        down = least if least < zero else nothing
        for k in range(size):
            fallen = line[k] - (down if line[k] != zero else nothing)
            line[k] = fallen + (negative if row[k] < np.float32(0.0) else nothing)
        shift[m] = down
    return x.size - inside


@njit(cache=True, nogil=True, parallel=True)
def encode(x, ceiling, shares, logs, section, block, by_row, code, shift):  # type: ignore[no-untyped-def]
    """Convert values to packed log codes: sign, linear DAC code, log table of the unit.

    Parameters
    ----------
    x : (batch, rows, k) float32 array
    ceiling : (batch, rows) float32 array
        Magnitude of the highest DAC code, > 0; larger values saturate.
    shares : (k,) float32 array
        Factor on each place in a row before it is compared with the ceiling.
    logs : (units, levels) uint16 array
        Attenuation for each DAC code.
    section : int
    block : bool
        Subtract each row's smallest attenuation and return it in ``shift``.
    by_row : bool
        The unit is the row modulo units instead of the place in the row.
    code : (batch, rows, k) uint16 array, overwritten.
    shift : (batch, rows) int64 array, overwritten.

    Returns
    -------
    clipped : int
        Values beyond the ceiling, NaN included.
    """
    rows = x.shape[1]
    gain = np.float32(logs.shape[1] - 1) / ceiling
    chunk = max(16, 16384 // max(x.shape[2], 1))  # rows of one batch entry that a thread takes
    jobs = (rows + chunk - 1) // chunk
    clipped = 0
    for job in prange(x.shape[0] * jobs):
        z, first = np.int64(job) // jobs, np.int64(job) % jobs * chunk
        last = min(first + chunk, rows)
        clipped += _encode_rows(
            x[z, first:last], gain[z, first:last], shares, logs, first if by_row else -1, section,
            block, code[z, first:last], shift[z, first:last],
        )  # fmt: skip
    return clipped


@njit(cache=True, nogil=True)
def _look_up(word, table):  # type: ignore[no-untyped-def]
    """Return what a table holds for the four codes of a word."""
    return (
        np.int32(table[word & _LANE]),
        np.int32(table[(word >> _S16) & _LANE]),
        np.int32(table[(word >> _S32) & _LANE]),
        np.int32(table[word >> _S48]),
    )


@njit(cache=True, nogil=True)
def _last_row(left, right, table, words):  # type: ignore[no-untyped-def]
    """Sum one row on its own: the last of an odd number, or that of a single token."""
    s0, s1 = np.int32(0), np.int32(0)
    for k in range(words):
        p = _look_up(left[k] + right[k], table)
        s0, s1 = s0 + (p[0] + p[2]), s1 + (p[1] + p[3])
    return s0 + s1


@njit(cache=True, nogil=True)
def _columns(left, b, tables, first, last, n_limit, words, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Fill output columns ``first`` to ``last`` of one batch entry, two rows at a time.

    Two rows share what they read of ``b``, and four independent sums keep the loads busy.
    """
    count, none = left.shape[0], np.int32(0)
    for n in range(first, last):
        table, right, scale = tables[n % tables.shape[0]], b[n], b_scale[n]
        for pair in range(count // 2):
            m = 2 * pair
            if n >= max(n_limit[m], n_limit[m + 1]):
                out[m, n], out[m + 1, n] = np.float32(0.0), np.float32(0.0)
                continue
            row, twin = left[m], left[m + 1]
            s0, s1, s2, s3 = none, none, none, none
            for k in range(max(words[m], words[m + 1])):
                word = right[k]
                p, q = _look_up(row[k] + word, table), _look_up(twin[k] + word, table)
                s0, s1 = s0 + (p[0] + p[2]), s1 + (p[1] + p[3])
                s2, s3 = s2 + (q[0] + q[2]), s3 + (q[1] + q[3])
            total = s0 + s1 if n < n_limit[m] else none
            out[m, n] = np.float32(total) * (a_scale[m] * scale)
            total = s2 + s3 if n < n_limit[m + 1] else none
            out[m + 1, n] = np.float32(total) * (a_scale[m + 1] * scale)
        if count % 2:
            m = count - 1
            total = _last_row(left[m], right, table, words[m] if n < n_limit[m] else 0)
            out[m, n] = np.float32(total) * (a_scale[m] * scale)


@njit(cache=True, nogil=True)
def matmul(a, b, tables, n_limit, words, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Sum over k of ``table_n[a_mk + b_nk]``, scaled, on one thread.

    Parameters
    ----------
    a : (batch, m, k / 4) uint64 array
        Four packed codes a word.
    b : (batch, n or more, k / 4 or more) uint64 array
    tables : (units, 3 * section) int16 array
        Signed linear exp codes; output column n uses unit n modulo units.
    n_limit, words : (m,) int64 arrays
        Row m computes columns below ``n_limit`` (others are 0), and has codes other than that of
        zero in its first ``words`` words only.
    a_scale : (batch, m) float32 array
    b_scale : (batch, n or more) float32 array
    out : (batch, m, n) float32 array, overwritten.
    """
    for z in range(a.shape[0]):
        _columns(
            a[z], b[z], tables, 0, out.shape[2], n_limit, words, a_scale[z], b_scale[z], out[z]
        )


@njit(cache=True, nogil=True, parallel=True)
def matmul_parallel(a, b, tables, n_limit, words, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Multi-threaded twin of `matmul`; integer sums make the bits the same."""
    width = 16
    blocks = (out.shape[2] + width - 1) // width
    for job in prange(a.shape[0] * blocks):
        z, first = np.int64(job) // blocks, np.int64(job) % blocks * width
        last = min(first + width, out.shape[2])
        _columns(a[z], b[z], tables, first, last, n_limit, words, a_scale[z], b_scale[z], out[z])


@njit(cache=True, nogil=True)
def multiply(a, b, tables, a_scale, b_scale, scales, out):  # type: ignore[no-untyped-def]
    """Element-wise ``table_k[a_mk + b_mk]``, scaled; entry k of a row uses unit k modulo units.

    Parameters
    ----------
    a, b : (rows, k) uint16 arrays
    tables : (units, 3 * section) int16 array
    a_scale, b_scale : (rows,) float32 arrays
    scales : (k,) float32 array
        Factor on each place in a row.
    out : (rows, k) float32 array, overwritten.
    """
    size, (units, length) = a.shape[1], tables.shape
    entries, index = tables.reshape(-1), np.empty(a.shape[1], np.uint32)
    offset, found = np.empty(size, np.uint32), np.empty(size, np.int16)
    for k in range(size):
        offset[k] = np.uint32(k % units) * np.uint32(length)
    for m in range(a.shape[0]):
        left, right, line, scale = a[m], b[m], out[m], a_scale[m] * b_scale[m]
        for k in range(size):  # one pass an operation: all but the look-up vectorise
            index[k] = offset[k] + np.uint32(left[k]) + np.uint32(right[k])
        for k in range(size):
            found[k] = entries[index[k]]
        for k in range(size):
            line[k] = np.float32(found[k]) * (scale * scales[k])


@njit(cache=True, nogil=True)
def _falls(scores, limit, delta, steps, zero, code):  # type: ignore[no-untyped-def]
    """Code a row by how many steps its entries fall below the largest; returns if it is valid."""
    peak, invalid = np.float32(-np.inf), np.int32(0)
    for n in range(limit):
        invalid += np.int32(not scores[n] < np.float32(np.inf))  # true for NaN as well
        peak = max(peak, scores[n])
    used = limit if peak > np.float32(-np.inf) and invalid == 0 else 0
    for n in range(used):
        fall = (peak - scores[n]) / delta + np.float32(0.5)
        code[n] = np.uint16(np.int32(fall if fall < steps else steps))
    for n in range(used, code.size):
        code[n] = zero
    return invalid == 0


@njit(cache=True, nogil=True)
def _softmax_row(scores, limit, delta, steps, logs, exps, zero, code):  # type: ignore[no-untyped-def]
    """Shift, exp and sum one row; take the log of the sum's mantissa.

    Returns the attenuation of the mantissa, its power of two, and whether the row is invalid.
    """
    valid = _falls(scores, limit, delta, steps, zero, code)
    total, units = np.int64(0), exps.shape[0]
    entries, length = exps.reshape(-1), np.uint32(exps.shape[1])
    for first in range(0, limit, units):
        for n in range(first, min(first + units, limit)):
            total += np.int64(entries[np.uint32(n - first) * length + np.uint32(code[n])])
    power, mantissa = 0, total
    while mantissa >= logs.size:  # keep the leading bits, rounded
        power += 1
        mantissa = (total + (1 << (power - 1))) >> power
    while 0 < mantissa <= (logs.size - 1) // 2:  # fill the DAC from the top
        power -= 1
        mantissa <<= 1
    return np.int64(logs[mantissa]), power, not valid


@njit(cache=True, nogil=True, parallel=True)
def softmax(scores, limit, place, delta, steps, logs, exps, zero, code, attenuation, power):  # type: ignore[no-untyped-def]
    """Softmax of every row in the log domain.

    Parameters
    ----------
    scores : (batch, m, n) float32 array
        -inf marks masked entries.
    limit : (m,) int64 array
        Row m keeps the entries below ``limit``.
    place : (m,) int64 array
        Row m takes the logarithm of its sum in unit ``place[m]`` modulo units.
    delta : float32
        Log step.
    steps : float32
        Number of attenuations in use; entries that fall further are zero.
    logs : (units, levels) uint16 array
    exps : (units, 3 * section) int16 array
        Entry n uses unit n modulo units.
    zero : int
        The attenuation that stands for zero.
    code : (batch, m, n) uint16 array, overwritten
        Attenuation of each entry against the row's maximum.
    attenuation, power : (batch, m) int64 arrays, overwritten
        The row's sum is ``exp(-attenuation * delta) * 2**power`` DAC ranges.

    Returns
    -------
    invalid : int
        Rows with NaN or +inf.
    """
    invalid = 0
    for r in prange(scores.shape[0] * scores.shape[1]):
        z, m = np.int64(r) // scores.shape[1], np.int64(r) % scores.shape[1]
        fall, exponent, bad = _softmax_row(
            scores[z, m], min(limit[m], scores.shape[2]), delta, steps,
            logs[place[m] % logs.shape[0]], exps, zero, code[z, m],
        )  # fmt: skip
        attenuation[z, m], power[z, m] = fall, exponent
        invalid += bad
    return invalid

"""Products by log codes: encode, gather-accumulate, element-wise products, softmax.

A packed log code is ``attenuation + section * negative``: the number of log steps below the
operand's maximum, and the sign as a multiple of ``section``. Adding two packed codes adds the
logarithms and the signs; the sum indexes an exp table of three sections (+, -, +). The
attenuation ``section / 2 - 1`` stands for zero: any sum with it falls beyond the last step.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True)
def _encode_row(x, gain, logs, first, step, section, block, level, code):  # type: ignore[no-untyped-def]
    """One row of `encode`, one pass an operation; returns (shift, clipped)."""
    top, size = np.float32(logs.shape[1] - 1), x.size
    last, zero = np.uint16(logs.shape[1] - 1), np.uint16(section // 2 - 1)
    inside = 0
    for k in range(size):
        t = abs(x[k]) * gain + np.float32(0.5)
        below = t < top + np.float32(1.0)  # false for NaN as well
        inside += below
        level[k] = np.uint16(np.int32(t if below else top))
    units = logs.shape[0]
    for start in range(0, size, units):  # runs over the units without a division
        for k in range(start, min(start + units, size)):
            code[k] = logs[first + (k - start) * step, min(level[k], last)]
    least = zero
    for k in range(size):
        least = min(least, code[k])
    shift = least if block and least < zero else np.uint16(0)
    for k in range(size):
        fallen = code[k] - shift if code[k] != zero else zero
        code[k] = fallen + np.uint16(section) * np.uint16(x[k] < np.float32(0.0))
    return np.int64(shift), size - inside


@njit(cache=True, nogil=True, parallel=True)
def encode(x, ceiling, logs, section, block, by_row, code, shift):  # type: ignore[no-untyped-def]
    """Convert values to packed log codes: sign, linear DAC code, log table of the unit.

    Parameters
    ----------
    x : (batch, rows, k) float32 array
    ceiling : (batch, rows) float32 array
        Magnitude of the highest DAC code, > 0; larger values saturate.
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
    rows, units = x.shape[1], logs.shape[0]
    top = np.float32(logs.shape[1] - 1)
    chunk = 16
    clipped = 0
    for job in prange((x.shape[0] * rows + chunk - 1) // chunk):
        level = np.empty(x.shape[2], np.uint16)
        for r in range(np.int64(job) * chunk, min((np.int64(job) + 1) * chunk, x.shape[0] * rows)):
            z, m = r // rows, r % rows
            shift[z, m], outside = _encode_row(
                x[z, m], top / ceiling[z, m], logs, m % units if by_row else 0, int(not by_row),
                section, block, level, code[z, m],
            )  # fmt: skip
            clipped += outside
    return clipped


@njit(cache=True, nogil=True)
def _dot(left, right, table, index, start, stop):  # type: ignore[no-untyped-def]
    """Sum ``table[left + right]`` over entries ``start`` to ``stop``."""
    for k in range(start, stop):  # vectorises
        index[k] = left[k] + right[k]
    a, b, c, d = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    whole = start + (stop - start) // 4 * 4
    for k in range(start, whole, 4):
        a += table[index[k]]
        b += table[index[k + 1]]
        c += table[index[k + 2]]
        d += table[index[k + 3]]
    for k in range(whole, stop):
        a += table[index[k]]
    return a + b + c + d


@njit(cache=True, nogil=True)
def _dot4(left, start, right, table, index, length, totals):  # type: ignore[no-untyped-def]
    """Four such sums at once, of rows ``start`` and following, over the first ``length`` entries.

    The additions vectorise into ``index``; four independent sums keep the loads busy.
    """
    for r in range(4):
        for k in range(length):
            index[r, k] = left[start + r, k] + right[k]
    a, b, c, d = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for k in range(length):
        a += table[index[0, k]]
        b += table[index[1, k]]
        c += table[index[2, k]]
        d += table[index[3, k]]
    totals[0], totals[1], totals[2], totals[3] = a, b, c, d


@njit(cache=True, nogil=True)
def _few_rows(a, b, tables, z, first, last, n_limit, k_limit, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """`_columns` for fewer than four rows, as in token-by-token decoding."""
    index = np.empty(a.shape[2], np.uint16)
    for n in range(first, last):
        table, right = tables[n % tables.shape[0]], b[z, n]
        for m in range(a.shape[1]):
            total = np.int32(0)
            if n < n_limit[m]:
                total = _dot(a[z, m], right, table, index, 0, k_limit[m])
            out[z, m, n] = np.float32(total) * (a_scale[z, m] * b_scale[z, n])


@njit(cache=True, nogil=True)
def _columns(a, b, tables, z, first, last, n_limit, k_limit, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Fill output columns ``first`` to ``last`` of batch entry ``z``, four rows at a time."""
    left, count = a[z], a.shape[1]
    if count < 4:
        _few_rows(a, b, tables, z, first, last, n_limit, k_limit, a_scale, b_scale, out)
        return
    index = np.empty((4, a.shape[2]), np.uint16)
    line = np.empty(a.shape[2], np.uint16)
    totals = np.empty(4, np.int32)
    blocks = (count + 3) // 4
    n_shared, k_shared = np.zeros(blocks, np.int64), np.zeros(blocks, np.int64)
    for block in range(count // 4):  # what four whole rows have in common
        n_shared[block] = n_limit[4 * block : 4 * block + 4].min()
        k_shared[block] = k_limit[4 * block : 4 * block + 4].min()
    for n in range(first, last):
        table, right = tables[n % tables.shape[0]], b[z, n]
        for block in range(blocks):
            start = 4 * block
            shared = k_shared[block] if n < n_shared[block] else 0
            totals[:] = 0
            if shared > 0:
                _dot4(left, start, right, table, index, shared, totals)
            for m in range(start, min(start + 4, count)):
                total = totals[m - start]
                if n >= n_limit[m]:
                    total = np.int32(0)
                elif k_limit[m] > shared:
                    total += _dot(left[m], right, table, line, shared, k_limit[m])
                out[z, m, n] = np.float32(total) * (a_scale[z, m] * b_scale[z, n])


@njit(cache=True, nogil=True)
def matmul(a, b, tables, n_limit, k_limit, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Sum over k of ``table_n[a_mk + b_nk]``, scaled, on one thread.

    Parameters
    ----------
    a : (batch, m, k) uint16 array
    b : (batch, n or more, k or more) uint16 array
    tables : (units, 3 * section) int16 array
        Signed linear exp codes; output column n uses unit n modulo units.
    n_limit, k_limit : (m,) int64 arrays
        Row m computes columns below ``n_limit`` (others are 0) and sums the entries below
        ``k_limit``, which is at most k.
    a_scale : (batch, m) float32 array
    b_scale : (batch, n or more) float32 array
    out : (batch, m, n) float32 array, overwritten.
    """
    for z in range(a.shape[0]):
        _columns(a, b, tables, z, 0, out.shape[2], n_limit, k_limit, a_scale, b_scale, out)


@njit(cache=True, nogil=True, parallel=True)
def matmul_parallel(a, b, tables, n_limit, k_limit, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Multi-threaded twin of `matmul`; integer sums make the bits the same."""
    width = 16
    blocks = (out.shape[2] + width - 1) // width
    for job in prange(a.shape[0] * blocks):
        z, first = np.int64(job) // blocks, np.int64(job) % blocks * width
        last = min(first + width, out.shape[2])
        _columns(a, b, tables, z, first, last, n_limit, k_limit, a_scale, b_scale, out)


@njit(cache=True, nogil=True)
def multiply(a, b, tables, a_scale, b_scale, out):  # type: ignore[no-untyped-def]
    """Element-wise ``table_k[a_mk + b_mk]``, scaled; entry k of a row uses unit k modulo units.

    Parameters
    ----------
    a, b : (rows, k) uint16 arrays
    tables : (units, 3 * section) int16 array
    a_scale, b_scale : (rows,) float32 arrays
    out : (rows, k) float32 array, overwritten.
    """
    units = tables.shape[0]
    for m in range(a.shape[0]):
        scale = a_scale[m] * b_scale[m]
        for first in range(0, a.shape[1], units):
            for k in range(first, min(first + units, a.shape[1])):
                word = np.int64(a[m, k]) + np.int64(b[m, k])
                out[m, k] = np.float32(tables[k - first, word]) * scale


@njit(cache=True, nogil=True)
def _softmax_row(scores, limit, delta, steps, logs, exps, zero, code):  # type: ignore[no-untyped-def]
    """Shift, exp and sum one row; take the log of the sum's mantissa.

    Returns the attenuation of the mantissa, its power of two, and whether the row is invalid.
    """
    peak = np.float32(-np.inf)
    invalid = False
    for n in range(limit):
        invalid |= not scores[n] < np.float32(np.inf)  # true for NaN as well
        peak = max(peak, scores[n])
    total, unit = np.int64(0), 0
    for n in range(code.size):
        fall = steps
        if n < limit and scores[n] > np.float32(-np.inf) and not invalid:
            fall = (peak - scores[n]) / delta + np.float32(0.5)
        step = np.int64(fall) if fall < steps else zero
        code[n] = step
        total += np.int64(exps[unit, step])
        unit = unit + 1 if unit + 1 < exps.shape[0] else 0
    power, mantissa = 0, total
    while mantissa >= logs.size:  # keep the leading bits, rounded
        power += 1
        mantissa = (total + (1 << (power - 1))) >> power
    while 0 < mantissa <= (logs.size - 1) // 2:  # fill the DAC from the top
        power -= 1
        mantissa <<= 1
    return np.int64(logs[mantissa]), power, invalid


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

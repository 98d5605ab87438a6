"""Kernels of the product: the law of the cells before it, the correction after it.

Normalised as in :mod:`behavioral.kernels.ladder`.
"""

# mypy: allow-untyped-defs
import numpy as np
from numba import njit, prange

BLOCK = 8192  # inputs that one pass bends while they lie in the first-level cache
SOME = 8  # samples whose cells are bent in one go
DEPTH = 256  # rows that are added up in one go


@njit(cache=True)
def _bend_block(x, rest, law, out):
    """Clipped inputs of one block through the law; returns how many were not in [-1, 1]."""
    one = np.float32(1.0)
    outside = np.int32(0)
    for i in range(x.size):
        outside += np.int32(not abs(x[i]) <= one)
    c0, c1, c2, c3, c4, c5 = law[0], law[1], law[2], law[3], law[4], law[5]
    for i in range(x.size):
        v = min(max(x[i], -one), one) - rest
        out[i] = v * (c0 + v * (c1 + v * (c2 + v * (c3 + v * (c4 + v * c5)))))
    return outside


@njit(cache=True, nogil=True)
def bend(x, first, size, rest, law, out, place):
    """Row voltages through the law of the mean cell.

    Parameters
    ----------
    x : (samples, inputs) float32 array
        Normalised row voltages; clipped to [-1, 1].
    first, size : int
        Inputs that are bent: ``size`` of them from number ``first`` on.
    rest : float32
        Virtual ground of the read-out: row voltages count from it.
    law : (6,) float32 array
        Polynomial in v, by rising power.
    out : (samples, outputs) float32 array
        Receives ``v law(v)``, from number ``place`` on.
    place : int

    Returns
    -------
    int
        Inputs outside [-1, 1], NaN among them.
    """
    count = 0
    for m in range(x.shape[0]):
        for lo in range(0, size, BLOCK):
            n = min(size - lo, BLOCK)
            a, b = first + lo, place + lo
            count += _bend_block(x[m, a : a + n], rest, law, out[m, b : b + n])
    return count


@njit(cache=True, parallel=True)
def bend_parallel(x, first, size, rest, law, out, place):
    """Do :func:`bend` on all threads."""
    count = 0
    parts = max((size + BLOCK - 1) // BLOCK, 1)
    for job in prange(x.shape[0] * parts):
        m, lo = np.int64(job) // parts, np.int64(job) % parts * BLOCK
        n = min(size - lo, BLOCK)
        a, b = first + lo, place + lo
        count += _bend_block(x[m, a : a + n], rest, law, out[m, b : b + n])
    return count


@njit(cache=True, fastmath={"contract"})
def _add_rows(x, b, first, out):
    """``out = x @ b``, adding row by row as BLAS does, with one rounding each; four in one pass."""
    out[:] = np.float32(0.0)
    cols, even = out.size, x.size // 4 * 4
    for k in range(0, even, 4):
        x0, x1, x2, x3 = x[k], x[k + 1], x[k + 2], x[k + 3]
        b0, b1 = b[k, first : first + cols], b[k + 1, first : first + cols]
        b2, b3 = b[k + 2, first : first + cols], b[k + 3, first : first + cols]
        for c in range(cols):
            out[c] = out[c] + x0 * b0[c] + x1 * b1[c] + x2 * b2[c] + x3 * b3[c]
    for k in range(even, x.size):
        last = b[k, first : first + cols]
        for c in range(cols):
            out[c] += x[k] * last[c]


@njit(cache=True, nogil=True)
def multiply_one(x, b, first, out):
    """Product of one sample with a matrix, ``out = x @ b[:, first : first + cols]``.

    Parameters
    ----------
    x : (n,) float32 array
    b : (n, at least first + cols) float32 array
    first : int
    out : (cols,) float32 array
        Sums over ``DEPTH`` rows each are formed and then added up.
    """
    _add_rows(x[:DEPTH], b, first, out)
    room = np.empty(out.size if x.size > DEPTH else 0, np.float32)
    for low in range(DEPTH, x.size, DEPTH):
        _add_rows(x[low : low + DEPTH], b[low : low + DEPTH], first, room)
        for c in range(out.size):
            out[c] += room[c]


@njit(cache=True, fastmath={"contract"})
def _deviate(v, u, law, out):
    """Write ``(v - u) law(v, u)`` for one sample; Horner's scheme in u, and in v for each power.

    Each product is added without being rounded before.
    """
    a0, a1, a2, a3, a4, a5 = law[0, 0], law[0, 1], law[0, 2], law[0, 3], law[0, 4], law[0, 5]
    b0, b1, b2, b3, b4 = law[1, 0], law[1, 1], law[1, 2], law[1, 3], law[1, 4]
    c0, c1, c2, c3 = law[2, 0], law[2, 1], law[2, 2], law[2, 3]
    d0, d1, d2 = law[3, 0], law[3, 1], law[3, 2]
    e0, e1, f0 = law[4, 0], law[4, 1], law[5, 0]
    for i in range(v.size):
        x, y = v[i], u[i]
        p = (f0 * y + (e1 * x + e0)) * y + ((d2 * x + d1) * x + d0)
        p = p * y + (((c3 * x + c2) * x + c1) * x + c0)
        p = p * y + ((((b4 * x + b3) * x + b2) * x + b1) * x + b0)
        p = p * y + (((((a5 * x + a4) * x + a3) * x + a2) * x + a1) * x + a0)
        out[i] = p * (x - y)


@njit(cache=True, fastmath={"reassoc", "contract"})
def _profile(x, probe, basis, u):
    """Mean bit-line voltage of one sample: its amplitudes, in one order, times their shapes."""
    a0 = a1 = a2 = a3 = a4 = np.float32(0.0)
    for i in range(x.size):
        a0 += x[i] * probe[0, i]
        a1 += x[i] * probe[1, i]
        a2 += x[i] * probe[2, i]
        a3 += x[i] * probe[3, i]
        a4 += x[i] * probe[4, i]
    for i in range(x.size):
        u[i] = (
            a0 * basis[0, i] + a1 * basis[1, i] + a2 * basis[2, i]
            + a3 * basis[3, i] + a4 * basis[4, i]
        )  # fmt: skip


@njit(cache=True)
def _clip(x, rest, v):
    """Write clipped inputs, counted from `rest`; returns how many were not in [-1, 1]."""
    one = np.float32(1.0)
    outside = np.int32(0)
    for i in range(x.size):
        outside += np.int32(not abs(x[i]) <= one)
    for i in range(x.size):
        v[i] = min(max(x[i], -one), one) - rest
    return outside


@njit(cache=True)
def _linearize_row(x, rest, probe, basis, laws, work, out):
    """One sample of :func:`linearize`; returns how many inputs were not in [-1, 1]."""
    rows = x.size
    v, u = work[0], work[1]
    outside = _clip(x, rest, v)
    _profile(x, probe, basis, u)
    for m in range(laws.shape[0]):
        _deviate(v, u, laws[m], out[m * rows : (m + 1) * rows])
    for i in range(rows):
        out[i] += v[i]
    return outside


@njit(cache=True, nogil=True)
def linearize(x, first, rest, probe, basis, laws, out, place):
    """Inputs whose ohmic product is the non-linear one to first order in the cell law.

    Parameters
    ----------
    x : (samples, inputs) float32 array
        Normalised row voltages; clipped to [-1, 1].
    first : int
        Number of the first input of the array.
    rest : float32
        Virtual ground of the read-out: row voltages count from it.
    probe, basis : (5, rows) float32 arrays
        Mean bit-line voltage: ``(x @ probe.T) @ basis``.
    laws : (parts, 6, 6) float32 array
        Polynomials of degree 5 in powers of u (down) and of v (across).
    out : (samples, outputs) float32 array
        Receives ``v + (v - u) laws[0]``, then ``(v - u) laws[1]`` ..., from number ``place`` on.
    place : int

    Returns
    -------
    int
        Inputs outside [-1, 1], NaN among them.
    """
    count = 0
    rows, wide = basis.shape[1], laws.shape[0] * basis.shape[1]
    work = np.empty((2, rows), np.float32)
    for m in range(x.shape[0]):
        mine, own = x[m, first : first + rows], out[m, place : place + wide]
        count += _linearize_row(mine, rest, probe, basis, laws, work, own)
    return count


@njit(cache=True, parallel=True)
def linearize_parallel(x, first, rest, probe, basis, laws, out, place):
    """Do :func:`linearize` on all threads."""
    samples, chunk = x.shape[0], 16
    rows, wide = basis.shape[1], laws.shape[0] * basis.shape[1]
    count = 0
    for block in prange((samples + chunk - 1) // chunk):
        work = np.empty((2, rows), np.float32)
        for m in range(block * chunk, min(samples, (block + 1) * chunk)):
            mine, own = x[m, first : first + rows], out[m, place : place + wide]
            count += _linearize_row(mine, rest, probe, basis, laws, work, own)
    return count


@njit(cache=True, fastmath={"reassoc"})
def _moments(driven, common):
    """Mean square of the driven rows of one sample, and the mean current of all columns.

    Sums in whatever order is fast, but the same one on any number of threads.
    """
    power, current = np.float32(0.0), np.float32(0.0)
    for i in range(common.size):
        power += driven[i] * driven[i]
        current += driven[i] * common[i]
    return power / np.float32(max(common.size, 1)), current


@njit(cache=True)
def _correct_row(y, power, common, terms):
    for c in range(y.size):
        y[c] += power * (terms[0, c] * y[c] + terms[1, c] * common)


@njit(cache=True, nogil=True)
def correct(y, driven, common, terms):
    """Per-column correction of the product, in place: ``y += q (c0 y + c1 s)``.

    Parameters
    ----------
    y : (samples, cols) float32 array
    driven : (samples, at least rows) float32 array
        What was multiplied: q is the mean of its squares over the rows.
    common : (rows,) float32 array
        Mean effective column: s is its product with the driven rows.
    terms : (2, cols) float32 array
        Fitted coefficients.
    """
    for m in range(y.shape[0]):
        power, current = _moments(driven[m], common)
        _correct_row(y[m], power, current, terms)


@njit(cache=True, fastmath={"reassoc"})
def _shared_square(driven, weights):
    """Weighted sum of the squares of one sample, in whatever order is fast, but one order."""
    total = np.float32(0.0)
    for i in range(weights.size):
        total += weights[i] * (driven[i] * driven[i])
    return total


@njit(cache=True, nogil=True)
def square(driven, first, own, weights, out, place):
    """Squares that variances are computed from.

    Parameters
    ----------
    driven : (samples, inputs) float32 array
    first : int
        Number of the first input of the array in ``driven``.
    own : (own,) uint32 array
        Rows whose squares are wanted one by one.
    weights : (rows,) float32 array
        Weights of the sum over all other rows, 0 at own ones.
    out : (samples, outputs) float32 array
        Receives the squares from number ``place`` on, and behind them the sum, if any row is
        not an own one.
    place : int
    """
    rows = weights.size
    for m in range(driven.shape[0]):
        sample, squares = driven[m, first : first + rows], out[m, place : place + own.size + 1]
        if own.size == rows:
            for i in range(rows):
                squares[i] = sample[i] * sample[i]
            continue
        for k in range(own.size):
            v = sample[own[k]]
            squares[k] = v * v
        squares[own.size] = _shared_square(sample, weights)


@njit(cache=True, nogil=True)
def _sum_up(a, b, out):
    if a.shape[0] == 1:
        multiply_one(a[0], b, 0, out[0])
    else:
        np.dot(a, b, out)


@njit(cache=True)
def _linearize_some(x, rest, probe, basis, law, work, out):
    """Do :func:`linearize` for a few whole samples laid end to end: of long loops, less is ends."""
    rows = x.shape[1]
    v, u, flat = work[0, : x.size], work[1, : x.size], out.reshape(-1)
    outside = _clip(x.reshape(-1), rest, v)
    for m in range(x.shape[0]):
        _profile(x[m], probe, basis, u[m * rows : (m + 1) * rows])
    _deviate(v, u, law, flat)
    for i in range(v.size):
        flat[i] += v[i]
    return outside


@njit(cache=True)
def _drive(x, rest, laws, probe, basis, own, weights, driven, squares):
    """Do what comes before the sums of :func:`multiply`: write driven rows and their squares."""
    outside = 0
    if laws.shape[1] == 1:
        outside += bend(x, 0, x.shape[1], rest, laws[0, 0], driven, 0)
    else:
        work = np.empty((2, SOME * x.shape[1]), np.float32)
        for m in range(0, x.shape[0], SOME):
            some = slice(m, m + SOME)
            outside += _linearize_some(x[some], rest, probe, basis, laws[0], work, driven[some])
    if squares.size:
        square(driven, 0, own, weights, squares, 0)
    return outside


@njit(cache=True, nogil=True)
def _multiply_part(
    x, rest, laws, probe, basis, matrix, common, terms, own, weights, spread, work, out, variance
):  # fmt: skip
    """One part of the samples of :func:`multiply`; returns how many inputs were not in [-1, 1]."""
    samples, (rows, parts) = x.shape[0], (x.shape[1], spread.shape[0])
    driven = work[0, : samples * rows].reshape((samples, rows))
    squares = work[1, : samples * parts].reshape((samples, parts))
    outside = _drive(x, rest, laws, probe, basis, own, weights, driven, squares)
    _sum_up(driven, matrix, out)
    if terms.size:
        correct(out, driven, common, terms)
    if parts:
        _sum_up(squares, spread, variance)
    return outside


@njit(cache=True, nogil=True)
def multiply(
    x, rest, laws, probe, basis, matrix, common, terms, own, weights, spread, step, work, out,
    variance,
):  # fmt: skip
    """Product of one array with row voltages, and its variance under read noise.

    Parameters
    ----------
    x : (samples, rows) float32 array
    rest, laws, probe, basis
        As in :func:`linearize`, or the law of :func:`bend` as (1, 1, 6).
    matrix : (rows, cols) float32 array
        At most ``DEPTH`` rows.
    common, terms
        As in :func:`correct`; terms may be empty.
    own, weights : arrays
        As in :func:`square`.
    spread : (parts, cols) float32 array
        Their matrix; empty: no read noise.
    step : int
        Samples of one pass.
    work : (threads, 2, at least step * rows) float32 array
        Room: what the system gives and takes back costs as much as a kernel.
    out, variance : (samples, cols) float32 arrays
        Receive product and variance; `variance` is empty where there is no read noise.

    Returns
    -------
    int
        Inputs outside [-1, 1], NaN among them.
    """
    count = 0
    for low in range(0, x.shape[0], step):
        high = low + step
        count += _multiply_part(
            x[low:high], rest, laws, probe, basis, matrix, common, terms, own, weights, spread,
            work[0], out[low:high], variance[low:high],
        )  # fmt: skip
    return count


@njit(cache=True, parallel=True)
def multiply_parallel(
    x, rest, laws, probe, basis, matrix, common, terms, own, weights, spread, step, work, out,
    variance,
):  # fmt: skip
    """Do :func:`multiply` on all threads, of which each takes a part in turn."""
    count, threads = 0, work.shape[0]
    for thread in prange(threads):
        for low in range(thread * step, x.shape[0], threads * step):
            high = low + step
            count += _multiply_part(
                x[low:high], rest, laws, probe, basis, matrix, common, terms, own, weights, spread,
                work[thread], out[low:high], variance[low:high],
            )  # fmt: skip
    return count

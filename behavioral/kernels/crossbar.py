"""Kernels of the product: the law of the cells before it, the correction after it.

Normalised as in :mod:`behavioral.kernels.ladder`.
"""

# mypy: allow-untyped-defs
import numpy as np
from numba import njit, prange

BLOCK = 8192  # inputs that one pass bends while they lie in the first-level cache


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


@njit(cache=True)
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


@njit(cache=True)
def _linearize_row(x, rest, amplitude, basis, laws, work, out):
    """One sample of :func:`linearize`; returns how many inputs were not in [-1, 1]."""
    rows = x.size
    one = np.float32(1.0)
    v, u = work[0], work[1]
    outside = np.int32(0)
    for i in range(rows):
        outside += np.int32(not abs(x[i]) <= one)
    for i in range(rows):
        v[i] = min(max(x[i], -one), one) - rest
        u[i] = np.float32(0.0)
    for k in range(basis.shape[0]):
        a = amplitude[k]
        for i in range(rows):
            u[i] += a * basis[k, i]
    for m in range(laws.shape[0]):
        _deviate(v, u, laws[m], out[m * rows : (m + 1) * rows])
    for i in range(rows):
        out[i] += v[i]
    return outside


@njit(cache=True)
def linearize(x, first, rest, amplitude, basis, laws, out, place):
    """Inputs whose ohmic product is the non-linear one to first order in the cell law.

    Parameters
    ----------
    x : (samples, inputs) float32 array
        Normalised row voltages; clipped to [-1, 1].
    first : int
        Number of the first input of the array.
    rest : float32
        Virtual ground of the read-out: row voltages count from it.
    amplitude : (samples, k) float32 array
        Mean bit-line voltage in the ``basis`` (k, rows).
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
        count += _linearize_row(mine, rest, amplitude[m], basis, laws, work, own)
    return count


@njit(cache=True, parallel=True)
def linearize_parallel(x, first, rest, amplitude, basis, laws, out, place):
    """Do :func:`linearize` on all threads."""
    samples, chunk = x.shape[0], 16
    rows, wide = basis.shape[1], laws.shape[0] * basis.shape[1]
    count = 0
    for block in prange((samples + chunk - 1) // chunk):
        work = np.empty((2, rows), np.float32)
        for m in range(block * chunk, min(samples, (block + 1) * chunk)):
            mine, own = x[m, first : first + rows], out[m, place : place + wide]
            count += _linearize_row(mine, rest, amplitude[m], basis, laws, work, own)
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

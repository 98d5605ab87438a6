r"""Kernels of the crossbar column: bit-line recursions, programming noise, Newton solve, read-out.

All quantities are normalised: voltages over ``v_read``, conductances over the cell range
``span = g_max - g_min``, currents over ``v_read * span``, resistances times ``span``.

The bit line of one column is a ladder: cell ``i`` injects ``I_i`` at node ``i``, neighbouring nodes
are ``r`` apart, and the last node sees ``r_end`` to the virtual ground. With ohmic cells
``I_i = g_i (v_i - u_i)`` the network is reciprocal, so the current that reaches the read-out per
volt on row ``i`` is ``t_i = g_i z_i / D``, where ``z`` is the profile of the passive ladder,

.. math:: s_i = \sum_{j \le i} g_j z_j, \quad z_{i+1} = z_i + r s_i, \quad D = z_n + r_{end} s_n .

All terms are positive, so the recursion loses no digits, needs no division per cell, and holds for
``r = 0``.
"""

# mypy: allow-untyped-defs
import math

import numpy as np
from numba import njit, prange

BLOCK = 32  # columns that one recursion carries side by side: one SIMD-friendly strip in L1

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_S11, _S32, _LAYER = np.uint64(11), np.uint64(32), np.uint64(127)
_ONE = np.uint64(1)
_RETRY = np.uint64(0xD1342543DE82EF95)

_ZIG_R = 3.442619855899
_ZIG_V = 9.91256303526217e-3


def _ziggurat() -> tuple[np.ndarray, np.ndarray]:
    """Layer edges and acceptance ratios of Doornik's ZIGNOR with 128 layers."""
    x = np.zeros(129)
    f = math.exp(-0.5 * _ZIG_R * _ZIG_R)
    x[0], x[1] = _ZIG_V / f, _ZIG_R
    for i in range(2, 128):
        x[i] = math.sqrt(-2.0 * math.log(_ZIG_V / x[i - 1] + f))
        f = math.exp(-0.5 * x[i] * x[i])
    return x, x[1:] / x[:-1]


_ZIG_X, _ZIG_RATIO = _ziggurat()


@njit(cache=True)
def _mix(z):
    """Splitmix64 finaliser (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@njit(cache=True)
def _uniform(key, counter):
    """Uniform number in (0, 1) that depends on key and counter alone."""
    return (
        np.float64(np.int64(_mix(key + (counter + _ONE) * _GOLDEN) >> _S11)) + 0.5
    ) * 1.1102230246251565e-16


@njit(cache=True)
def _normal_slow(key, counter, word):
    """Wedges and tail of the ziggurat: fresh words from a second counter sequence."""
    state = _mix(key ^ _mix(counter * _RETRY + _ONE))
    step = np.uint64(0)
    while True:
        layer = np.int64(word & _LAYER)
        u = np.float64(np.int64(word >> _S11)) * 2.220446049250313e-16 - 1.0
        if abs(u) < _ZIG_RATIO[layer]:
            return u * _ZIG_X[layer]
        if layer == 0:
            while True:
                a = -math.log(_uniform(state, step)) / _ZIG_R
                b = -math.log(_uniform(state, step + _ONE))
                step = step + _ONE + _ONE
                if 2.0 * b > a * a:
                    return _ZIG_R + a if u > 0.0 else -_ZIG_R - a
        x = u * _ZIG_X[layer]
        f0 = math.exp(-0.5 * (_ZIG_X[layer] ** 2 - x * x))
        f1 = math.exp(-0.5 * (_ZIG_X[layer + 1] ** 2 - x * x))
        if f1 + _uniform(state, step) * (f0 - f1) < 1.0:
            return x
        word = _mix(state + (step + _ONE + _ONE) * _GOLDEN)
        step = step + _ONE + _ONE


@njit(cache=True)
def _normal(key, counter):
    """Standard normal number that depends on key and counter alone (ziggurat, exact)."""
    word = _mix(key + (counter + _ONE) * _GOLDEN)
    layer = np.int64(word & _LAYER)
    u = np.float64(np.int64(word >> _S11)) * 2.220446049250313e-16 - 1.0
    if abs(u) < _ZIG_RATIO[layer]:
        return u * _ZIG_X[layer]
    return _normal_slow(key, counter, word)


@njit(cache=True, parallel=True)
def fill_normal(key, start, out):
    """Fill ``out`` (flat) with the normals of counters ``start, start + 1, ...``."""
    for block in prange((out.size + 4095) // 4096):
        for i in range(block * 4096, min(out.size, (block + 1) * 4096)):
            out[i] = _normal(key, start + np.uint64(i))


@njit(cache=True, parallel=True)
def fill_uniform(key, start, out):
    """Fill ``out`` (flat) with the uniforms of counters ``start, start + 1, ...``."""
    for block in prange((out.size + 4095) // 4096):
        for i in range(block * 4096, min(out.size, (block + 1) * 4096)):
            out[i] = _uniform(key, start + np.uint64(i))


@njit(cache=True)
def _ladder(g, lo, hi, r, r_end, z, s):
    """Passive profile of columns lo..hi: z (rows, BLOCK) with z = 1 at the read-out end."""
    rows = g.shape[0]
    width = hi - lo
    for c in range(width):
        s[c] = 0.0
        z[0, c] = 1.0
    for i in range(rows):
        if i > 0:
            for c in range(width):
                z[i, c] = z[i - 1, c] + r * s[c]
        for c in range(width):
            s[c] += g[i, lo + c] * z[i, c]
    for c in range(width):
        s[c] = 1.0 / (z[rows - 1, c] + r_end * s[c])
    for i in range(rows):
        for c in range(width):
            z[i, c] *= s[c]


@njit(cache=True, parallel=True)
def transfer_profile(g, r, r_end, out):
    """Transfer of a current injected at each node to the read-out.

    Parameters
    ----------
    g : (rows, cols) float32 array
        Ohmic cell conductances, normalised.
    r, r_end : float
        Wire resistance per cell and resistance after the last node, normalised.
    out : (rows, cols) float32 array
        Receives ``z``; the effective matrix is ``g * z``.
    """
    rows, cols = g.shape
    for block in prange((cols + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        hi = min(cols, lo + BLOCK)
        z = np.empty((rows, BLOCK))
        s = np.empty(BLOCK)
        if rows > 0:
            _ladder(g, lo, hi, r, r_end, z, s)
        for i in range(rows):
            for c in range(hi - lo):
                out[i, lo + c] = z[i, c]


@njit(cache=True)
def _lookup(table, x):
    """Linear interpolation on the uniform grid 0..n-1, clamped."""
    x = min(max(x, 0.0), table.size - 1.0)
    k = min(np.int64(x), table.size - 2)
    return table[k] + (x - k) * (table[k + 1] - table[k])


@njit(cache=True)
def _cell_coefficients(g, ln_g, coef, out):
    """Polynomial coefficients of each device by linear interpolation on the ln G grid."""
    scale = (ln_g.size - 1) / (ln_g[-1] - ln_g[0])
    for i in range(g.size):
        x = (math.log(max(g[i], 1e-30)) - ln_g[0]) * scale
        x = min(max(x, 0.0), ln_g.size - 1.0)
        k = min(np.int64(x), ln_g.size - 2)
        f = x - k
        for m in range(coef.shape[1]):
            out[i, m] = g[i] * (coef[k, m] + f * (coef[k + 1, m] - coef[k, m]))


@njit(cache=True)
def _fold(c, x, degree, b):
    """Fold the row voltage x into a polynomial in u: P(x, u) = sum_k b_k u^k."""
    m = 0
    for k in range(degree + 1):
        last = m + degree - k
        p = c[last]
        for j in range(last - 1, m - 1, -1):
            p = p * x + c[j]
        b[k] = p
        m = last + 1


@njit(cache=True)
def _newton_column(b, v, r, r_end, rest, u, load, drive, tol, limit):
    """Bit-line voltages of one column; returns (output current, last update).

    Each step linearises every cell to a Norton source and folds the ladder from the far end:
    no division by ``r``, stable for any load.
    """
    n = v.size
    change = 0.0
    total = 0.0
    for _ in range(limit):
        a = 0.0
        y = 0.0
        for i in range(n):
            x = u[i]
            p = 0.0
            dp = 0.0
            for k in range(b.shape[1] - 1, -1, -1):
                dp = dp * x + p
                p = p * x + b[i, k]
            current = (v[i] - x) * p
            slope = p - (v[i] - x) * dp
            if i > 0:
                f = 1.0 / (1.0 + r * y)
                a *= f
                y *= f
            a += current + slope * x
            y += slope
            drive[i] = a
            load[i] = y
        total = (a - y * rest) / (1.0 + r_end * y)
        new = rest + r_end * total
        change = 0.0
        for i in range(n - 1, -1, -1):
            if i < n - 1:
                new += r * (drive[i] - load[i] * new) / (1.0 + r * load[i])
            change = max(change, abs(new - u[i]))
            u[i] = new
        if not change >= tol:
            break
    return total, change


@njit(cache=True, parallel=True)
def newton(g, ln_g, coef, degree, r, r_end, rest, x, tol, limit, y, change):
    """Read-out current of non-linear columns, one Newton solve per column and sample.

    Parameters
    ----------
    g : (cols, rows) float64 array
        RRAM conductances [S].
    ln_g : (n,) float64 array
        Uniform grid of ln(G / S).
    coef : (n, terms) float64 array
        Cell current over G in powers of u, then of v; scaled so that ``g * coef`` is normalised.
    degree : int
        Total degree of the polynomial; ``terms = (degree + 1) (degree + 2) / 2``.
    r, r_end, rest : float
        Wire resistance per cell, resistance after the last node, and voltage behind it.
    x : (samples, rows) float64 array
        Normalised row voltages.
    y : (samples, cols) float64 array
        Receives the normalised currents.
    change : (cols,) float64 array
        Receives the largest last Newton update of each column; NaN inputs leave NaN outputs.
    """
    cols, rows = g.shape
    for k in prange(cols):
        c = np.empty((rows, coef.shape[1]))
        b = np.empty((rows, degree + 1))
        u = np.zeros(rows)
        load = np.empty(rows)
        drive = np.empty(rows)
        _cell_coefficients(g[k], ln_g, coef, c)
        worst = 0.0
        for m in range(x.shape[0]):
            for i in range(rows):
                _fold(c[i], x[m, i], degree, b[i])
                u[i] = 0.0
            y[m, k], last = _newton_column(b, x[m], r, r_end, rest, u, load, drive, tol, limit)
            worst = max(worst, last)
        change[k] = worst


@njit(cache=True, parallel=True)
def perturb(g, ohmic, z, alpha, base, slope, x, r, r_end, first, second):
    """First-order response of non-linear columns, in two parts.

    The bit-line voltage ``u`` of the ohmic columns is exact; every cell then injects
    ``(v - u) [g p(v, u) + g alpha q(v, u) - ohmic]``; the share ``z`` reaches the read-out.

    Parameters
    ----------
    g, ohmic, z, alpha : (rows, cols) float32 array
        Cell conductance, conductance of the ohmic column it is compared with, transfer of that
        column, and weight of the second cell function.
    base, slope : (samples, rows, degree + 1) float32 array
        ``p`` and ``q`` folded at the row voltages, in powers of u.
    x : (samples, rows) float32 array
        Normalised row voltages.
    first, second : (samples, cols) float32 array
        Receive the ohmic output and the first-order change.
    """
    rows, cols = g.shape
    terms = base.shape[2]
    zero = np.float32(0.0)
    one = np.float32(1.0)
    for block in prange((cols + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        width = min(cols, lo + BLOCK) - lo
        load = np.empty((rows, BLOCK), np.float32)
        fold = np.empty((rows, BLOCK), np.float32)
        drive = np.empty((rows, BLOCK), np.float32)
        u = np.empty(BLOCK, np.float32)
        acc = np.empty(BLOCK, np.float32)
        lin = np.empty(BLOCK, np.float32)
        p = np.empty(BLOCK, np.float32)
        q = np.empty(BLOCK, np.float32)
        for i in range(rows):
            for c in range(width):
                previous = load[i - 1, c] * fold[i - 1, c] if i > 0 else zero
                load[i, c] = ohmic[i, lo + c] + previous
                rest = r if i < rows - 1 else r_end
                fold[i, c] = one / (one + rest * load[i, c])
        for m in range(x.shape[0]):
            for c in range(width):
                acc[c] = zero
            for i in range(rows):
                v = x[m, i]
                for c in range(width):
                    acc[c] += ohmic[i, lo + c] * v
                    drive[i, c] = acc[c]
                    acc[c] *= fold[i, c]
            for c in range(width):
                lin[c] = acc[c]
                u[c] = zero
                acc[c] = zero
            for i in range(rows - 1, -1, -1):
                rest = r if i < rows - 1 else r_end
                v = x[m, i]
                for c in range(width):
                    u[c] += rest * (drive[i, c] - load[i, c] * u[c]) * fold[i, c]
                    p[c] = base[m, i, terms - 1]
                    q[c] = slope[m, i, terms - 1]
                for k in range(terms - 2, -1, -1):
                    bk = base[m, i, k]
                    qk = slope[m, i, k]
                    for c in range(width):
                        p[c] = p[c] * u[c] + bk
                        q[c] = q[c] * u[c] + qk
                for c in range(width):
                    law = p[c] + alpha[i, lo + c] * q[c]
                    change = (v - u[c]) * (g[i, lo + c] * law - ohmic[i, lo + c])
                    acc[c] += z[i, lo + c] * change
            for c in range(width):
                first[m, lo + c] = lin[c]
                second[m, lo + c] = acc[c]


@njit(cache=True, parallel=True)
def retarget(w, g_min, top, z_pos, z_neg, g_pos, g_neg):
    """Target conductances of one pair from the transfers of the present ones.

    The idle cell of a pair rests at ``g_min``; the active one carries the weight plus what the idle
    one contributes, so that ``g_pos z_pos - g_neg z_neg = w``. Clipped to ``[g_min, top]``.
    Returns the number of clipped cells.
    """
    rows, cols = w.shape
    clipped = np.zeros(rows, np.int64)
    for i in prange(rows):
        count = 0
        for c in range(cols):
            a = w[i, c]
            here, there = z_pos[i, c], z_neg[i, c]
            if a < 0.0:
                here, there = there, here
            b = (abs(a) + g_min * there) / here
            if b > top * np.float32(1.000001):
                count += 1
            b = min(max(b, g_min), top)
            g_pos[i, c] = b if a > 0.0 else g_min
            g_neg[i, c] = b if a < 0.0 else g_min
        clipped[i] = count
    return clipped.sum()


@njit(cache=True, parallel=True)
def write(
    g, scale, to_rram, to_cell, grid, sigma_write, sigma_read, keys, stuck, column, frozen, lowest,
    highest, device, written, read, deviation,
):  # fmt: skip
    """Program devices to the cell conductances ``g``: draw write and read noise per device.

    Parameters
    ----------
    g : (rows, cols) float32 array
        Target cell conductances, normalised.
    scale : float
        Conductance unit: ``g * scale`` is in S.
    to_rram, to_cell : (n,) float64 array
        Ratio G/g over cell conductance and g/G over RRAM conductance, on uniform grids.
    grid : (3,) float64 array
        Steps of these grids [S] and of the sqrt(G) grid of the noise tables [S^0.5].
    sigma_write, sigma_read : (n,) float64 array
        Noise over sqrt(G) [S].
    keys : (3,) uint64 array
        Streams of write noise, read noise and stuck devices.
    stuck : float
        Probability that a device is stuck at the lowest conductance.
    column : int
        Index of the first column: with the row it is the counter of the stream.
    frozen : bool
        Draw the read noise once (into ``read``); otherwise ``read`` equals ``written``.
    device : (rows, cols) float32 array
        Receives the RRAM conductance [S], read noise included when frozen.
    written, read : (rows, cols) float32 array
        Receive the cell conductance before and after read noise, normalised.
    deviation : (rows, cols) float32 array
        Receives the per-read standard deviation of the cell conductance, normalised.
    """
    rows, cols = g.shape
    g_step, rram_step, noise_step = 1.0 / grid[0], 1.0 / grid[1], 1.0 / grid[2]
    write_key, read_key, stuck_key = keys[0], keys[1], keys[2]
    for i in prange(rows):
        row = np.uint64(i) << _S32
        for c in range(cols):
            counter = row + np.uint64(column + c)
            x = g[i, c] * scale
            x *= _lookup(to_rram, x * g_step)
            s = _lookup(sigma_write, math.sqrt(x) * noise_step)
            if s > 0.0:
                x += s * _normal(write_key, counter)
            if stuck > 0.0 and _uniform(stuck_key, counter) < stuck:
                x = lowest
            x = min(max(x, lowest), highest)
            ratio = _lookup(to_cell, x * rram_step)
            written[i, c] = x * ratio / scale
            s = _lookup(sigma_read, math.sqrt(x) * noise_step)
            # d ln g / d ln G of a cell with a resistance in series equals g / G
            deviation[i, c] = s * ratio * ratio / scale
            if frozen and s > 0.0:
                x = min(max(x + s * _normal(read_key, counter), lowest), highest)
            read[i, c] = x * _lookup(to_cell, x * rram_step) / scale
            device[i, c] = x


@njit(cache=True, parallel=True)
def look_up(x, step, table, out):
    """``out = table(x / step)``, linear, clamped; flat arrays."""
    for block in prange((x.size + 4095) // 4096):
        for i in range(block * 4096, min(x.size, (block + 1) * 4096)):
            out[i] = _lookup(table, x[i] / step)


@njit(cache=True)
def _linearize_row(x, rest, amplitude, basis, laws, work, out, square):
    """One sample of :func:`linearize`; returns (mean cell voltage squared, clipped or -1)."""
    rows = x.size
    degree = laws.shape[1] - 1
    one = np.float32(1.0)
    v, u, p = work[0], work[1], work[2]
    outside = 0
    total = np.float32(0.0)
    for i in range(rows):
        total += x[i] * np.float32(0.0)
        outside += abs(x[i]) > one
        v[i] = min(max(x[i], -one), one) - rest
        u[i] = np.float32(0.0)
    if total != total:
        return total, -1
    for k in range(basis.shape[0]):
        a = amplitude[k]
        for i in range(rows):
            u[i] += a * basis[k, i]
    for m in range(laws.shape[0]):
        low = m * rows
        for i in range(rows):
            out[low + i] = np.float32(0.0)
        for k in range(degree, -1, -1):
            top = laws[m, k, degree - k]
            for i in range(rows):
                p[i] = top
            for j in range(degree - k - 1, -1, -1):
                c = laws[m, k, j]
                for i in range(rows):
                    p[i] = p[i] * v[i] + c
            for i in range(rows):
                out[low + i] = out[low + i] * u[i] + p[i]
        for i in range(rows):
            out[low + i] *= v[i] - u[i]
    for i in range(rows):
        out[i] += v[i]
        u[i] = (v[i] - u[i]) * (v[i] - u[i])
        total += u[i]
    for i in range(square.size):
        square[i] = u[i]
    return total / np.float32(max(rows, 1)), outside


@njit(cache=True)
def linearize(x, rest, amplitude, basis, laws, out, square, power):
    """Inputs whose ohmic product is the non-linear one to first order in the cell law.

    Parameters
    ----------
    x : (samples, rows) float32 array
        Normalised row voltages; clipped to [-1, 1].
    rest : float32
        Virtual ground of the read-out: row voltages count from it.
    amplitude : (samples, at least k) float32 array
        Mean bit-line voltage in the ``basis`` (k, rows).
    laws : (parts, degree + 1, degree + 1) float32 array
        Polynomials in powers of u (down) and of v (across).
    out : (samples, parts * rows) float32 array
        Receives ``v + (v - u) laws[0]``, then ``(v - u) laws[1]`` ...
    square : (samples, rows or 0) float32 array
        Receives ``(v - u)^2`` when it has room.
    power : (samples,) float32 array
        Receives the mean of ``(v - u)^2``.

    Returns
    -------
    int
        Inputs that were clipped; -1 if one is NaN.
    """
    count = 0
    work = np.empty((3, x.shape[1]), np.float32)
    for m in range(x.shape[0]):
        power[m], outside = _linearize_row(
            x[m], rest, amplitude[m], basis, laws, work, out[m], square[m]
        )
        if outside < 0:
            return -1
        count += outside
    return count


@njit(cache=True, parallel=True)
def linearize_parallel(x, rest, amplitude, basis, laws, out, square, power):
    """Do :func:`linearize` on all threads."""
    samples, rows = x.shape
    chunk = 16
    counts = np.zeros((samples + chunk - 1) // chunk, np.int64)
    for block in prange(counts.size):
        work = np.empty((3, rows), np.float32)
        for m in range(block * chunk, min(samples, (block + 1) * chunk)):
            power[m], outside = _linearize_row(
                x[m], rest, amplitude[m], basis, laws, work, out[m], square[m]
            )
            if outside < 0 or counts[block] < 0:
                counts[block] = -1
            else:
                counts[block] += outside
    count = 0
    for block in range(counts.size):
        if counts[block] < 0:
            return -1
        count += counts[block]
    return count


@njit(cache=True)
def _correct_row(y, power, common, terms):
    """One sample: y (1 + c0 + c1 power) + common (c2 + c3 power)."""
    one = np.float32(1.0)
    for c in range(y.size):
        gain = one + terms[0, c] + terms[1, c] * power
        y[c] = y[c] * gain + common * (terms[2, c] + terms[3, c] * power)


@njit(cache=True)
def correct(y, power, common, terms):
    """Per-column correction of the ohmic product, in place.

    Parameters
    ----------
    y : (samples, cols) float32 array
    power, common : (samples,) float32 array
        Mean square of the cell voltages, and the mean current of all columns.
    terms : (4, cols) float32 array
        Fitted coefficients.
    """
    for m in range(y.shape[0]):
        _correct_row(y[m], power[m], common[m], terms)


@njit(cache=True, parallel=True)
def correct_parallel(y, power, common, terms):
    """Do :func:`correct` on all threads."""
    for m in prange(y.shape[0]):
        _correct_row(y[m], power[m], common[m], terms)


@njit(cache=True)
def _add_noise_row(y, variance, key, start):
    for c in range(y.size):
        v = max(variance[c], np.float32(0.0))
        y[c] += np.float32(math.sqrt(v) * _normal(key, start + np.uint64(c)))


@njit(cache=True)
def add_noise(y, variance, key, first):
    """Add normals of the given variance; the counter is (first + sample, column)."""
    for m in range(y.shape[0]):
        _add_noise_row(y[m], variance[m], key, (first + np.uint64(m)) << _S32)


@njit(cache=True, parallel=True)
def add_noise_parallel(y, variance, key, first):
    """Do :func:`add_noise` on all threads: the same numbers."""
    for m in prange(y.shape[0]):
        _add_noise_row(y[m], variance[m], key, (first + np.uint64(m)) << _S32)

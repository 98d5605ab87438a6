"""Draws that are pure functions of a key and a counter, and what is drawn: writes and reads.

Any thread may draw any number, in any order. Device noise stands here with its generator because
numba's cache does not notice changes in another file.
"""

# mypy: allow-untyped-defs
import math

import numpy as np
from numba import njit, prange

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_S11, _S32, _LAYER = np.uint64(11), np.uint64(32), np.uint64(127)
_ONE = np.uint64(1)
_RETRY = np.uint64(0xD1342543DE82EF95)
_U20, _FRACTION, _STEP = np.uint32(20), np.uint32(0xFFFFF), np.float32(2.0**-20)
_NEXT = np.uint32(1)
_FEW = 64  # draws searched at once for outermost strata
_STRATUM, _HIGHEST = np.uint32(1 << 20), np.uint32(0xFFFFFFFF)
_CHUNK = 1024  # outputs of one pass: its work arrays stay in the first-level cache

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


@njit(cache=True)
def _lookup(table, x):
    """Linear interpolation on the uniform grid 0..n-1, clamped."""
    x = min(max(x, np.float32(0.0)), np.float32(table.size - 1))
    k = np.uint32(min(np.int32(x), np.int32(table.size - 2)))  # unsigned: an index from the end
    low = table[k]  # would have to be tested for
    return low + (x - np.float32(k)) * (table[k + _NEXT] - low)


@njit(cache=True)
def _slope(table, x):
    """Slope of ``x table(x)``, x below the end of the grid."""
    k = np.uint32(min(np.int32(x), np.int32(table.size - 2)))
    step = table[k + _NEXT] - table[k]
    return table[k] + (np.float32(2.0) * x - np.float32(k)) * step


@njit(cache=True, parallel=True)
def look_up(x, step, table, out):
    """``out = table(x / step)``, linear, clamped; flat arrays."""
    for block in prange((x.size + 4095) // 4096):
        for i in range(block * 4096, min(x.size, (block + 1) * 4096)):
            out[i] = _lookup(table, np.float32(x[i] / step))


@njit(cache=True)
def _tail(state, edge):
    """Normal beyond -edge or edge, the smaller end of a stratum (Marsaglia's tail method)."""
    step = np.uint64(0)
    while True:
        a = -math.log(_uniform(state, step)) / abs(edge)
        b = -math.log(_uniform(state, step + _ONE))
        step = step + _ONE + _ONE
        if 2.0 * b > a * a:
            return np.float32(edge + a if edge > 0.0 else edge - a)


@njit(cache=True)
def tails(states, edges):
    """Draw a normal beyond each edge: what :func:`add_noise` does in the outermost strata."""
    out = np.empty(states.size, np.float32)
    for i in range(states.size):
        out[i] = _tail(states[i], edges[i])
    return out


@njit(cache=True)
def _draw_tails(words, parts, table, start, stop, out):
    """Draw numbers of some counters anew where they fell into the two outermost strata."""
    for c in range(start, stop):
        stratum = np.int32(parts[c] >> _U20)
        if (stratum == 0) | (stratum == 4095):
            state = _mix(words[c >> 1] + np.uint64(c & 1))
            out[c] = _tail(state, table[max(stratum, 1)])


@njit(cache=True)
def _quick_normals(key, first, table, words, out):
    """Fill ``out`` with normals: inverse distribution, linear in 4096 strata of equal probability.

    One pass an operation, so that each runs at the speed of the processor's vectors. The two
    outermost strata, one draw in 2048, are drawn exactly. Number c comes from half of the word
    ``first + c // 2`` of the stream.
    """
    for k in range(words.size):
        words[k] = _mix(key + (first + np.uint64(k + 1)) * _GOLDEN)
    parts = words.view(np.uint32)
    for c in range(out.size):
        out[c] = np.float32(np.int32(parts[c] & _FRACTION)) * _STEP
    for c in range(out.size):
        stratum = parts[c] >> _U20  # unsigned: an index from the end would have to be tested for
        low = table[stratum]
        out[c] = low + out[c] * (table[stratum + _NEXT] - low)
    whole = out.size // _FEW * _FEW
    for start in range(0, whole, _FEW):
        least = _HIGHEST
        for j in range(_FEW):  # of known length: without it the search costs as much as the draws
            least = min(least, np.uint32(parts[start + j] + _STRATUM))  # the last one wraps to 0
        if least < _STRATUM + _STRATUM:
            _draw_tails(words, parts, table, start, start + _FEW, out)
    _draw_tails(words, parts, table, whole, out.size, out)


@njit(cache=True, parallel=True)
def write(
    g, scale, to_rram, to_cell, grid, sigma_write, sigma_read, drift, table, keys, stuck, column,
    frozen, lowest, highest, device, written, read, deviation,
):  # fmt: skip
    """Program devices to the cell conductances ``g``: draw write and read noise per device.

    Parameters
    ----------
    g : (rows, cols) float32 array
        Target cell conductances, normalised.
    scale : float
        Conductance unit: ``g * scale`` is in S.
    to_rram, to_cell : (n,) float32 array
        Ratio G/g over cell conductance and g/G over RRAM conductance, on uniform grids.
    grid : (3,) float64 array
        Steps of these grids [S] and of the sqrt(G) grid of the noise tables [S^0.5].
    sigma_write, sigma_read : (n,) float32 array
        Noise over sqrt(G) [S].
    drift : (2,) float32 array
        Mean and standard deviation of what a device has drifted since it was verified [S].
    table : (4097,) float32 array
        Quantiles of the normal distribution, see :func:`add_noise`.
    keys : (4,) uint64 array
        Streams of write noise, read noise, stuck devices and drift.
    stuck : float
        Probability that a device is stuck at the lowest conductance.
    column : int
        Index of the first column, even: with the row it is the counter of the stream.
    frozen : bool
        Draw the read noise once (into ``read``); otherwise ``read`` equals ``written``.
    device : (rows, cols) float32 array
        Receives the RRAM conductance [S], drifted, read noise included when frozen.
    written, read : (rows, cols) float32 array
        Receive the cell conductance as verified, and after drift and read noise, normalised.
    deviation : (rows, cols) float32 array, or an empty one
        Receives the per-read standard deviation of the cell conductance, normalised.
    """
    rows, cols = g.shape
    unit, inverse = np.float32(scale), np.float32(1.0 / scale)
    g_step, rram_step, noise_step = (
        np.float32(scale / grid[0]), np.float32(1.0 / grid[1]), np.float32(1.0 / grid[2])
    )  # fmt: skip
    low, high = np.float32(lowest), np.float32(highest)
    drifts = drift[0] != 0.0 or drift[1] != 0.0
    halves = (cols + 1) // 2
    for i in prange(rows):
        first = (np.uint64(i) << _S32) + np.uint64(column)
        words, normals = np.empty(halves, np.uint64), np.empty(2 * halves, np.float32)
        x, sigma = np.empty(cols, np.float32), np.empty(cols, np.float32)
        _quick_normals(keys[0], first, table, words, normals)
        for c in range(cols):  # short loops: few tables at a time, and no branches
            x[c] = g[i, c] * unit * _lookup(to_rram, g[i, c] * g_step)
        for c in range(cols):
            x[c] += _lookup(sigma_write, math.sqrt(x[c]) * noise_step) * normals[c]
            x[c] = min(max(x[c], low), high)
        if stuck > 0.0:
            for c in range(cols):
                if _uniform(keys[2], first + np.uint64(c)) < stuck:
                    x[c] = low
        for c in range(cols):
            ratio = _lookup(to_cell, x[c] * rram_step)
            written[i, c] = read[i, c] = x[c] * ratio * inverse
        for c in range(cols):
            sigma[c] = _lookup(sigma_read, math.sqrt(x[c]) * noise_step)
        if drifts:
            _quick_normals(keys[3], first, table, words, normals)
            for c in range(cols):
                if stuck > 0.0 and _uniform(keys[2], first + np.uint64(c)) < stuck:
                    continue
                x[c] = min(max(x[c] + drift[0] + drift[1] * normals[c], low), high)
                read[i, c] = x[c] * _lookup(to_cell, x[c] * rram_step) * inverse
                sigma[c] = _lookup(sigma_read, math.sqrt(x[c]) * noise_step)
        if deviation.size:
            for c in range(cols):
                deviation[i, c] = sigma[c] * _slope(to_cell, x[c] * rram_step) * inverse
        if frozen:
            _quick_normals(keys[1], first, table, words, normals)
            for c in range(cols):
                x[c] = min(max(x[c] + sigma[c] * normals[c], low), high)
                read[i, c] = x[c] * _lookup(to_cell, x[c] * rram_step) * inverse
        device[i] = x


@njit(cache=True)
def _add_noise_block(y, variance, key, first, table):
    """Add noise to a few samples; each takes a whole number of words."""
    zero = np.float32(0.0)
    samples, cols = y.shape
    halves = (cols + 1) // 2
    words = np.empty(samples * halves, np.uint64)
    normals = np.empty(samples * halves * 2, np.float32)
    _quick_normals(key, first * np.uint64(halves), table, words, normals)
    if cols == 2 * halves:  # one long loop
        flat, variances = y.reshape(-1), variance.reshape(-1)
        for k in range(flat.size):
            flat[k] += math.sqrt(max(variances[k], zero)) * normals[k]
        return
    for m in range(samples):
        row = m * halves * 2
        for c in range(cols):
            y[m, c] += math.sqrt(max(variance[m, c], zero)) * normals[row + c]


@njit(cache=True, nogil=True)
def add_noise(y, variance, table, key, first):
    """Add normals to y, in place.

    Parameters
    ----------
    y : (samples, cols) float32 array
    variance : (samples, cols) float32 array
    table : (4097,) float32 array
        Quantiles of the normal distribution at 0, 1/4096 ... 1.
    key : uint64
        Stream.
    first : uint64
        Number of the first sample: draws depend on it and on the column alone.
    """
    step = max(1, _CHUNK // max(1, y.shape[1]))
    for lo in range(0, y.shape[0], step):
        hi = min(y.shape[0], lo + step)
        _add_noise_block(y[lo:hi], variance[lo:hi], key, first + np.uint64(lo), table)


@njit(cache=True, parallel=True)
def add_noise_parallel(y, variance, table, key, first):
    """Do :func:`add_noise` on all threads."""
    step = max(1, _CHUNK // max(1, y.shape[1]))
    for block in prange((y.shape[0] + step - 1) // step):
        lo, hi = block * step, min(y.shape[0], (block + 1) * step)
        _add_noise_block(y[lo:hi], variance[lo:hi], key, first + np.uint64(lo), table)

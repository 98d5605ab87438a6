r"""Bit lines of ohmic and nearly ohmic columns.

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
import numpy as np
from numba import njit, prange

BLOCK = 32  # columns that one recursion carries side by side: one SIMD-friendly strip in L1
# Strips are flat and of fixed width, unused columns 0: only then are their loops vectors.
_HALF, _PAIR = BLOCK // 2, BLOCK + BLOCK // 2  # of weights, beside both arrays
_G, _OHMIC, _Z, _ALPHA, _LOAD, _FOLD, _DRIVE, _PARTS = (k * BLOCK for k in range(8))


@njit(cache=True)
def _fill(a, lo, width, strip):
    """Copy columns from lo on into a strip (rows, BLOCK)."""
    strip[:] = np.float32(0.0)
    for i in range(a.shape[0]):
        for c in range(width):
            strip[i * BLOCK + c] = a[i, lo + c]


@njit(cache=True, error_model="numpy")
def _ladder(strip, width, r, r_end, z, state):
    """Find the passive profile, z times state[:BLOCK], of the last columns of a strip."""
    for c in range(BLOCK):
        state[c] = 0.0
        state[BLOCK + c] = 1.0
    for i in range(z.size // BLOCK):
        node, end = z[i * BLOCK : (i + 1) * BLOCK], (i + 1) * width
        cell = strip[end - BLOCK : end]
        for c in range(BLOCK):
            here = state[BLOCK + c] + r * state[c]
            state[BLOCK + c] = node[c] = here
            state[c] += cell[c] * here
    for c in range(BLOCK):
        state[c] = 1.0 / (state[BLOCK + c] + r_end * state[c])


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
        width = min(cols, lo + BLOCK) - lo
        strip, z = np.empty(rows * BLOCK, np.float32), np.empty(rows * BLOCK)
        state = np.empty(2 * BLOCK)
        _fill(g, lo, width, strip)
        _ladder(strip, BLOCK, r, r_end, z, state)
        for i in range(rows):
            for c in range(width):
                out[i, lo + c] = z[i * BLOCK + c] * state[c]


@njit(cache=True)
def _deviation(row, state, rest, v, base, slope):
    """Add what the cells of one row inject beyond their ohmic twins, and step to that row's node.

    The state of a strip is the bit-line voltage u and the sum of what is injected.
    """
    p0, p1, p2, p3, p4, p5 = base[0], base[1], base[2], base[3], base[4], base[5]
    q0, q1, q2, q3, q4, q5 = slope[0], slope[1], slope[2], slope[3], slope[4], slope[5]
    for c in range(BLOCK):
        u = state[c]
        u += rest * (row[_DRIVE + c] - row[_LOAD + c] * u) * row[_FOLD + c]
        p = ((((p5 * u + p4) * u + p3) * u + p2) * u + p1) * u + p0
        q = ((((q5 * u + q4) * u + q3) * u + q2) * u + q1) * u + q0
        change = (v - u) * (row[_G + c] * (p + row[_ALPHA + c] * q) - row[_OHMIC + c])
        state[c] = u
        state[BLOCK + c] += row[_Z + c] * change


@njit(cache=True, error_model="numpy")
def _columns(strip, state, r, r_end):
    """Find the load that the ohmic cells above each node are, and the fold to the next node."""
    zero, one, rows = np.float32(0.0), np.float32(1.0), strip.size // _PARTS
    state[:] = zero
    for i in range(rows):
        row = strip[i * _PARTS : (i + 1) * _PARTS]
        rest = r if i < rows - 1 else r_end
        for c in range(BLOCK):
            load = row[_OHMIC + c] + state[c]
            fold = one / (one + rest * load)
            row[_LOAD + c], row[_FOLD + c] = load, fold
            state[c] = load * fold


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
    base, slope : (samples, rows, 6) float32 array
        ``p`` and ``q`` folded at the row voltages, in powers of u up to the fifth.
    x : (samples, rows) float32 array
        Normalised row voltages.
    first, second : (samples, cols) float32 array
        Receive the ohmic output and the first-order change.
    """
    rows, cols = g.shape
    zero = np.float32(0.0)
    for block in prange((cols + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        width = min(cols, lo + BLOCK) - lo
        strip, state = np.zeros(rows * _PARTS, np.float32), np.empty(2 * BLOCK, np.float32)
        for i in range(rows):
            row = strip[i * _PARTS : (i + 1) * _PARTS]
            for c in range(width):
                row[_G + c], row[_OHMIC + c] = g[i, lo + c], ohmic[i, lo + c]
                row[_Z + c], row[_ALPHA + c] = z[i, lo + c], alpha[i, lo + c]
        _columns(strip, state, r, r_end)
        for m in range(x.shape[0]):
            state[:] = zero
            for i in range(rows):
                v, row = x[m, i], strip[i * _PARTS : (i + 1) * _PARTS]
                for c in range(BLOCK):
                    drive = state[c] + row[_OHMIC + c] * v
                    row[_DRIVE + c] = drive
                    state[c] = drive * row[_FOLD + c]
            for c in range(width):
                first[m, lo + c] = state[c]
            state[:] = zero
            for i in range(rows - 1, -1, -1):
                row, rest = strip[i * _PARTS : (i + 1) * _PARTS], r if i < rows - 1 else r_end
                _deviation(row, state, rest, x[m, i], base[m, i], slope[m, i])
            for c in range(width):
                second[m, lo + c] = state[BLOCK + c]


@njit(cache=True, parallel=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def _aim(strip, g_min, top, z, state):
    """Do `retarget` for a strip of weights and both arrays; returns the number of clipped cells."""
    limit, count = top * np.float32(1.000001), 0
    for i in range(z.size // BLOCK):
        row, node = strip[i * _PAIR : (i + 1) * _PAIR], z[i * BLOCK : (i + 1) * BLOCK]
        for c in range(_HALF):
            a = row[c]
            pos = np.float32(node[c] * state[c])
            neg = np.float32(node[_HALF + c] * state[_HALF + c])
            here = neg if a < 0.0 else pos
            there = pos if a < 0.0 else neg
            b = (abs(a) + g_min * there) / here
            count += b > limit
            b = min(max(b, g_min), top)
            row[_HALF + c] = b if a > 0.0 else g_min
            row[BLOCK + c] = b if a < 0.0 else g_min
    return count


@njit(cache=True, parallel=True)
def predistort(w, g_min, top, r, r_end, steps, g_pos, g_neg):
    """Find the target conductances of one pair whose effective matrix is w.

    Begins with `retarget` for transfers of 1, then repeats it so often for those of the present
    conductances. Returns the number of cells that are clipped in the end.
    """
    rows, cols = w.shape
    blocks = (cols + _HALF - 1) // _HALF
    clipped = np.zeros(blocks, np.int64)
    for block in prange(blocks):
        lo = block * _HALF
        width = min(cols, lo + _HALF) - lo
        strip = np.zeros(rows * _PAIR, np.float32)
        z, state = np.ones(rows * BLOCK), np.ones(2 * BLOCK)
        for i in range(rows):
            for c in range(width):
                strip[i * _PAIR + c] = w[i, lo + c]
        clipped[block] = _aim(strip, g_min, top, z, state)
        for _ in range(steps):
            _ladder(strip, _PAIR, r, r_end, z, state)
            clipped[block] = _aim(strip, g_min, top, z, state)
        for i in range(rows):
            row = strip[i * _PAIR : (i + 1) * _PAIR]
            for c in range(width):
                g_pos[i, lo + c], g_neg[i, lo + c] = row[_HALF + c], row[BLOCK + c]
    return clipped.sum()

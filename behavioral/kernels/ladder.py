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

"""Newton's method on whole non-linear columns: slow, the bridge between look-ups and ngspice."""

# mypy: allow-untyped-defs
import math

import numpy as np
from numba import njit, prange


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

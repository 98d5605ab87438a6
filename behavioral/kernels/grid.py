"""Non-linear arrays with wires in both directions, by sweeps along bit lines and rows in turn.

Normalised as in :mod:`behavioral.kernels.ladder`; the network is that of `behavioral.wire_grid`.
"""

# mypy: allow-untyped-defs
import numpy as np
from numba import njit, prange


@njit(cache=True)
def _fold_lines(ohmic, r, r_end, load, fold):
    """Conductance of each bit line seen from its nodes towards the open end."""
    rows, cols = ohmic.shape
    for i in range(rows):
        segment = r if i < rows - 1 else r_end
        for c in range(cols):
            before = load[i - 1, c] * fold[i - 1, c] if i > 0 else 0.0
            load[i, c] = ohmic[i, c] + before
            fold[i, c] = 1.0 / (1.0 + segment * load[i, c])


@njit(cache=True)
def _fold_rows(ohmic, r_row, load, fold):
    """Do the same for the row lines; their open end is the last column."""
    rows, cols = ohmic.shape
    for i in range(rows):
        for c in range(cols - 1, -1, -1):
            beyond = load[i, c + 1] * fold[i, c + 1] if c < cols - 1 else 0.0
            load[i, c] = ohmic[i, c] + beyond
            fold[i, c] = 1.0 / (1.0 + r_row * load[i, c])


@njit(cache=True)
def _deviate(laws, degree, ohmic, v, u, extra):
    """Current of every cell beyond that of its ohmic twin."""
    rows, cols = ohmic.shape
    total, inner = np.empty(cols), np.empty(cols)
    for i in range(rows):
        total[:] = 0.0
        last = laws.shape[0]
        for b in range(degree, -1, -1):  # Horner's rule in u, and in v inside
            first = last - (degree + 1 - b)
            inner[:] = 0.0
            for k in range(last - 1, first - 1, -1):
                for c in range(cols):
                    inner[c] = inner[c] * v[i, c] + laws[k, i, c]
            for c in range(cols):
                total[c] = total[c] * u[i, c] + inner[c]
            last = first
        for c in range(cols):
            extra[i, c] = (v[i, c] - u[i, c]) * (total[c] - ohmic[i, c])


@njit(cache=True)
def _sweep_lines(ohmic, load, fold, r, r_end, rest, v, extra, drive, u, y):
    """Bit-line voltages for given row voltages; outputs into y. Returns the largest change."""
    rows, cols = ohmic.shape
    for i in range(rows):
        for c in range(cols):
            before = drive[i - 1, c] * fold[i - 1, c] if i > 0 else 0.0
            drive[i, c] = ohmic[i, c] * v[i, c] + extra[i, c] + before
    change = 0.0
    for i in range(rows - 1, -1, -1):
        segment = r if i < rows - 1 else r_end
        for c in range(cols):
            after = u[i + 1, c] if i < rows - 1 else rest
            current = (drive[i, c] - load[i, c] * after) * fold[i, c]
            if i == rows - 1:
                y[c] = current
            new = after + segment * current
            change = max(change, abs(new - u[i, c]))
            u[i, c] = new
    return change


@njit(cache=True)
def _sweep_rows(ohmic, load, fold, r_row, x, u, extra, drive, v):
    """Row voltages for given bit-line voltages; returns the largest change."""
    rows, cols = ohmic.shape
    change = 0.0
    for i in range(rows):
        for c in range(cols - 1, -1, -1):
            beyond = drive[i, c + 1] * fold[i, c + 1] if c < cols - 1 else 0.0
            drive[i, c] = ohmic[i, c] * u[i, c] - extra[i, c] + beyond
        before = x[i]
        for c in range(cols):
            before += r_row * (drive[i, c] - load[i, c] * before) * fold[i, c]
            change = max(change, abs(before - v[i, c]))
            v[i, c] = before
    return change


@njit(cache=True, parallel=True)
def relax(laws, degree, ohmic, r_row, r, r_end, rest, x, tol, limit, y, change):
    """Read-out currents of one non-linear array.

    Parameters
    ----------
    laws : (terms, rows, cols) float64 array
        Cell current over ``v - u`` in powers of u, then of v (as `behavioral.cell.powers`).
    degree : int
    ohmic : (rows, cols) float64 array
        Conductances of cells that respond alike; the nearer, the fewer sweeps.
    r_row, r, r_end, rest : float
        Wire resistance per cell of a row and of a bit line, resistance after the last row, and
        voltage behind it.
    x : (samples, rows) float64 array
        Normalised row voltages.
    tol : float
        Sweeps end when no node moves further.
    limit : int
        Most sweeps.
    y : (samples, cols) float64 array
        Receives the normalised currents.
    change : (samples,) float64 array
        Receives the last movement.
    """
    shape = ohmic.shape
    line_load, line_fold = np.empty(shape), np.empty(shape)
    row_load, row_fold = np.empty(shape), np.empty(shape)
    _fold_lines(ohmic, r, r_end, line_load, line_fold)
    _fold_rows(ohmic, r_row, row_load, row_fold)
    for m in prange(x.shape[0]):
        v, u = np.empty(shape), np.full(shape, rest)
        extra, drive = np.empty(shape), np.empty(shape)
        for i in range(shape[0]):
            v[i] = x[m, i]
        for _ in range(limit):
            _deviate(laws, degree, ohmic, v, u, extra)
            a = _sweep_lines(
                ohmic, line_load, line_fold, r, r_end, rest, v, extra, drive, u, y[m]
            )  # fmt: skip
            b = _sweep_rows(ohmic, row_load, row_fold, r_row, x[m], u, extra, drive, v)
            change[m] = max(a, b)
            if not change[m] >= tol:
                break

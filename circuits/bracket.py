"""Thresholds of many cells at once: where a measured quantity changes its sign."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from circuits.search import Floats, Status

Overshoot = Callable[[NDArray[np.intp], Floats], tuple[Floats, Status]]


def bracket(overshoot: Overshoot, v: Floats) -> tuple[Floats, Status]:
    """Evaluate rows of trial voltages; return (v_a, v_b, y_a, y_b) around the sign change."""
    rows, columns = v.shape
    index = np.repeat(np.arange(rows), columns)
    y, status = overshoot(index, v.ravel())
    worst = status.reshape(rows, columns).max(axis=1)
    return first_change(v, y.reshape(rows, columns)), worst


def first_change(v: Floats, y: Floats) -> Floats:
    """Return (v_a, v_b, y_a, y_b) of each row's first sign change; NaN where there is none."""
    out = np.full((len(v), 4), np.nan)
    for k in range(len(v)):
        good = np.flatnonzero(np.isfinite(y[k]))
        change = np.flatnonzero(np.diff(np.signbit(y[k, good])))
        if len(change):
            a, b = good[change[0]], good[change[0] + 1]
            out[k] = v[k, a], v[k, b], y[k, a], y[k, b]
    return out


def narrow(overshoot: Overshoot, found: Floats, inner: int) -> Floats:
    """Divide each bracket at ``inner`` points and return the part with the sign change."""
    good = np.flatnonzero(np.isfinite(found[:, 0]))
    if len(good) == 0:
        return found
    share = np.linspace(0, 1, inner + 2)
    v = found[good, :1] + share * (found[good, 1:2] - found[good, :1])
    y, _ = overshoot(np.repeat(good, inner), v[:, 1:-1].ravel())
    y = np.hstack([found[good, 2:3], y.reshape(-1, inner), found[good, 3:4]])
    out = np.full_like(found, np.nan)
    out[good] = first_change(v, y)
    return out


def finish(overshoot: Overshoot, found: Floats, *, check: bool = True) -> Floats:
    """Interpolate within the bracket; with ``check`` test 0.1 mV to each side and do it again."""
    va, vb, ya, yb = found.T
    v: Floats = va - ya * (vb - va) / (yb - ya)
    good = np.flatnonzero(np.isfinite(v))
    if check and len(good):
        trial = np.column_stack([v[good] - 1e-4, v[good] + 1e-4])
        y, _ = overshoot(np.repeat(good, 2), trial.ravel())
        y = y.reshape(-1, 2)
        slope = (y[:, 1] - y[:, 0]) / 2e-4
        v[good] = v[good] - y.mean(axis=1) / slope
    return v

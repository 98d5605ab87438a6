"""Points of a curve where it needs them: intervals are halved until their middles are foretold."""

from collections.abc import Callable

import numpy as np

from circuits.errors import ParameterError
from circuits.search import Floats

Measure = Callable[[Floats], Floats]
Interpolate = Callable[[Floats, Floats], Callable[[Floats], Floats]]


def pchip(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Return the monotone cubic through rows of y, as the look-up models interpolate thresholds."""
    from scipy.interpolate import PchipInterpolator

    curve: Callable[[Floats], Floats] = PchipInterpolator(x, y)
    return curve


def spline(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Return the cubic spline through rows of y, as the model of the cell interpolates."""
    from scipy.interpolate import CubicSpline

    curve: Callable[[Floats], Floats] = CubicSpline(x, y)
    return curve


def refine(
    x: Floats,
    measure: Measure,
    bar: float,
    *,
    most: int,
    interpolate: Interpolate = pchip,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Floats, Floats]:
    """Measure a curve on an axis that is refined where interpolation errs.

    The middle of every interval is measured. Where the interpolation of the points before misses it
    by more than the bar, both halves are intervals of the next round. All that was measured is
    kept, so accepted halves err by less: 8 to 16 times where the curve is smooth. A middle that is
    met by chance, as the centre of a symmetric step, hides its interval: start with enough points.

    Parameters
    ----------
    x : (n,) float array
        The first axis, increasing, 4 points or more.
    measure : function of (n,) x to (n, k) values
        Called once a round; NaN where it failed, whose interval is not halved further.
    bar : float
        Largest miss of any of the k values.
    most : int
        Points after which no interval is halved.
    interpolate : function of x, values to a curve
    within : pair of float
        Values that matter: a miss elsewhere is none.

    Returns
    -------
    axis (m,) and values (m, k)

    Raises
    ------
    ParameterError
        The bar is not a positive number.
    """
    if not bar > 0.0:
        raise ParameterError(f"a bar of {bar:g} cannot be met; permitted: more than 0")
    y = measure(x)
    low = x[:-1]
    while low.size:
        high = x[np.searchsorted(x, low) + 1]
        middle = (low + high) / 2
        found = measure(middle)
        good = np.isfinite(y).all(axis=1)
        told = interpolate(x[good], y[good])(middle) if good.sum() > 1 else np.full_like(found, 0)
        matters = (found >= within[0]) & (found <= within[1])
        missed = ((np.abs(found - told) > bar) & matters).any(axis=1)
        order = np.argsort(np.concatenate([x, middle]))
        x = np.concatenate([x, middle])[order]
        y = np.concatenate([y, found])[order]
        low = np.sort(np.concatenate([low[missed], middle[missed]]))
        if x.size + low.size > most:
            break
    return x, y

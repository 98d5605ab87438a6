"""Windows of a function from decision trees, one for each output bit, as NL-DPE makes them.

`behavioral.windows` places the same windows exactly; it is the oracle of this step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.windows import Function, Windows
from circuits.errors import NldpeError, ParameterError

SAMPLES = 5000  # of a function, evenly spaced: the published number


def fit_windows(
    f: Function,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    bits: int = 8,
    gray: bool = True,
    samples: int = SAMPLES,
) -> Windows:
    """Fit one tree per output bit on samples of the quantised function; leaves of 1 become rows.

    Parameters
    ----------
    f : callable, vectorised
    x_range, y_range : (float, float)
        Ends of the samples [units of x], and values of code 0 and of the top code [units of y].
    bits, gray : of the output code.
    samples : evenly spaced inputs. A window narrower than their distance can be missed.

    Raises
    ------
    ParameterError
        Fewer than two samples, or an empty range.
    NldpeError
        scikit-learn is not installed.

    References
    ----------
    NL-DPE, arXiv 2511.13950: independent trees per output bit, 5,000 samples.
    """
    (x_lo, x_hi), (low, high) = x_range, y_range
    if samples < 2 or not (x_lo < x_hi and low < high):
        raise ParameterError(
            f"{samples} samples of x in {x_range}, y in {y_range}: give at least two samples, and "
            "ranges whose lower end comes first"
        )
    x = np.linspace(x_lo, x_hi, samples)
    top = 2**bits - 1
    code = np.clip(np.floor((f(x) - low) / (high - low) * top + 0.5), 0, top).astype(np.int64)
    word = code ^ (code >> 1) if gray else code
    leaves = [_leaves_of_one(x, (word >> b) & 1) for b in range(bits)]
    ends = np.concatenate(leaves)
    return Windows(
        ends[:, 0], ends[:, 1], np.repeat(np.arange(bits), [len(part) for part in leaves]),
        bits, gray, (float(x_lo), float(x_hi)), (float(low), float(high)),
    )  # fmt: skip


def _leaves_of_one(x: NDArray[np.float64], ones: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intervals (rows, 2) of the leaves that predict 1, from left to right."""
    if not ones.any() or ones.all():
        return np.full((int(ones.all()), 2), (-np.inf, np.inf))
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ModuleNotFoundError as error:
        raise NldpeError(
            f"step trees needs {error.name}; install the extra: pip install 'nldpe-cosim[train]'"
        ) from error
    # scikit-learn holds inputs in float32: counted in samples, splits lie exactly midway.
    place = np.arange(len(x), dtype=np.float64)
    tree = DecisionTreeClassifier(random_state=0).fit(place[:, None], ones).tree_
    inner = tree.children_left >= 0
    cuts = np.sort(tree.threshold[inner])
    edges = np.concatenate([[-np.inf], np.interp(cuts, place, x), [np.inf]])
    middles = np.concatenate([[-1.0], (cuts[:-1] + cuts[1:]) / 2, [float(len(x))]])
    kind = tree.value[tree.apply(middles[:, None].astype(np.float32)), 0].argmax(axis=1)
    return np.asarray(np.stack([edges[:-1], edges[1:]], axis=1)[kind == 1], np.float64)

"""The gate: conditions on the figures of a validation, for continuous integration."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from circuits.errors import ParameterError

METRICS = {
    "column_rms_lsb": "root mean square column error, all points",
    "column_max_lsb": "largest column error",
    "line_rms_lsb": "the same, outputs on the data line only: others saturate",
    "line_max_lsb": "largest column error on the data line",
    "fine_rms_lsb": "column error in the second read-out range, in its LSB",
    "fine_max_lsb": "the largest of these",
    "column_bias_lsb": "magnitude of the mean column error",
    "layer_rms_lsb": "column_rms_lsb of the worst layer",
    "layer_bias_lsb": "magnitude of the mean column error of the worst layer",
    "code_equal": "share of equal ACAM codes",
    "code_agreement": "share of ACAM codes equal or adjacent",
    "code_max": "largest difference of ACAM codes",
    "points": "column outputs compared",
    "searches": "ACAM conversions compared",
    "score_shift": "with --propagate: magnitude of the change of accuracy (or perplexity)",
}
SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """One bound on one metric."""

    metric: str
    sign: str
    bound: float

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Tell whether the bound is kept; a missing or undefined figure never keeps it."""
        value = figures.get(self.metric, math.nan)
        return SIGNS[self.sign](value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.bound:g}"


def parse(text: str) -> list[Condition]:
    """Read conditions such as ``column_rms_lsb<0.1,code_agreement>0.999``.

    Raises
    ------
    ParameterError
        A condition of another form, an unknown metric, or no finite bound.
    """
    return [_condition(part) for part in text.split(",")]


def _condition(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ParameterError(
            f"--require {text!r} is not of the form METRIC<NUMBER (signs: {', '.join(SIGNS)}), "
            "for example column_rms_lsb<0.1,code_agreement>0.999"
        )
    metric, sign, number = found.groups()
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ParameterError(
            f"--require: no metric is called {metric!r}{hint}; metrics: {', '.join(METRICS)}"
        )
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise ParameterError(f"--require {metric}{sign}{number}: {number!r} is not a finite number")
    return Condition(metric, sign, bound)


def check(conditions: list[Condition], figures: Mapping[str, float]) -> tuple[str, bool]:
    """Return a line for each condition with the measured figure, and whether all hold."""
    lines = []
    for condition in conditions:
        word = "held" if condition.holds(figures) else "NOT HELD"
        value = figures.get(condition.metric, math.nan)
        lines.append(f"require {condition}: {word} (measured {value:.6g})")
    return "\n".join(lines), all(c.holds(figures) for c in conditions)

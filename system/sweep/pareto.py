"""The Pareto front: points that no other point beats in one objective and equals in the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from circuits.errors import ParameterError
from system.sweep.table import COSTS, Row

OBJECTIVES = ("accuracy", "worst", "energy", "latency", "area")
_COST_OF = dict(zip(("energy", "latency", "area"), COSTS, strict=True))


def read_objectives(text: str) -> tuple[str, ...]:
    """Read `accuracy,energy,area`.

    Raises
    ------
    ParameterError
        An objective is unknown, or there are fewer than two.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [name for name in found if name not in OBJECTIVES]
    if unknown:
        raise ParameterError(
            f"--objective {unknown[0]!r} is not known; permitted: {', '.join(OBJECTIVES)}"
        )
    if len(found) < 2:
        raise ParameterError("--objective: a front needs two of them, for example accuracy,energy")
    return found


def objective(row: Row, name: str) -> float:
    """Return an objective of a row in its own unit; NaN where it has none.

    "accuracy" is the mean of the network's metric, whichever it is, "worst" that of the worst chip.
    """
    if name in _COST_OF:
        return float(row.cost.get(_COST_OF[name], math.nan))
    return row.mean if name == "accuracy" else row.worst


def check_metrics(metrics: Iterable[str]) -> None:
    """Refuse networks whose metrics cannot be compared.

    Raises
    ------
    ParameterError
        There is more than one metric.
    """
    found = sorted(set(metrics))
    if len(found) > 1:
        raise ParameterError(
            f"the networks are scored by {', '.join(found)}, which cannot be compared; explore "
            "them one by one"
        )


def mark_front(rows: Sequence[Row], objectives: Sequence[str]) -> None:
    """Set `pareto` of every row; rows without a result are not on the front."""
    lower = np.array([[_to_minimise(row, name) for name in objectives] for row in rows])
    usable = np.isfinite(lower).all(axis=1)
    for row, mine, own in zip(rows, lower, usable, strict=True):
        others = lower[usable]
        better = (others <= mine).all(axis=1) & (others < mine).any(axis=1)
        row.pareto = bool(own and not better.any())


def _to_minimise(row: Row, name: str) -> float:
    value = objective(row, name)
    return value if name in _COST_OF or row.metric == "perplexity" else -value

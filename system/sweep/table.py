"""One row a point: what its chips gave, as text and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from system.cost.report import align, engineering
from system.sweep.axes import Axis
from system.sweep.points import Point

COSTS = ("energy_j", "latency_s", "area_m2")


@dataclass
class Row:
    """Results of a point.

    Attributes
    ----------
    point : Point
    mode, metric : of every chip.
    samples : images or windows.
    scores : what `scoring.perform` gave, by chip.
    cost : energy_j, latency_s and area_m2, where asked for.
    reason : why the point has no result; empty if it has one.
    pareto : on the front of an exploration; None in a sweep.
    """

    point: Point
    mode: str
    metric: str
    samples: int
    scores: dict[int, dict[str, Any]] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    pareto: bool | None = None

    @property
    def values(self) -> list[float]:
        """The metric of each chip, in order."""
        return [self.scores[chip]["value"] for chip in sorted(self.scores)]

    @property
    def mean(self) -> float:
        """The mean over chips; NaN without a result."""
        return float(np.mean(self.values)) if self.scores and not self.reason else math.nan

    @property
    def std(self) -> float:
        """The sample standard deviation over chips; 0 for a single one."""
        if not self.scores or self.reason:
            return math.nan
        return float(np.std(self.values, ddof=1)) if len(self.scores) > 1 else 0.0

    @property
    def worst(self) -> float:
        """The chip that does worst."""
        if not self.scores or self.reason:
            return math.nan
        return max(self.values) if self.metric == "perplexity" else min(self.values)

    @property
    def percent(self) -> bool:
        """Whether the metric is a share."""
        return self.metric != "perplexity"

    def score_text(self) -> str:
        """Return mean and spread for people."""
        if self.reason:
            return "none"
        scale, unit = (100.0, " %") if self.percent else (1.0, "")
        spread = f" +/- {self.std * scale:.2f}" if len(self.scores) > 1 else ""
        return f"{self.mean * scale:.2f}{spread}{unit}"

    def worst_text(self) -> str:
        """Return the worst chip for people."""
        return "" if self.reason else f"{self.worst * (100.0 if self.percent else 1.0):.2f}"


def to_csv(rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """Return one line a point; accuracy as a share, costs in SI units."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [axis.column for axis in axes]
    front = ["pareto"] if any(row.pareto is not None for row in rows) else []
    mode = [] if "mode" in names else ["mode"]
    writer.writerow(
        ["model", *names, *mode, "metric", "mean", "std", "worst", "chips", "samples", "values",
         "clipped_share", "seconds", *COSTS, *front, "library_sha256", "failure"]
    )  # fmt: skip
    for row in rows:
        scores = row.scores.values()
        lookups = sum(s["conversions"] for s in scores)
        clipped = sum(s["clipped"] for s in scores) / lookups if lookups else 0.0
        first = next(iter(scores), row.cost)
        writer.writerow(
            [row.point.model, *row.point.values, *([row.mode] if mode else []), row.metric,
             _number(row.mean), _number(row.std), _number(row.worst), len(row.scores), row.samples,
             ";".join(_number(v) for v in row.values), _number(clipped),
             f"{sum(s['seconds'] for s in scores):.3f}",
             *(_number(row.cost.get(name, math.nan)) for name in COSTS),
             *(["yes" if row.pareto else "no"] if front else []),
             first.get("library_sha256", ""), row.reason]
        )  # fmt: skip
    return stream.getvalue()


def to_text(rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """Return the table for the terminal."""
    costly = any(row.cost for row in rows)
    front = any(row.pareto is not None for row in rows)
    head = ["model", *(axis.key for axis in axes), rows[0].metric, "worst chip"]
    lines = [tuple([*head, *(["energy", "latency", "area"] * costly), *(["front"] * front)])]
    for row in rows:
        line = [row.point.model, *row.point.values, row.score_text(), row.worst_text()]
        if costly:
            line += _cost_text(row.cost)
        if front:
            line.append("yes" if row.pareto else "")
        lines.append(tuple(line))
    failures = [f"no result for {row.point.model} {row.point.values}: {row.reason}"
                for row in rows if row.reason]  # fmt: skip
    return "\n".join([align(lines, "l" + "r" * (len(lines[0]) - 1)), *failures])


def _cost_text(cost: dict[str, Any]) -> list[str]:
    if not cost:
        return ["", "", ""]
    energy, latency = engineering(cost["energy_j"], "J"), engineering(cost["latency_s"], "s")
    return [energy, latency, f"{cost['area_m2'] * 1e6:.4g} mm2"]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.7g}"

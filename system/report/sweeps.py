"""Sweeps, explorations and tables of accuracy: plots and tables of their rows."""

from __future__ import annotations

import itertools
import math
from functools import partial

from system.cost.report import engineering
from system.report.document import Figure, Gallery, Section, Table
from system.report.figures import draw_figure
from system.report.material import Material
from system.report.studies import StudyTable
from system.sweep.pareto import objective
from system.sweep.plots import draw_lines, draw_scatter
from system.sweep.table import COSTS

OBJECTIVES = ("energy", "latency", "area")


def section(material: Material) -> Section | None:
    """Return the section; None without a study."""
    blocks: list[Gallery | Table] = []
    for k, study in enumerate(material.studies):
        figures = _figures(study, f"sweep-{k}")
        if figures:
            blocks.append(Gallery(tuple(figures)))
        blocks.append(_table(study))
    return Section("sweeps", "Sweeps", tuple(blocks)) if blocks else None


def _figures(study: StudyTable, name: str) -> list[Figure]:
    rows = [row for row in study.rows if not row.reason and row.scores]
    if not rows or study.kind == "accuracy" or not study.axes:
        return []
    if study.kind == "explore":
        return _fronts(study, name)
    title = f"{study.name}: {', '.join(axis.key for axis in study.axes)}"
    metrics = list(dict.fromkeys(row.metric for row in rows))
    return [
        draw_figure(
            f"{name}-{k}",
            title,
            partial(draw_lines, rows=[r for r in rows if r.metric == metric], axes=study.axes),
            alt=f"{metric} over {study.axes[0].label}; the values stand in the table below.",
            caption="Means over chips, bars: standard deviation, crosses: the worst chip.",
            height=3.2,
        )
        for k, metric in enumerate(metrics)
    ]


def _fronts(study: StudyTable, name: str) -> list[Figure]:
    figures = []
    for other in OBJECTIVES:
        rows = [r for r in study.rows if r.scores and math.isfinite(objective(r, other))]
        if rows:
            figures.append(
                draw_figure(
                    f"{name}-{other}", f"{study.name}: {rows[0].metric} and {other}",
                    partial(draw_scatter, rows=rows, first="accuracy", name=other),
                    alt=f"Pareto front of {rows[0].metric} and {other}; see the table below.",
                    caption="Filled: on the front of all objectives; numbers as in the table.",
                    height=3.2,
                )
            )  # fmt: skip
    return figures


def _table(study: StudyTable) -> Table:
    costly = any(row.cost for row in study.rows)
    front = any(row.pareto is not None for row in study.rows)
    head = ["network", *(axis.label for axis in study.axes), "metric", "mean", "worst chip"]
    head += [*(["energy", "latency", "area"] * costly), *(["front"] * front)]
    numbers = itertools.count(1)  # as the figures have them
    rows = []
    for row in study.rows:
        mean = f"none: {row.reason}" if row.reason else row.score_text().replace("+/-", "±")
        line = [row.point.model, *row.point.values, row.metric, mean, row.worst_text()]
        if costly:
            energy, latency, area = (row.cost.get(key, math.nan) for key in COSTS)
            line += [engineering(energy, "J"), engineering(latency, "s"), f"{area * 1e6:.4g} mm2"]
        if front:
            line.append(str(next(numbers)) if row.pareto else "")
        rows.append(tuple(line))
    sides = "l" + "r" * len(study.axes) + "lrr" + "r" * (3 * costly + front)
    chips = max((len(row.scores) for row in study.rows), default=0)
    caption = f"{study.name} ({study.kind}): mean and standard deviation, up to {chips} chips."
    return Table(tuple(head), tuple(rows), sides, caption, (0,))

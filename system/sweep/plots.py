"""Plots of a sweep (a line a network, error bars over chips) and of a Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuits.files import write_picture
from system.sweep.axes import Axis
from system.sweep.pareto import objective
from system.sweep.points import label
from system.sweep.table import Row

LOG_FROM = 8.0  # ratio of largest to smallest value from which an axis is logarithmic
DODGE = 0.006  # between lines, of the width of the axis
MOST_TICKS = 12
LEGEND_BESIDE = 4  # lines from which the legend stands beside the plot
UNITS = {"energy": (1e9, "nJ"), "latency": (1e6, "us"), "area": (1e6, "mm2")}


def draw_sweep(rows: Sequence[Row], axes: Sequence[Axis], path: Path) -> None:
    """Draw the metric over the first axis, one line for each network and value of the others.

    Points are means over chips, bars standard deviations, crosses the worst chip.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    figure = _figure(7.5, 4.5 * len(metrics))
    panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    for ax, metric in zip(panels, metrics, strict=True):
        draw_lines(ax, [row for row in rows if row.metric == metric], axes)
    write_picture(path, figure, dpi=120)


def draw_front(
    rows: Sequence[Row], objectives: Sequence[str], axes: Sequence[Axis], path: Path
) -> None:
    """Draw the first objective against each other one; points of the front have numbers."""
    others = objectives[1:]
    figure = _figure(6.0 * len(others), 5.0)
    panels = figure.subplots(1, len(others), squeeze=False)[0]
    usable = [r for r in rows if all(math.isfinite(objective(r, name)) for name in objectives)]
    for ax, name in zip(panels, others, strict=True):
        draw_scatter(ax, usable, objectives[0], name)
    figure.legend(handles=_front_key(usable, axes), loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(f"Pareto front of {', '.join(objectives)}")
    write_picture(path, figure, dpi=120)


def draw_lines(ax: Any, rows: Sequence[Row], axes: Sequence[Axis]) -> None:
    """Draw rows of one metric into matplotlib axes; see `draw_sweep`."""
    first, varied = axes[0], {a.key: 1 for a in axes[1:] if len(a.values) > 1}
    places = first.numbers or [float(k) for k in range(len(first.values))]
    logarithmic = min(places) > 0 and max(places) / min(places) >= LOG_FROM
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(label(row.point, axes, varied), []).append(row)
    for k, (name, line) in enumerate(lines.items()):
        good = [row for row in line if not row.reason]
        # Bars of equal x would hide each other: every line stands a little aside.
        aside = DODGE * (k - (len(lines) - 1) / 2)
        x = [places[first.values.index(row.point.values[0])] for row in good]
        x = [_aside(v, aside, places, logarithmic) for v in x]
        scale = 100.0 if rows[0].percent else 1.0
        means, spreads, worst = (
            [scale * value for value in values]
            for values in ([r.mean for r in good], [r.std for r in good], [r.worst for r in good])
        )
        color = f"C{k % 10}"
        ax.errorbar(x, means, spreads, fmt="o-", ms=4, capsize=3, color=color, label=name)
        ax.plot(x, worst, "x", ms=5, color=color, alpha=0.6)
    if logarithmic:
        ax.set_xscale("log")
    if len(places) <= MOST_TICKS:
        ax.set_xticks(places, first.values)
        ax.minorticks_off()
    fixed = ", ".join(f"{a.key}={a.values[0]}" for a in axes[1:] if len(a.values) == 1)
    unit = " [%]" if rows[0].percent else ""
    ax.set(xlabel=first.label, ylabel=f"{rows[0].metric}{unit}; x: worst chip", title=fixed)
    ax.grid(alpha=0.3)
    if len(lines) >= LEGEND_BESIDE:
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        ax.legend(fontsize=8)


def _aside(x: float, share: float, places: Sequence[float], logarithmic: bool) -> float:
    """Return a place moved by a share of the axis."""
    if logarithmic:
        return float(x * (max(places) / min(places)) ** share)
    return x + share * (max(places) - min(places))


def draw_scatter(ax: Any, rows: Sequence[Row], first: str, name: str) -> None:
    """Draw one objective against another into matplotlib axes; see `draw_front`."""
    factor, unit = UNITS.get(name, (100.0 if rows and rows[0].percent else 1.0, ""))
    colors = _colors(rows)
    for front in (False, True):
        for model, color in colors.items():
            chosen = [r for r in rows if r.point.model == model and r.pareto == front]
            x = [objective(r, name) * factor for r in chosen]
            y = [objective(r, first) * _scale(r, first) for r in chosen]
            spread = [r.std * _scale(r, first) if first == "accuracy" else 0.0 for r in chosen]
            ax.errorbar(
                x, y, spread, fmt="o", ms=6 if front else 4, color=color,
                mfc=None if front else "white", capsize=2, alpha=1.0 if front else 0.5,
            )  # fmt: skip
    best = [r for r in rows if r.pareto]
    _number(
        ax, [(objective(r, name) * factor, objective(r, first) * _scale(r, first)) for r in best]
    )
    metric = rows[0].metric if rows and first == "accuracy" else first
    percent = " [%]" if rows and rows[0].percent and first not in UNITS else ""
    ax.set(xlabel=f"{name} [{unit}]" if unit else name, ylabel=f"{metric}{percent}")
    ax.grid(alpha=0.3)


def _colors(rows: Sequence[Row]) -> dict[str, str]:
    models = dict.fromkeys(row.point.model for row in rows)
    return {model: f"C{k % 10}" for k, model in enumerate(models)}


def _number(ax: Any, points: Sequence[tuple[float, float]]) -> None:
    """Write the number of each point beside it; points on one spot share a text."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    spots: dict[tuple[int, int], list[int]] = {}
    for k, (x, y) in enumerate(points):
        spot = round((x - left) / (right - left) * 40), round((y - low) / (high - low) * 25)
        spots.setdefault(spot, []).append(k)
    for numbers in spots.values():
        text = ", ".join(str(k + 1) for k in numbers)
        ax.annotate(
            text, points[numbers[0]], xytext=(6, 4), textcoords="offset points", fontsize=8,
            weight="bold", bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"},
        )  # fmt: skip


def _front_key(rows: Sequence[Row], axes: Sequence[Axis]) -> list[Any]:
    """Return what the numbers of the front stand for."""
    from matplotlib.lines import Line2D

    colors, varied = _colors(rows), {a.key: 1 for a in axes if len(a.values) > 1}
    return [
        Line2D(
            [], [], ls="", marker=f"${k}$", color=colors[row.point.model],
            label=label(row.point, axes, varied),
        )
        for k, row in enumerate((r for r in rows if r.pareto), 1)
    ]  # fmt: skip


def _scale(row: Row, name: str) -> float:
    if name in UNITS:
        return UNITS[name][0]
    return 100.0 if row.percent else 1.0


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure

"""Breakdown plots: machines, layers, area."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuits.files import write_picture
from system.cost.model import Cost
from system.cost.report import engineering, grouped
from system.cost.study import Study

# Component colours are the same in all panels; the eye should find SPICE results (blue) first.
COLORS = {
    "cells": "#1f4e79",
    "acam": "#5e81ac",
    "amplifier": "#bf616a",
    "dac": "#d08770",
    "row driver": "#c66b3d",
    "adc": "#bf616a",
    "gray decoder": "#8fbcbb",
    "range choice": "#88c0d0",
    "register": "#a3be8c",
    "adder": "#ebcb8b",
    "vector unit": "#b48ead",
    "shift-add": "#ebcb8b",
    "buffer": "#4c566a",
    "bus": "#7b88a1",
    "router": "#aeb7c6",
    "link": "#000000",
    "crossbar": "#1f4e79",
}
SHOWN = 14  # rows of the layer panel


def draw(study: Study, path: Path) -> None:
    """Draw energy by machine, energy by layer and area by component to an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(study.ours)
    figure = Figure(figsize=(13, 4.2 * count + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 3, squeeze=False, width_ratios=(1.0, 1.5, 0.8))
    for k, cost in enumerate(study.ours):
        draw_machines(axes[k, 0], (cost, *study.others[k]))
        draw_layers(axes[k, 1], cost)
        _draw_area(axes[k, 2], study) if k == 0 else axes[k, 2].axis("off")
    figure.suptitle(f"{study.model}: {_title(study)}")
    write_picture(path, figure, dpi=130)


def _title(study: Study) -> str:
    library = study.machine.library
    return f"device {library.device.name}, technology {library.technology.name}"


def draw_machines(ax: Any, costs: tuple[Cost, ...]) -> None:
    """Stack the energies of each machine's components."""
    scale, unit = _scale(max(c.energy_j for c in costs))
    for k, cost in enumerate(costs):
        bottom = 0.0
        for name, joules in sorted(cost.energies.items(), key=lambda x: -x[1]):
            ax.bar(k, joules * scale, 0.7, bottom=bottom, color=COLORS[name])
            if joules > 0.09 * max(c.energy_j for c in costs):
                middle = bottom + joules * scale / 2
                ax.text(k, middle, name, ha="center", va="center", fontsize=7, color="white")
            bottom += joules * scale
        ax.text(k, bottom, engineering(cost.energy_j, "J"), ha="center", va="bottom", fontsize=8)
    ax.set_xticks(range(len(costs)), [c.machine for c in costs], fontsize=8)
    ax.set_ylabel(f"energy [{unit}J]")
    batch = costs[0].batch
    items = f"one {costs[0].what}" if batch == 1 else f"a batch of {batch} {costs[0].what}s"
    ax.set_title(items, fontsize=10)
    ax.margins(y=0.1)


def draw_layers(ax: Any, cost: Cost, columns: int = 5) -> None:
    """Stack the components of the layers that take most; `columns` of the key below."""
    layers = grouped(cost)
    largest = sorted(layers, key=lambda x: -x.total_j)[:SHOWN]
    shown = [x for x in layers if any(x is y for y in largest)][::-1]
    scale, unit = _scale(max(x.total_j for x in shown))
    for k, layer in enumerate(shown):
        left = 0.0
        for name, joules in layer.energy_j.items():
            ax.barh(k, joules * scale, 0.75, left=left, color=COLORS[name])
            left += joules * scale
    ax.set_yticks(range(len(shown)), [x.name for x in shown], fontsize=7)
    ax.set_xlabel(f"energy of one {cost.what} [{unit}J]")
    handles = [_patch(COLORS[n], n) for n, e in cost.energies.items() if e > 0.002 * cost.energy_j]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 5.5}
    ax.legend(handles=handles, fontsize=7, ncols=columns, frameon=False, **below)
    ax.set_xlim(0.0, 1.04 * scale * max(x.total_j for x in shown))
    ax.set_title("NL-DPE, by layer", fontsize=10)


def _draw_area(ax: Any, study: Study) -> None:
    """Draw the components of a tile."""
    areas = sorted(study.machine.chip.tile_areas().items(), key=lambda x: x[1])
    areas = [(name, area) for name, area in areas if area > 0]
    ax.barh(
        range(len(areas)), [a * 1e6 for _, a in areas], color=[COLORS[name] for name, _ in areas]
    )
    ax.set_yticks(range(len(areas)), [name for name, _ in areas], fontsize=8)
    ax.set_xlabel("area [mm2], not scaled")
    ax.set_title("one tile", fontsize=10)


def _patch(color: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=color, label=label)


def _scale(largest: float) -> tuple[float, str]:
    """Return factor and SI prefix of an energy axis."""
    for limit, scale, prefix in ((1e-3, 1e3, "m"), (1e-6, 1e6, "u"), (1e-9, 1e9, "n")):
        if largest >= limit:
            return scale, prefix
    return 1e12, "p"

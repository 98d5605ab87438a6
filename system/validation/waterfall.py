"""Where accuracy goes, from exact arithmetic to the circuit: a waterfall with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.files import write_picture
from system.hardware import Chip
from system.inference import arithmetic
from system.networks import Network
from system.validation.agreement import LayerReport
from system.validation.injection import InjectedOps
from system.validation.sampling import hardware_of

RUNGS = ("float", "quantized", "ideal-analog", "noisy", "spice-corrected")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rung:
    """One step of the waterfall.

    Attributes
    ----------
    values : the metric of each chip; with injections the mean of each chip's.
    half_width : of the 95 % confidence interval of the mean over chips (Student's t); None with
        one value. The test samples are the same throughout and not part of it.
    change : mean less that of the rung before.
    change_half_width : of that change, over chips where both rungs have the same chips.
    """

    name: str
    mean: float
    half_width: float | None
    change: float | None
    change_half_width: float | None
    values: list[float]


@dataclass(frozen=True)
class Waterfall:
    """Accuracy (or perplexity) in every mode and with the measured errors injected.

    Attributes
    ----------
    injections : list of list of float
        Metric of every injection on every chip, behind the last rung.
    confusions : share of conversions that were given another code, by layer.
    """

    model: str
    metric: str
    samples: int
    chips: int
    rungs: list[Rung]
    injections: list[list[float]]
    confusions: dict[str, float]

    @property
    def shift(self) -> float:
        """Magnitude of what the measured errors change."""
        return abs(self.rungs[-1].change or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**asdict(self), "shift": self.shift, "confidence": CONFIDENCE}

    def __str__(self) -> str:
        scale, unit, digits = (100.0, "%", 3) if self.metric != "perplexity" else (1.0, "", 3)
        lines = [f"{'':16}  {self.metric + ' ' + unit:>12}  {'95 % +/-':>9}  {'change':>9}  +/-"]
        for rung in self.rungs:
            cells = [f"{rung.name:16}", f"{rung.mean * scale:12.{digits}f}"]
            numbers = ((rung.half_width, 9), (rung.change, 9), (rung.change_half_width, 0))
            for (value, width), sign in zip(numbers, ("", "+", ""), strict=True):
                text = "" if value is None else f"{value * scale:{sign}.{digits}f}"
                cells.append(f"{text:>{width}}")
            lines.append("  ".join(cells).rstrip())
        count = len(self.injections[0])
        lines.append(
            f"{self.samples} samples, {self.chips} chips, {count} injections on each; intervals "
            f"over chips{self._sampling()}"
        )
        return "\n".join(lines)

    def _sampling(self) -> str:
        """Say how far the choice of test samples alone may move an accuracy (binomial)."""
        if self.metric == "perplexity":
            return ""
        p = self.rungs[-1].mean
        return f"; the choice of samples: +/- {196.0 * np.sqrt(p * (1 - p) / self.samples):.2f} %"


def waterfall(
    network: Network,
    library: Library,
    reports: list[LayerReport],
    *,
    samples: int,
    chips: int = 3,
    injections: int = 3,
    seed: int = 0,
) -> Waterfall:
    """Score a network from float arithmetic to noisy silicon corrected by ngspice.

    Parameters
    ----------
    network, library : Network, Library
    reports : list of LayerReport
        Measured errors; drawn anew for every chip and injection.
    samples : images, or windows of text.
    chips, injections : programmed chips, and injections on each.
    seed : keys the draws of all chips and injections.
    """
    inputs = network.samples(samples)
    values: dict[str, list[float]] = {name: [] for name in RUNGS}
    drawn = []
    with one_blas_thread():
        for mode in RUNGS[:3]:
            ops = arithmetic(network, library, mode, Chip(seed))
            values[mode].append(network.score(ops, inputs, f"{network.name} {mode}"))
        for index in range(chips):
            chip = Chip(seed, index, "frozen")
            hardware = hardware_of(network, library)
            injected = InjectedOps(
                network.model.tensors, network.ranges, hardware, chip, reports=reports
            )
            label = f"{network.name} chip {index}"
            values["noisy"].append(network.score(injected, inputs, f"{label} noisy"))
            found = []
            for draw in range(injections):
                injected.start(draw)
                found.append(network.score(injected, inputs, f"{label} injection {draw}"))
            drawn.append(found)
            values["spice-corrected"].append(float(np.mean(found)))
    confusions = {r.name: 1.0 - r.code_equal for r in reports}
    rungs = make_rungs(values)
    return Waterfall(network.name, network.metric, len(inputs), chips, rungs, drawn, confusions)


def make_rungs(values: dict[str, list[float]]) -> list[Rung]:
    """Return a rung for the chips' values of each mode, in order, with its change."""
    rungs: list[Rung] = []
    for name, found in values.items():
        change = width = None
        if rungs:
            before = rungs[-1].values
            change = float(np.mean(found) - np.mean(before))
            paired = len(before) in (1, len(found))
            width = half_width(np.subtract(found, before).tolist()) if paired else None
        rungs.append(Rung(name, float(np.mean(found)), half_width(found), change, width, found))
    return rungs


def half_width(values: list[float]) -> float | None:
    """Return half the confidence interval of a mean: Student's t, None for a single value."""
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return None
    spread = float(np.std(values, ddof=1)) / np.sqrt(count)
    return float(t.ppf(0.5 + CONFIDENCE / 2, count - 1) * spread)


def draw(result: Waterfall, path: Path) -> None:
    """Draw the waterfall to an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    draw_rungs(figure.subplots(), result)
    write_picture(path, figure, dpi=130)


def draw_rungs(ax: Any, result: Waterfall) -> None:
    """Draw a bar from each rung to the next into matplotlib axes; losses red, gains green."""
    percent = result.metric != "perplexity"
    scale = 100.0 if percent else 1.0
    mean = [r.mean * scale for r in result.rungs]
    for k, rung in enumerate(result.rungs):
        low, high = (mean[k], mean[k]) if k == 0 else sorted((mean[k - 1], mean[k]))
        worse = k > 0 and (mean[k] < mean[k - 1]) == percent
        color = "#bf616a" if worse else "#a3be8c"
        ax.bar(k, high - low, bottom=low, width=0.62, color=color)
        bar = None if rung.half_width is None else rung.half_width * scale
        ax.errorbar(k, mean[k], yerr=bar, fmt="_", color="#2e3440", markersize=32, capsize=3)
        text = f"{mean[k]:.2f}"
        ax.annotate(text, (k, high), xytext=(5, 5), textcoords="offset points")
        if k:
            ax.plot([k - 1, k], [mean[k - 1]] * 2, color="#4c566a", linewidth=0.7, linestyle=":")
    ax.set_xticks(range(len(mean)), [r.name.replace("-", "-\n") for r in result.rungs])
    ax.set_ylabel(f"{result.metric} [%]" if percent else result.metric)
    ax.set_title(f"{result.model}: {result.samples} samples, {result.chips} chips", fontsize=10)
    ax.use_sticky_edges = False  # room below bars that end at the lowest value
    ax.margins(y=0.25)

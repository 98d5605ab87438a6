"""Accuracy: a table of every network in every mode, and where it goes, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from system.engine import MODES
from system.inference import Result
from system.report.document import Block, Card, Figure, Gallery, Section, Table, Text
from system.report.figures import draw_figure
from system.report.material import Material
from system.report.records import Evaluation, Simulation
from system.validation.waterfall import CONFIDENCE, Rung, Waterfall, draw_rungs, make_rungs


@dataclass
class Scores:
    """What one network gave in the modes that were run.

    Attributes
    ----------
    label : its name, and how its circuits vary from the usual ones.
    """

    label: str
    model: str
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """What the network is scored by."""
        return next(iter(self.results.values())).metric

    @property
    def samples(self) -> str:
        """How many samples, or several numbers where modes differ."""
        return " / ".join(dict.fromkeys(str(r.samples) for r in self.results.values()))


def gather(evaluations: Sequence[Evaluation]) -> list[Scores]:
    """Return the results by network and variation; of two for one mode, both are kept."""
    found: list[Scores] = []
    for item in evaluations:
        result = item.result
        label = f"{result.model} ({item.variation})" if item.variation else result.model
        place = next((s for s in found if s.label == label and result.mode not in s.results), None)
        if place is None:
            place = Scores(label, result.model)
            found.append(place)
        place.results[result.mode] = result
    return found


def results_table(scores: Sequence[Scores]) -> Table:
    """Return one row a network, one column a mode: mean and spread over chips."""
    rows = [
        (s.label, s.metric, s.samples,
         *(_score(s.results[mode]) if mode in s.results else "" for mode in MODES))
        for s in scores
    ]  # fmt: skip
    return Table(
        ("network", "metric", "samples", *MODES), tuple(rows), "ll" + "r" * (1 + len(MODES)),
        "Mean and standard deviation over programmed chips. Perplexity: lower is better.", (0,),
    )  # fmt: skip


def scaled(value: float, metric: str, *, signed: bool = False) -> str:
    """Return a metric, or a change of it, for people."""
    sign = "+" if signed else ""
    if metric == "perplexity":
        return f"{value:{sign}.2f}"
    return f"{100.0 * value:{sign}.2f} {'points' if signed else '%'}"


def _score(result: Result) -> str:
    if result.chips < 2:
        return scaled(result.mean, result.metric)
    scale, unit = (1.0, "") if result.metric == "perplexity" else (100.0, " %")
    return f"{result.mean * scale:.2f} ± {result.std * scale:.2f}{unit}"


def waterfalls(material: Material) -> list[tuple[Waterfall, str]]:
    """Return the waterfall of every network, each with a note on where its last bar is from."""
    found = [
        (replay.waterfall, "spice-corrected: the noisy chips with the errors that ngspice found")
        for replay in material.replays
        if replay.waterfall is not None
    ]
    known = {waterfall.model for waterfall, _ in found}
    for scores in gather(material.evaluations):
        if scores.model not in known and len(scores.results) > 1:
            whole = [s for s in material.simulations if s.model == scores.model and s.run.whole]
            found.append(_from_results(scores, whole))
    return found


def _from_results(scores: Scores, whole: Sequence[Simulation]) -> tuple[Waterfall, str]:
    modes = [mode for mode in MODES if mode in scores.results]
    rungs = make_rungs({mode: scores.results[mode].values for mode in modes})
    last = scores.results[modes[-1]]
    note = "no ngspice step: add the JSON of `nldpe validate --propagate`"
    if whole and last.metric == "accuracy":
        run = whole[0].run
        share = run.right / run.images
        rungs.append(Rung("spice", share, None, share - rungs[-1].mean, None, [share]))
        note = (
            f"spice: {run.images} images wholly in ngspice, {run.right_model} of them right on the "
            "models; another, smaller sample than the other bars"
        )
    return Waterfall(scores.label, last.metric, last.samples, last.chips, rungs, [], {}), note


def waterfall_figure(waterfall: Waterfall, note: str, name: str) -> Figure:
    """Draw a waterfall."""
    first, last = waterfall.rungs[0], waterfall.rungs[-1]
    values = ", ".join(f"{r.name} {scaled(r.mean, waterfall.metric)}" for r in waterfall.rungs)
    return draw_figure(
        name,
        waterfall.model,
        lambda ax: draw_rungs(ax, waterfall),
        alt=f"Waterfall of {waterfall.metric} of {waterfall.model}: {values}.",
        caption=f"{waterfall.samples} samples, {waterfall.chips} chips; from {first.name} to "
        f"{last.name} {scaled(last.mean - first.mean, waterfall.metric, signed=True)}. {note}.",
    )


def _steps_table(waterfall: Waterfall) -> Table:
    metric = waterfall.metric

    def width(value: float | None) -> str:
        return "" if value is None else f"± {scaled(value, metric)}"

    rows = tuple(
        (
            rung.name,
            scaled(rung.mean, metric),
            width(rung.half_width),
            "" if rung.change is None else scaled(rung.change, metric, signed=True),
            width(rung.change_half_width),
        )
        for rung in waterfall.rungs
    )
    head = ("step", waterfall.metric, "interval", "change", "of the change")
    return Table(
        head, rows, "lrrrr",
        f"{waterfall.model}: {waterfall.samples} samples, {waterfall.chips} chips. Intervals: "
        f"{CONFIDENCE:.0%}, Student's t over chips.",
    )  # fmt: skip


def cards(material: Material, model: str) -> list[Card]:
    """Return key figures of a network's accuracy."""
    for scores in gather(material.evaluations):
        noisy, exact = scores.results.get("noisy"), scores.results.get("float")
        if scores.label == model and noisy is not None:
            note = "" if exact is None else f"float {scaled(exact.mean, exact.metric)}"
            return [Card(_score(noisy), f"{noisy.metric}, noisy", note)]
    for replay in material.replays:
        if replay.model == model and replay.waterfall is not None:
            fall = replay.waterfall
            first, last = fall.rungs[0], fall.rungs[-1]
            value, note = scaled(last.mean, fall.metric), scaled(first.mean, fall.metric)
            return [Card(value, f"{fall.metric}, {last.name}", f"{first.name} {note}")]
    return []


def section(material: Material) -> Section | None:
    """Return the section; None without results."""
    blocks: list[Block] = []
    falls = [
        (f, n) for f, n in waterfalls(material) if np.isfinite([r.mean for r in f.rungs]).all()
    ]
    if falls:
        blocks.append(
            Text(
                "From exact arithmetic to the circuit: `float`, 8-bit codes (`quantized`), "
                "circuits without device noise (`ideal-analog`), programmed chips (`noisy`), and "
                "what ngspice adds. Red: a loss, green: a gain; the scale does not begin at zero."
            )
        )
        figures = [waterfall_figure(f, n, f"waterfall-{k}") for k, (f, n) in enumerate(falls)]
        blocks.append(Gallery(tuple(figures)))
    if material.evaluations:
        blocks.append(results_table(gather(material.evaluations)))
    blocks += [_steps_table(fall) for fall, _ in falls if fall.injections]
    return Section("accuracy", "Accuracy", tuple(blocks)) if blocks else None

"""Agreement with ngspice: column errors and codes of every layer, and the worst points."""

from __future__ import annotations

import itertools
from typing import Any

from system.report.document import (
    Block,
    Card,
    Figure,
    Gallery,
    Listing,
    Notice,
    Section,
    Table,
    Text,
)
from system.report.figures import draw_figure
from system.report.material import Material
from system.report.records import LayerReplay, Replay, Simulation
from system.validation.agreement import DISTANCES

RMS_BAR, MAX_BAR = 0.1, 0.5  # LSB; docs/validation.md
LARGEST, RMS = "#b9c4d6", "#5e81ac"
SHOWN = 24  # layers of the figure


def error_figure(replay: Replay, name: str) -> Figure:
    """Draw rms and largest column error of every layer, or of those that are worst."""
    measured = [layer for layer in replay.layers if layer.points]  # products have no columns
    worst = sorted(measured, key=lambda layer: -layer.max_lsb)[:SHOWN]
    layers = [layer for layer in replay.layers if layer in worst][::-1]

    def draw(ax: Any) -> None:
        place = range(len(layers))
        ax.barh(place, [x.max_lsb for x in layers], 0.7, color=LARGEST, label="largest")
        ax.barh(place, [x.rms_lsb for x in layers], 0.34, color=RMS, label="rms")
        for bar, colour in ((RMS_BAR, RMS), (MAX_BAR, "#7b88a1")):
            ax.axvline(bar, color=colour, ls=":", lw=1.2)
        ax.set_yticks(list(place), [shorten(x.name) for x in layers])
        ax.set_xlabel("column error against ngspice [LSB]")
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    errors = "; ".join(
        f"{x.name} rms {x.rms_lsb:.3f}, largest {x.max_lsb:.3f}" for x in layers[::-1]
    )
    left_out = len(measured) - len(layers)
    return draw_figure(
        name,
        replay.model,
        draw,
        alt=f"Column error of {replay.model} in LSB: {errors}.",
        caption=f"Dotted: the project's bars, {RMS_BAR} LSB rms and {MAX_BAR} LSB at most."
        + (f" The {left_out} layers of smallest error are left out." if left_out else ""),
        height=1.3 + 0.22 * len(layers),
    )


def shorten(name: str) -> str:
    """Return a layer's name without what all layers of a decoder begin with."""
    return name.removeprefix("model.layers.").replace("self_attn.", "")


def _layer_table(replay: Replay) -> Table:
    refined = any(layer.fine_max_lsb for layer in replay.layers)
    rows = tuple(
        (
            x.name, *_column_cells(x), *([f"{x.fine_max_lsb:.3f}"] * refined),
            f"{100 * x.code_equal:.2f} %", f"{100 * x.code_agreement:.2f} %",
            f"{x.points:,}", f"{x.searches:,}",
        )
        for x in replay.layers
    )  # fmt: skip
    head = ("layer", "rms", "largest", "on the line", "bias", *(["fine range"] * refined),
            "codes equal", "or adjacent", "outputs", "searches")  # fmt: skip
    caption = (
        f"{replay.model}: column errors in LSB, model minus ngspice. All layers: rms "
        f"{replay.column_rms_lsb:.3f}, largest {replay.column_max_lsb:.3f}, on the data line "
        f"{replay.line_max_lsb:.3f} LSB; codes {100 * replay.code_equal:.2f} % equal, "
        f"{100 * replay.code_agreement:.2f} % equal or adjacent."
    )
    return Table(head, rows, "l" + "r" * (len(head) - 1), caption, (0,))


def _column_cells(layer: LayerReplay) -> tuple[str, ...]:
    """Return the column errors of a layer; blocks of products have none."""
    if not layer.points:
        return ("",) * 4
    errors = (layer.rms_lsb, layer.max_lsb, layer.line_max_lsb)
    return (*(f"{x:.3f}" for x in errors), f"{layer.bias_lsb:+.3f}")


def _boundary_table(replay: Replay) -> Table:
    """Return code differences by distance to the nearest window edge, all layers together."""
    rows = []
    layers = [layer.boundaries for layer in replay.layers]
    for (low, high), bins in zip(
        itertools.pairwise(DISTANCES), zip(*layers, strict=True), strict=True
    ):
        counts = [sum(b[key] for b in bins) for key in ("searches", "differ", "by_table")]
        label = f"{low:g} to {high:g}" if high < DISTANCES[-1] else f"above {low:g}"
        largest = max(b["largest"] for b in bins)
        rows.append((label, *(f"{count:,}" for count in counts), str(largest)))
    return Table(
        ("LSB to the nearest window edge", "searches", "differ", "by step table", "largest"),
        tuple(rows), "lrrrr", f"{replay.model}: codes near window edges, which were sought.",
    )  # fmt: skip


def _worst_listing(replay: Replay) -> Listing:
    lines = []
    for layer in replay.layers:
        for point in layer.worst:
            digits, unit = (0, "") if point["kind"] == "code" else (3, " LSB")
            values = f"{point['ours']:.{digits}f}{unit}, ngspice {point['spice']:.{digits}f}"
            lines += [f"# {layer.name}: {point['kind']} {values}", str(point["command"])]
    return Listing(f"{replay.model}: worst points, and how to replay each", "\n".join(lines))


def _simulation_blocks(simulation: Simulation) -> list[Block]:
    run = simulation.run
    rows = tuple(
        (
            name, f"{x.products:,}", f"{x.simulated_products:,}", f"{x.conversions:,}",
            f"{x.differ:,}", f"{x.by_table:,}",
            f"{100 * x.code_equal:.2f} %", f"{100 * x.code_agreement:.2f} %",
        )
        for name, x in run.layers.items()
    )  # fmt: skip
    head = ("layer", "products", "simulated", "conversions", "codes that differ", "by step table",
            "equal", "or adjacent")  # fmt: skip
    extent = "wholly" if run.whole else "the layers below"
    effort = f"{run.ngspice_s / 3600:.3f} h of ngspice for {run.circuits:,} circuits"
    if run.cached:
        effort += f", {run.cached:,} more from the cache"
    text = (
        f"{simulation.model}, {run.images} image{'s' * (run.images > 1)}, {extent} in ngspice: "
        f"{run.equal_predictions} of {run.images} predictions as on the models, {run.right} right "
        f"in ngspice and {run.right_model} on the models. {effort}; the models took "
        f"{run.model_s:.4f} s."
    )
    return [Text(text), Table(head, rows, "l" + "r" * (len(head) - 1), "", (0,))]


def cards(material: Material, model: str) -> list[Card]:
    """Return key figures of a network's agreement with ngspice."""
    for replay in material.replays:
        if replay.model == model:
            rms, largest = replay.column_rms_lsb, replay.column_max_lsb
            return [
                Card(f"{rms:.3f} LSB", "column error, rms", f"largest {largest:.3f} LSB"),
                Card(f"{100 * replay.code_agreement:.2f} %", "codes equal or adjacent",
                     f"{100 * replay.code_equal:.2f} % equal"),
            ]  # fmt: skip
    return []


def section(material: Material) -> Section | None:
    """Return the section; None if nothing was replayed."""
    if not material.replays and not material.simulations:
        return None
    blocks: list[Block] = []
    if material.replays:
        blocks.append(
            Text(
                "A sample of what the network did was simulated again in ngspice, transistor by "
                "transistor, with the conductances that were programmed. LSB: 1/256 of the data "
                "line."
            )
        )
        failed = [
            f"{r.model}: `{c}`" for r in material.replays for c, ok in r.require.items() if not ok
        ]
        if failed:
            blocks.append(Notice(f"The gate does not hold for {', '.join(failed)}."))
        named = [(r, f"spice-{k}") for k, r in enumerate(material.replays) if r.points]
        if named:  # blocks of products alone have no columns
            blocks.append(Gallery(tuple(error_figure(*each) for each in named)))
    for replay in material.replays:
        blocks += [_layer_table(replay), _boundary_table(replay), _worst_listing(replay)]
    for simulation in material.simulations:
        blocks += _simulation_blocks(simulation)
    return Section("spice", "Agreement with ngspice", tuple(blocks))

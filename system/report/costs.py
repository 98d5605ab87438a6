"""Energy, latency and area: machines, layers and components, and the published claims."""

from __future__ import annotations

from typing import Any

from system.cost.plots import draw_layers, draw_machines
from system.cost.report import engineering
from system.report.document import Block, Card, Figure, Gallery, Listing, Section, Table, Text
from system.report.figures import draw_figure
from system.report.material import Material
from system.report.records import CostStudy, Load

AREA_COLOR = "#7b88a1"


def _machine_figure(study: CostStudy, load: Load, name: str) -> Figure:
    values = ", ".join(f"{m.machine} {engineering(m.energy_j, 'J')}" for m in load.machines)
    return draw_figure(
        f"{name}-machines",
        f"{study.model}, one {load.what}: machines",
        lambda ax: draw_machines(ax, load.machines),
        alt=f"Energy by machine and component: {values}.",
        caption=f"Energy of a batch of {load.batch} by component.",
        height=3.2,
    )


def _layer_figure(study: CostStudy, load: Load, name: str) -> Figure:
    return draw_figure(
        f"{name}-layers",
        f"{study.model}, one {load.what}: layers",
        lambda ax: draw_layers(ax, load.machines[0], columns=3),
        alt=f"Energy of one {load.what} by layer and component, NL-DPE.",
        caption="Layers that take most, by component; layers of the same kind are taken together.",
        height=3.8,
    )


def _area_figure(study: CostStudy, name: str) -> Figure:
    areas = sorted((a * 1e6, n) for n, a in study.tile_areas.items() if a > 0)

    def draw(ax: Any) -> None:
        ax.barh([n for _, n in areas], [a for a, _ in areas], 0.7, color=AREA_COLOR)
        ax.set_xlabel("area [mm2], not scaled")
        ax.grid(axis="y", visible=False)

    values = ", ".join(f"{n} {a:.3g}" for a, n in reversed(areas))
    return draw_figure(
        f"{name}-area", f"{study.model}: area of a tile", draw,
        alt=f"Area of a tile in mm2: {values}.",
        caption="By component; areas of several technologies stand as published.", height=3.2,
    )  # fmt: skip


def _machine_table(study: CostStudy, load: Load) -> Table:
    rows = [
        (
            m.machine, engineering(m.energy_j, "J"), engineering(m.time_s, "s"),
            f"{m.area_m2 * 1e6:.4g} mm2", str(m.chips), f"{m.tops_per_w:.3g}",
            f"{m.tops_per_mm2:.3g}",
        )
        for m in load.machines
    ]  # fmt: skip
    gpu = load.gpu_roofline
    bound = engineering(gpu["energy_j"], "J"), engineering(gpu["time_s"], "s")
    rows.append(("H100 roofline (a bound)", *bound, "", "", f"{gpu['tops_per_w']:.3g}", ""))
    context = f" in a context of {study.sequence}" if study.sequence else ""
    return Table(
        ("machine", "energy", "time", "area", "chips", "TOPS/W", "TOPS/mm2"), tuple(rows),
        "lrrrrrr", f"{study.model}: one {load.what}{context}, batch of {load.batch}.",
    )  # fmt: skip


def _component_table(study: CostStudy, load: Load) -> Table:
    ours = load.machines[0]
    rows = tuple(
        (
            name, engineering(joules, "J"), f"{joules / ours.energy_j:.1%}",
            study.origin.get(name, ""), study.technology.get(name, ""),
        )
        for name, joules in sorted(ours.energies.items(), key=lambda x: -x[1])
    )  # fmt: skip
    return Table(
        ("component", "energy", "share", "origin", "technology"), rows, "lrrll",
        f"{study.model}: NL-DPE, one {load.what} (batch of {load.batch}).",
    )  # fmt: skip


def cards(material: Material, model: str) -> list[Card]:
    """Return key figures of what a network costs."""
    for study in material.costs:
        if study.model == model:
            load, ours = study.loads[0], study.loads[0].machines[0]
            per = "" if load.batch == 1 else f", batch of {load.batch}"
            note = f"{engineering(ours.time_s, 's')}, {ours.tops_per_w:.3g} TOPS/W"
            return [Card(engineering(ours.energy_j, "J"), f"energy of one {load.what}{per}", note)]
    return []


def section(material: Material) -> Section | None:
    """Return the section; None without a study."""
    blocks: list[Block] = []
    for k, study in enumerate(material.costs):
        figures = []
        for j, load in enumerate(study.loads):
            name = f"cost-{k}-{j}"
            figures += [_machine_figure(study, load, name), _layer_figure(study, load, name)]
        blocks.append(Gallery((*figures, _area_figure(study, f"cost-{k}"))))
        if study.figures_of != study.model:
            blocks.append(
                Text(
                    f"{study.model} is known by its shape alone: conductances and activations are "
                    f"those of {study.figures_of}."
                )
            )
        for load in study.loads:
            blocks += [_machine_table(study, load), _component_table(study, load)]
        blocks.append(
            Table(
                ("published", "value", "ours", "what differs"),
                study.claims,
                "llll",
                f"{study.model}: published claims beside ours.",
            )
        )
        lines = "\n".join(f"- {line}" for line in study.not_counted)
        blocks.append(Listing(f"{study.model}: not known, hence not counted", lines))
    return Section("cost", "Energy, latency, area", tuple(blocks)) if blocks else None

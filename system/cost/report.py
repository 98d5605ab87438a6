"""The study as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from circuits.acam_unit import PARTS
from system.cost.baselines import baselines
from system.cost.claims import claims
from system.cost.model import ORIGIN, Cost, LayerCost
from system.cost.study import Study

# Which entries of the component table give the energy of a component.
ENTRIES = {
    "amplifier": ("amplifier",),
    "dac": ("dac",),
    "gray decoder": ("gray_decoder",),
    "range choice": ("comparator",),
    "register": ("register",),
    "adder": ("adder",),
    "vector unit": ("adder", "multiplier", "comparator", "scaler"),
    "buffer": ("buffer",),
    "bus": ("bus",),
    "router": ("router",),
    "link": ("link",),
}

UNKNOWN = (
    "leakage and idle power of everything; clock distribution and control",
    "charging of the ACAM's data lines",
    "area of resistors, wells and wires of the amplifiers (gates and capacitors are counted), and "
    "of scalers and links (0 in the table until you set it)",
    "embedding table and tokens: off chip, not counted; programming the chip, not counted",
)

PREFIXES = {-6: "a", -5: "f", -4: "p", -3: "n", -2: "u", -1: "m", 0: ""}
_BLOCK = re.compile(r"^model\.layers\.\d+\.|\[\d+\]$")  # of a decoder, or bundle of a convolution


def to_text(study: Study) -> str:
    """Return the report for the terminal."""
    machine = study.machine
    parts = [_origin(study)]
    for k, cost in enumerate(study.ours):
        parts += [_headline(study, cost), _layer_table(cost), _component_table(study, cost)]
        parts += [_machine_table(study, k)]
    parts += [_area_table(study), _claim_list(study)]
    lines = "\n".join(f"  - {line}" for line in not_counted(study))
    parts.append(f"not known, hence not counted:\n{lines}")
    if machine.reference:
        parts.append(
            f"{study.model} is known by its shape alone: conductances and activations are the "
            f"means of {study.figures.network}, layer kind by layer kind."
        )
    return "\n\n".join(parts)


def not_counted(study: Study) -> list[str]:
    """Return what the sums leave out."""
    unit = []
    if study.figures.unit is None:
        reason = f" ({study.unit_missing})" if study.unit_missing else ""
        unit = [f"sense amplifiers, OR lines and clock drivers of the ACAM{reason}"]
    driver = ["supply losses of row drivers beyond the cells' own dissipation"]
    if study.machine.chip.driver is not None:
        driver = ["area of the row drivers' resistors, wells and wires; what adds up their bits"]
    elif study.driver_missing:
        driver = [f"the chosen row driver, whose place a DAC takes ({study.driver_missing})"]
    return [*UNKNOWN, *driver, *unit, *(w.missing for w in study.workloads if w.missing)]


def _origin(study: Study) -> str:
    library, figures = study.machine.library, study.figures
    count = sum(f.vectors for f in figures.layers.values())
    return (
        f"{study.model} on device {library.device.name}, technology {library.technology.name}, "
        f"library {library.sha256[:12]}\nSPICE figures: {len(figures.layers)} layers and "
        f"{len(figures.products)} product blocks of {figures.network}, {count} recorded vectors"
        f"\n{_units(study)}\n{_conversion(study)}"
    )


def _units(study: Study) -> str:
    """Say how many ACAM units an output has."""
    chip = study.machine.chip
    ranges = "a read-out range" if chip.ranges == 1 else "two read-out ranges"
    own = [
        f"; {pattern}: " + ", ".join(f"{key} {value}" for key, value in choices.items())
        for pattern, choices in chip.mapping.layers.items()
    ]
    logs = "" if chip.log_copies == chip.product_copies else f" (log {chip.log_copies})"
    return (
        f"each column has {ranges} of {chip.copies} ACAM unit(s), each log and exp conversion "
        f"{chip.product_copies}{logs}{''.join(own)}"
    )


def _conversion(study: Study) -> str:
    """Say what an ACAM conversion takes, part by part."""
    layers = [f.parts_j for f in study.figures.layers.values() if f.parts_j]
    mean = np.mean(layers, axis=0) if layers else np.zeros(len(PARTS))
    shown = 2 if study.figures.unit is None else len(PARTS)
    parts = ", ".join(
        f"{name} {engineering(x, 'J')}"
        for name, x in zip(PARTS[:shown], mean.tolist(), strict=False)
    )
    period = engineering(study.machine.conversion_time, "s")
    text = f"an ACAM conversion, mean of the layers: {parts}; one every {period}"
    return text if shown > 2 else text + "; nothing else of the unit is counted, see the end"


def _headline(study: Study, cost: Cost) -> str:
    tokens = f" of {study.sequence} tokens" if cost.what == "prompt" else ""
    context = f" in a context of {study.sequence}" if cost.what == "token" else ""
    bare = cost.energy_j - cost.energies["amplifier"]
    kind = "measured" if study.machine.origin["amplifier"] == "SPICE" else "estimated"
    return (
        f"== one {cost.what}{tokens}{context}, batch {cost.batch}: "
        f"{engineering(cost.energy_j, 'J')} ({engineering(bare, 'J')} without the {kind} "
        f"read-out amplifiers), {engineering(cost.time_s, 's')}\n"
        f"   first {_item(cost)} after {engineering(cost.latency_s, 's')}, one every "
        f"{engineering(cost.interval_s, 's')}; {cost.cores} cores, {cost.chips} chips, "
        f"{cost.area_m2 * 1e6:.4g} mm2; {cost.tops_per_w:.3g} TOPS/W, "
        f"{cost.tops_per_mm2:.3g} TOPS/mm2"
    )


def _item(cost: Cost) -> str:
    return "token" if cost.what in ("token", "prompt") else cost.what


def grouped(cost: Cost) -> list[LayerCost]:
    """Return layers of the same kind in all blocks as one, in order."""
    found: dict[str, list[LayerCost]] = {}
    for layer in cost.layers:
        found.setdefault(_BLOCK.sub("", layer.name), []).append(layer)
    return [_joined(name, layers) for name, layers in found.items()]


def _joined(name: str, layers: list[LayerCost]) -> LayerCost:
    energy: dict[str, float] = {}
    stages: dict[str, float] = {}  # bundles of one convolution work side by side
    for layer in layers:
        for key, joules in layer.energy_j.items():
            energy[key] = energy.get(key, 0.0) + joules
        stages[layer.stage] = max(stages.get(layer.stage, 0.0), layer.stage_s)
    return LayerCost(
        f"{len(layers)} x {name}" if len(layers) > 1 else name, layers[0].kind,
        sum(x.cores for x in layers), sum(x.macs for x in layers), energy,
        sum(stages.values()), layers[0].stage, sum(x.acam_rows for x in layers),
    )  # fmt: skip


def _layer_table(cost: Cost) -> str:
    total = cost.energy_j / cost.batch
    rows = [("layer", "cores", "ACAM rows", "energy", "share", "time", "largest")]
    for layer in grouped(cost):
        largest = sorted(layer.energy_j.items(), key=lambda x: -x[1])[:2]
        rows.append(
            (
                layer.name,
                str(layer.cores or ""),
                f"{layer.acam_rows:.0f}" if layer.acam_rows else "",
                engineering(layer.total_j, "J"),
                f"{100 * layer.total_j / total:.1f} %",
                engineering(layer.stage_s, "s"),
                ", ".join(f"{n} {100 * e / (layer.total_j or 1):.0f} %" for n, e in largest if e),
            )
        )
    return align(rows, "lrrrrrl")


def _component_table(study: Study, cost: Cost) -> str:
    rows = [("component", "energy", "share", "origin", "technology")]
    for name, joules in sorted(cost.energies.items(), key=lambda x: -x[1]):
        rows.append(
            (
                name,
                engineering(joules, "J"),
                f"{100 * joules / cost.energy_j:.1f} %",
                study.machine.origin[name],
                technology(study, name),
            )
        )
    return align(rows, "lrrll")


def technology(study: Study, name: str) -> str:
    """Return the technology that the energy of a component was obtained in."""
    library = study.machine.library
    origin = study.machine.origin[name]
    if origin == "SPICE":
        return f"{library.technology.name}, {library.device.name}"
    if origin == "estimate":
        return library.technology.name
    entries = (study.machine.components[entry] for entry in ENTRIES[name])
    return ", ".join(dict.fromkeys(entry.technology for entry in entries))


def _machine_table(study: Study, k: int) -> str:
    rows: list[tuple[str, ...]] = [("machine", "energy", "time", "area", "TOPS/W", "TOPS/mm2")]
    rows += [_machine_row(cost) for cost in (study.ours[k], *study.others[k])]
    gpu = study.gpu[k]
    rows.append(
        (
            "H100 roofline",
            engineering(gpu["energy_j"], "J"),
            engineering(gpu["time_s"], "s"),
            "",
            f"{gpu['tops_per_w']:.3g}",
            "",
        )
    )
    notes = "; ".join(study.others[k][0].notes)
    converters = ", ".join(
        f"{b.converter.bits:g} bits {engineering(b.converter.energy_j, 'J')} "
        f"{b.converter.area_m2 * 1e12:.0f} um2 ({b.name})"
        for b in baselines(study.machine.components)
    )
    return align(rows, "lrrrrr") + (
        f"\nADC baselines: {notes}. Converters by the published regression: {converters}.\n"
        "The roofline is a bound, no GPU."
    )


def _machine_row(cost: Cost) -> tuple[str, ...]:
    return (
        cost.machine,
        engineering(cost.energy_j, "J"),
        engineering(cost.time_s, "s"),
        f"{cost.area_m2 * 1e6:.4g} mm2",
        f"{cost.tops_per_w:.3g}",
        f"{cost.tops_per_mm2:.3g}",
    )


def _area_table(study: Study) -> str:
    chip = study.machine.chip
    core, tile = chip.core_areas(), chip.tile_areas()
    rows = [("area of", "a core", "a tile", "share")]
    total = sum(tile.values())
    for name, area in sorted(tile.items(), key=lambda x: -x[1]):
        inside = f"{core[name] * 1e12:.0f} um2" if name in core else ""
        rows.append((name, inside, f"{area * 1e12:.0f} um2", f"{100 * area / total:.1f} %"))
    whole = sum(chip.chip_areas().values())
    return align(rows, "lrrr") + (
        f"\ntile {total * 1e6:.3g} mm2, chip of {chip.tiles} tiles {whole * 1e6:.4g} mm2. "
        "Areas of 16, 22, 32 and 40 nm stand as published, none is scaled."
    )


def _claim_list(study: Study) -> str:
    lines = ["published beside ours:"]
    for claim in claims(study):
        lines += [
            f"  {claim.what}",
            f"    published  {claim.published}",
            f"    ours       {claim.ours}",
            f"    differs    {claim.differs}",
        ]
    return "\n".join(lines)


def align(rows: Sequence[tuple[str, ...]], sides: str) -> str:
    """Return rows as columns, each to the left (l) or right (r)."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(sides))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if side == "l" else text.rjust(width)
            for text, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in rows
    )


def engineering(value: float, unit: str) -> str:
    """Return a value with an SI prefix, three digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    power = min(max(math.floor(math.log10(abs(value)) / 3), -6), 0)
    return f"{value / 1000.0**power:.3g} {PREFIXES[power]}{unit}"


def to_csv(study: Study) -> str:
    """Return one row for each machine, workload and layer; energies of the whole batch."""
    names = list(ORIGIN)
    costs = [c for k, ours in enumerate(study.ours) for c in (ours, *study.others[k])]
    for cost in costs:
        names += [n for n in cost.energies if n not in names]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    head = ["machine", "workload", "batch", "layer", "kind", "cores", "acam_rows", "macs"]
    head += ["stage_s", "energy_j"]
    out.writerow([*head, *(f"{n.replace(' ', '_').replace('-', '_')}_j" for n in names)])
    for cost in costs:
        for x in cost.layers:
            plain: list[object] = [cost.machine, cost.what, cost.batch, x.name, x.kind, x.cores]
            plain.append(f"{x.acam_rows:.6g}")
            values = (x.energy_j.get(n, 0.0) for n in names)
            energies = [f"{cost.batch * v:.6g}" for v in (x.total_j, *values)]
            out.writerow([*plain, f"{cost.batch * x.macs:.6g}", f"{x.stage_s:.6g}", *energies])
    return text.getvalue()


def to_dict(study: Study) -> dict[str, Any]:
    """Return everything for JSON."""
    machine = study.machine
    return {
        "model": study.model,
        "sequence": study.sequence,
        "library_sha256": machine.library.sha256,
        "figures_of": study.figures.network,
        "acam_units": {
            "ranges": machine.chip.ranges,
            "copies": machine.chip.copies,
            "product_copies": machine.chip.product_copies,
            "conversion_s": machine.conversion_time,
            "parts": list(PARTS),
        },
        "layers": machine.chip.mapping.layers,
        "workloads": [
            {
                "what": ours.what,
                "batch": ours.batch,
                "machines": [_cost_dict(c) for c in (ours, *study.others[k])],
                "gpu_roofline": dict(study.gpu[k]),
            }
            for k, ours in enumerate(study.ours)
        ],
        "areas_m2": {
            "core": machine.chip.core_areas(),
            "tile": machine.chip.tile_areas(),
            "chip": machine.chip.chip_areas(),
        },
        "converters": {b.name: asdict(b.converter) for b in baselines(machine.components)},
        "origin": machine.origin,
        "technology": {name: technology(study, name) for name in ORIGIN},
        "spice_layers": {name: asdict(f) for name, f in study.figures.layers.items()},
        "spice_products": {name: asdict(f) for name, f in study.figures.products.items()},
        "claims": [asdict(claim) for claim in claims(study)],
        "not_counted": not_counted(study),
        "components": {
            name: {**c.values, "source": c.source, "technology": c.technology}
            for name, c in machine.components.entries.items()
        },
    }


def _cost_dict(cost: Cost) -> Mapping[str, Any]:
    return {
        "machine": cost.machine,
        "items": cost.items,
        "energy_j": cost.energy_j,
        "time_s": cost.time_s,
        "latency_s": cost.latency_s,
        "interval_s": cost.interval_s,
        "area_m2": cost.area_m2,
        "cores": cost.cores,
        "chips": cost.chips,
        "macs": cost.macs,
        "tops_per_w": cost.tops_per_w,
        "tops_per_mm2": cost.tops_per_mm2,
        "components_j": cost.energies,
        "layers": [asdict(layer) for layer in cost.layers],
        "notes": list(cost.notes),
    }

"""The circuits of a library: what ngspice measured, and what the models make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from behavioral import panels
from behavioral.library import Library
from behavioral.panels import COLUMNS
from system.report.document import Block, Figure, Gallery, Section, Table
from system.report.figures import draw_figure, read_schematic
from system.report.material import Material


@dataclass(frozen=True)
class Panel:
    """A plot of a library: what draws it, and what it shows."""

    name: str
    title: str
    draw: Callable[[Any, Library], None]
    caption: str


PANELS = (
    Panel(
        "thresholds", "ACAM thresholds", panels.draw_thresholds,
        "Data-line voltage at which each bound of the 6T2M cell switches, over the conductance of "
        "its RRAM. Dots: ngspice at conductances that the tables do not contain.",
    ),
    Panel(
        "windows", "Match windows", panels.draw_measured_windows,
        "Held-out whole cells in ngspice (bars), and the bounds that the model predicts from their "
        "two conductances.",
    ),
    Panel(
        "unit", "Windows of a unit", panels.draw_unit_windows,
        "An 8-bit identity unit as one column holds it: one Gray-code bit a line, programming and "
        "read noise included.",
    ),
    Panel(
        "code-error", "Transfer error of the ACAM", panels.draw_code_error,
        f"Codes of {COLUMNS} noisy identity units less those of an exact one.",
    ),
    Panel(
        "noise", "Device noise", panels.draw_noise,
        "Standard deviation of one programming and one read, by the device card.",
    ),
    Panel(
        "cell", "Cell current", panels.draw_cell,
        "1T1R cell in ngspice, bit line at the virtual ground.",
    ),
    Panel(
        "ir-drop", "IR drop of a column", panels.draw_ir_drop,
        "Share of each cell's current that wire, access device and read-out take, before "
        "pre-distortion makes up for it.",
    ),
    Panel(
        "columns", "Transfer error of the column", panels.draw_columns,
        "Model (Newton's method on the cell table) less ngspice, whole columns of transistors.",
    ),
    Panel(
        "readout", "Read-out", panels.draw_readout,
        "Data line over the current of each of the four bit lines, ngspice.",
    ),
)  # fmt: skip
SCHEMATICS = (
    ("column", "1T1R column",
     "Two columns, of positive and of negative weights, as in `netlists/column.cir`: cells, wire "
     "segments, current sense and transimpedance stages. Three of all rows.",
     "Schematic of two crossbar columns with their transimpedance stages."),
    ("acam", "6T2M ACAM cell and match lines",
     "One row, as in `netlists/acam_6t2m.cir`, on two match lines (`acam.match_lines = 2`; with 1 "
     "both halves pull ml).",
     "Schematic of both halves of the cell, their match lines and the decision."),
)  # fmt: skip
FACTS = (
    ("rows of a column", "column.rows", "{}"),
    ("bit-line wire", "column.r_wire_ohm_per_cell", "{:g} ohm per cell"),
    ("read voltage", "column.v_read_v", "{:g} V"),
    ("supply", "vdd_v", "{:g} V"),
    ("temperature", "temperature_c", "{:g} C"),
    ("search", "acam.t_sense_s", "{:.3g} s"),
)


def section(material: Material) -> Section | None:
    """Return the section; None without a library."""
    if not material.libraries:
        return None
    blocks: list[Block] = [
        Gallery(tuple(read_schematic(name, title, alt, caption)
                      for name, title, caption, alt in SCHEMATICS))
    ]  # fmt: skip
    several = len(material.libraries) > 1
    for k, (name, library) in enumerate(material.libraries):
        mark = f"{name}: " if several else ""
        figures = [_figure(panel, library, f"circuits-{k}", mark) for panel in PANELS]
        blocks += [_facts(library, mark), Gallery(tuple(figures))]
        if library.errors:
            blocks.append(_error_table(library, mark))
    return Section("circuits", "Characterised circuits", tuple(blocks))


def _figure(panel: Panel, library: Library, prefix: str, mark: str) -> Figure:
    return draw_figure(
        f"{prefix}-{panel.name}",
        mark + panel.title,
        lambda ax: panel.draw(ax, library),
        alt=f"{panel.title} of {library.device.name} in {library.technology.name}.",
        caption=panel.caption,
    )


def _facts(library: Library, mark: str) -> Table:
    device, technology = library.device, library.technology
    rows = [
        ("device", f"{device.name}: {device.description}"),
        ("technology", f"{technology.name}: {technology.description}"),
        ("conductance", f"{device.g_min_s * 1e6:g} to {device.g_max_s * 1e6:g} uS"),
        ("corners", ", ".join([library.corner, *library.corners])),
    ]
    for label, path, form in FACTS:
        value: Any = technology
        for part in path.split("."):
            value = getattr(value, part)
        rows.append((label, form.format(value)))
    rows.append(("simulated with", library.acam.provenance.simulator))
    return Table(("", f"{mark}what was simulated"), tuple(rows), "ll")


def _error_table(library: Library, mark: str) -> Table:
    """Return the held-out errors in LSB."""
    names = [key.removesuffix("_rms_lsb") for key in library.errors if key.endswith("_rms_lsb")]
    rows = tuple(
        (name.replace("_", " "), *(f"{library.errors[f'{name}_{kind}_lsb']:.4f}" for kind in
                                   ("rms", "max")))
        for name in sorted(names)
    )  # fmt: skip
    return Table(
        ("model", "rms [LSB]", "largest [LSB]"), rows, "lrr",
        f"{mark}look-up models against ngspice at points that the tables do not contain.",
    )  # fmt: skip

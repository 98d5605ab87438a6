"""The report: one page from what the other commands wrote, and its Markdown twin.

`material` reads files, one module a section turns them into a `document`, `page` and `markdown`
write that down.
"""

from __future__ import annotations

from pathlib import Path

from system.files import write_text
from system.report import accuracy, circuits, costs, origin, spice, sweeps, texts
from system.report.document import Block, Cards, Report, Section, listed
from system.report.figures import standalone
from system.report.markdown import to_markdown
from system.report.material import Material
from system.report.page import to_html

__all__ = ["Material", "make_report", "write_report"]

SECTIONS = (accuracy, spice, circuits, costs, sweeps, texts)


def make_report(material: Material) -> Report:
    """Return the report: sections whose material was given, provenance last."""
    found = [part.section(material) for part in SECTIONS]
    sections = [_summary(material), *found, origin.section(material)]
    circuit = dict.fromkeys(
        f"{x.device.name} in {x.technology.name}" for _, x in material.libraries
    )
    networks = material.networks or ["circuits"]
    title = listed(networks if len(networks) < 4 else [*networks[:3], "others"])
    on = f"{listed(list(circuit))}, " if circuit else ""
    return Report(
        title,
        f"{on}from ngspice to the network with nldpe-cosim {origin.package_version()}",
        tuple(section for section in sections if section is not None),
    )


def _summary(material: Material) -> Section | None:
    """Return the key figures of every network."""
    groups = []
    for model in material.networks:
        cards = [card for part in (accuracy, spice, costs) for card in part.cards(material, model)]
        groups.append(Cards(model, tuple(cards)))
    blocks: list[Block] = [*origin.warnings(material), *(g for g in groups if g.cards)]
    return Section("summary", "Key figures", tuple(blocks)) if blocks else None


def write_report(material: Material, place: Path) -> Report:
    """Write PLACE (.html), and beside it the same as .md with a folder of figures.

    Parameters
    ----------
    material : Material
    place : of the page; `report.html` gives `report.md` and `report-figures/` too.
    """
    report = make_report(material)
    folder = place.with_name(f"{place.stem}-figures")
    if report.figures:
        folder.mkdir(exist_ok=True)
    for figure in report.figures:
        write_text(folder / f"{figure.name}.svg", standalone(figure))
    write_text(place.with_suffix(".md"), to_markdown(report, folder.name))
    write_text(place, to_html(report))
    return report

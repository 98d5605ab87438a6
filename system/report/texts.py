"""Generated text, mode beside mode."""

from __future__ import annotations

from system.report.document import Quote, Section
from system.report.material import Material


def section(material: Material) -> Section | None:
    """Return the section; None without texts."""
    quotes = tuple(
        Quote(
            g.prompt, g.text, f"{g.model}, {g.mode}, seed {g.seed}, temperature {g.temperature:g}"
        )
        for g in material.generations
    )
    return Section("text", "Generated text", quotes) if quotes else None

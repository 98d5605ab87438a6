"""Where everything comes from: files, networks, seeds, hashes, versions, cards."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from system.report.document import Block, Listing, Notice, Section, Table
from system.report.material import Material

SHORT = 12  # of a sha256 in tables
SHOWN = ("commit", "ngspice", "python", "nldpe-cosim", "numpy", "numba", "machine")


def package_version() -> str:
    """Return the version of this program."""
    try:
        return version("nldpe-cosim")
    except PackageNotFoundError:
        return "unknown"


def section(material: Material) -> Section:
    """Return the section; every report has it."""
    blocks: list[Block] = [*warnings(material), _source_table(material)]
    runs = _run_table(material)
    blocks += [runs] if runs.rows else []
    for name, library in material.libraries:
        made = {"simulator": library.acam.provenance.simulator, **library.versions}
        rows = (("sha256", library.sha256), *sorted(made.items()))
        blocks += [
            Table(("", name), rows, "ll", f"{name}: the library of look-up models.", (1,)),
            Listing(f"{name}: device card", library.device.to_toml()),
            Listing(f"{name}: technology", library.technology.to_toml()),
        ]
    for folder, record in material.records:
        named = [(k, record.versions[k]) for k in SHOWN if k in record.versions]
        command = shlex.join(["nldpe", *record.words])
        caption = f"{folder}: versions. Again, and compared bit for bit: `nldpe rerun {folder}`."
        blocks.append(Table(("", command), tuple(named), "ll", caption, (1,)))
    mappings: dict[str, Any] = {e.result.model: e.result.mapping for e in material.evaluations}
    blocks += [
        Listing(f"{model}: mapping onto the circuits", json.dumps(mapping, indent=2))
        for model, mapping in mappings.items()
    ]
    return Section("origin", "Configuration and provenance", tuple(blocks))


def warnings(material: Material) -> list[Notice]:
    """Say where results do not belong together."""
    given = {library.sha256 for _, library in material.libraries}
    used = material.hashes()
    found = []
    if len(used) > 1:
        names = ", ".join(f"`{h[:SHORT]}`" for h in sorted(used))
        found.append(Notice(f"The results below were taken on different libraries: {names}."))
    if given and used - given:
        found.append(
            Notice(
                "Some results were taken on another library than the one shown: "
                + ", ".join(f"`{h[:SHORT]}`" for h in sorted(used - given))
                + "."
            )
        )
    return found


def _source_table(material: Material) -> Table:
    rows = tuple((source.file, f"nldpe {source.command}") for source in material.sources)
    return Table(("file", "written by"), rows, "ll", "What this report was made from.", (0, 1))


def _run_table(material: Material) -> Table:
    rows = []
    for item in material.evaluations:
        r = item.result
        what = f"{r.mode}, {r.chips} chip{'s' * (r.chips > 1)}, {r.samples} samples"
        rows.append((r.model, "infer", what, str(r.seed), (r.library_sha256 or "")[:SHORT]))
    for replay in material.replays:
        what = f"{replay.points:,} outputs, {replay.searches:,} searches"
        rows.append(
            (replay.model, "validate", what, str(replay.seed), replay.library_sha256[:SHORT])
        )
    for whole in material.simulations:
        images = whole.run.images
        what = f"{images} image{'s' * (images > 1)} in ngspice"
        row = (whole.model, "validate --full", what, str(whole.seed), whole.library_sha256[:SHORT])
        rows.append(row)
    for study in material.costs:
        what = ", ".join(f"one {load.what}" for load in study.loads)
        rows.append((study.model, "cost", what, "", study.library_sha256[:SHORT]))
    for sample in material.generations:
        sha = (sample.library_sha256 or "")[:SHORT]
        rows.append((sample.model, "generate", sample.mode, str(sample.seed), sha))
    for table in material.studies:
        what, sha = f"{len(table.rows)} points", ", ".join(h[:SHORT] for h in table.library_sha256)
        rows.append((table.name, table.kind, what, "", sha))
    head = ("network or study", "command", "what was run", "seed", "library sha256")
    return Table(head, tuple(rows), "lllrl", "Runs.", (0, 1, 4))

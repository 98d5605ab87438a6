"""nldpe report: one page of what the other commands wrote."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "places", metavar="RUN", nargs="+",
        help="JSON of infer, validate, cost and generate, folders of sweep, explore and accuracy, "
        "libraries, run directories, or folders with any of these",
    )  # fmt: skip
    parser.add_argument(
        "--out", default="report.html", metavar="FILE.html",
        help="the page; its Markdown twin and a folder of figures go beside it "
        "(default: report.html)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Read everything, then write."""
    from circuits.errors import ParameterError
    from system.commands.options import output_file
    from system.report import Material, write_report

    place = output_file(args.out, "--out")
    if place.suffix.lower() not in (".html", ".htm"):
        raise ParameterError(f"--out {args.out}: permitted endings: .html, .htm")
    material = Material.read(args.places)
    report = write_report(material, place)
    print(f"{len(material.sources)} files: {', '.join(s.title for s in report.sections)}")
    print(f"{place}, {place.with_suffix('.md')} and {len(report.figures)} figures written")
    return 0

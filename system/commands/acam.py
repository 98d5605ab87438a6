"""nldpe acam: a whole unit, its sense amplifier and its match lines at transistor level."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behavioral.library import Library


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    from system.commands.options import count, natural

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    unit = _action(actions, "unit", "whole conversions in ngspice, from data line to code")
    unit.add_argument("--function", default="identity", metavar="NAME", help="default: identity")
    unit.add_argument("--bits", type=count, default=8, help="of the code (default: 8)")
    unit.add_argument(
        "--inputs", type=count, default=4, metavar="N",
        help="conversions, about 20 s each with 8 bits (default: 4)",
    )  # fmt: skip
    unit.add_argument("--seed", type=natural, default=0, help="of inputs and noise (default: 0)")
    unit.add_argument(
        "--noise", action="store_true", help="programming and read noise in the cells"
    )
    unit.add_argument("--csv", metavar="FILE.csv", help="every conversion")
    unit.add_argument("--plot", metavar="FILE.png", help="codes, energy and latency")
    _action(actions, "sense", "the sense amplifier: offset, delay, noise, energy")
    lines = _action(actions, "lines", "match lines of 1 to 128 cells; moving data lines; idle rows")
    lines.add_argument("--plot", metavar="FILE.png", help="draw both")


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    from system.commands.options import DEFAULT_LIBRARY, add_cluster, count

    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.add_argument("--library", default=DEFAULT_LIBRARY, metavar="FILE.h5")
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
    add_cluster(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Carry out the action."""
    from system.commands.options import executor_of, load_library, output_file, picture_file

    plot = picture_file(args.plot, "--plot") if getattr(args, "plot", None) else None
    csv = output_file(args.csv, "--csv") if getattr(args, "csv", None) else None
    library = load_library(args.library)
    with executor_of(args.cluster) as executor:
        options = {"workers": args.workers, "executor": executor, "progress": "ngspice"}
        _measure(args, library, plot, csv, options)
    return 0


def _measure(
    args: argparse.Namespace, library: Library, plot: Any, csv: Any, options: dict[str, Any]
) -> None:
    if args.action == "unit":
        _run_unit(args, library, plot, csv, options)
    elif args.action == "sense":
        from system.validation import match_lines

        print(match_lines.sense_text(library, **options))
    else:
        from system.validation import match_lines

        history, lines = match_lines.measure(library, **options)
        print(match_lines.text(library, history, lines))
        rows = match_lines.measure_idle(library, **options)
        print(f"\n{match_lines.idle_text(rows)}")
        if plot:
            match_lines.draw(library, history, lines, plot)
            print(f"plot: {plot}")


def _run_unit(
    args: argparse.Namespace, library: Library, plot: Any, csv: Any, options: dict[str, Any]
) -> None:
    from system.commands.options import write_text
    from system.validation import unit

    report = unit.check_unit(
        library, function=args.function, bits=args.bits, inputs=args.inputs, seed=args.seed,
        noise=args.noise, **options,
    )  # fmt: skip
    print(report.text())
    if csv:
        write_text(csv, report.table() + "\n")
        print(f"{csv}: written")
    if plot:
        unit.draw_unit(report, plot)
        print(f"plot: {plot}")

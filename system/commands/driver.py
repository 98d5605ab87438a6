"""nldpe driver: row drivers at transistor level."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import DEFAULT_LIBRARY, count

    parser.add_argument(
        "kind", choices=("string", "pulses"),
        help="8-bit levels from a resistor string, or a pulse for every bit",
    )  # fmt: skip
    parser.add_argument("--library", default=DEFAULT_LIBRARY, metavar="FILE.h5")
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE",
        help="change a size, for example driver.g_row_s=10m",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE.png", help="draw the curves")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from circuits import row_driver as drivers
    from circuits.parameters import apply_overrides
    from system.commands.options import load_library, picture_file
    from system.validation import row_driver as shown

    plot = picture_file(args.plot, "--plot") if args.plot else None
    library = load_library(args.library)
    _, technology = apply_overrides(library.device, library.technology, args.overrides)
    options = {"workers": args.workers, "progress": "ngspice"}
    if args.kind == "string":
        levels = drivers.measure_string(technology, **options)
        print(shown.string_text(levels))
        if plot:
            shown.draw_string(levels, plot)
    else:
        pulses = drivers.measure_pulses(technology, **options)
        print(shown.pulse_text(pulses))
        if plot:
            shown.draw_pulses(pulses, plot)
    if plot:
        print(f"plot: {plot}")
    return 0

"""nldpe inspect: what a library holds."""

from __future__ import annotations

import argparse

PICTURES = (".png", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("library", metavar="FILE.h5")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the characterised curves")


def run(args: argparse.Namespace) -> int:
    """Print the summary, and draw the plot if asked."""
    from circuits.errors import ParameterError
    from system.commands.options import load_library, output_file

    if args.plot and not output_file(args.plot, "--plot").name.lower().endswith(PICTURES):
        raise ParameterError(f"--plot {args.plot}: permitted endings: {', '.join(PICTURES)}")
    library = load_library(args.library)
    print(library.summary())
    if args.plot:
        library.plot(args.plot)
        print(f"plot: {args.plot}")
    return 0

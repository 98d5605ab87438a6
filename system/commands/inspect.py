"""nldpe inspect: what a library holds."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_corner

    parser.add_argument("library", metavar="FILE.h5")
    add_corner(parser)
    parser.add_argument("--plot", metavar="FILE.png", help="draw the characterised curves")


def run(args: argparse.Namespace) -> int:
    """Print the summary, and draw the plot if asked."""
    from system.commands.options import load_library, picture_file

    if args.plot:
        picture_file(args.plot, "--plot")
    library = load_library(args.library, args.corner)
    print(f"{args.library}: complete, its content matches the SHA-256 in its head")
    print(library.summary())
    if args.plot:
        library.plot(args.plot)
        print(f"plot: {args.plot}")
    return 0

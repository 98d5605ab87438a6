"""nldpe infer: accuracy or perplexity of a network on programmed chips."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_corner, add_execution, add_mode, add_model, count

    add_model(parser)
    add_corner(parser)
    add_mode(parser)
    add_variation(parser)
    add_execution(parser)
    parser.add_argument(
        "--samples", type=count,
        help="images (default: 10000), or windows of 256 tokens (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--chips", type=count, default=1, help="programmed chips in mode noisy (default: 1)"
    )
    parser.add_argument("--json", metavar="OUT", help="write the result here too")


def add_variation(parser: argparse.ArgumentParser) -> None:
    """Declare how the ACAM cells differ from what programming assumes."""
    parser.add_argument(
        "--mismatch", default="none", choices=("none", "open", "trimmed"),
        help="single transistors differ, in crossbars, read-out and ACAM: conductances written as "
        "computed, or trimmed by write-verify of each cell itself (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--programmed-at", metavar="NAME",
        help="corner whose ACAM tables programming assumes (default: that of --corner)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one line."""
    from behavioral.variation import vary
    from circuits.errors import ParameterError
    from system.commands.options import (
        execution,
        library_for,
        open_network,
        output_file,
        write_json,
    )
    from system.inference import default_samples, evaluate

    out = output_file(args.json, "--json") if args.json else None
    library = library_for(args.library, args.mode, args.corner)
    if args.mismatch != "none" or args.programmed_at is not None:
        if library is None or args.mode not in ("ideal-analog", "noisy"):
            raise ParameterError("--mismatch and --programmed-at need --mode ideal-analog or noisy")
        assumed = args.programmed_at
        programmed_for = library_for(args.library, args.mode, assumed) if assumed else None
        library = vary(library, args.mismatch, programmed_for)
    network = open_network(args, library)
    result = evaluate(
        network,
        library,
        mode=args.mode,
        samples=args.samples or default_samples(network),
        chips=args.chips,
        execution=execution(args),
        seed=args.seed,
        read_noise=args.read_noise,
        pieces=getattr(args, "pieces", None),
    )
    print(result)
    if out is not None:
        write_json(
            out,
            {
                **result.to_dict(),
                "corner": args.corner,
                "mismatch": args.mismatch,
                "programmed_at": args.programmed_at,
            },
        )
    return 0

"""nldpe infer: accuracy or perplexity of a network on programmed chips."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import (
        add_corner,
        add_execution,
        add_mode,
        add_model,
        add_variation,
        count,
    )

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


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one line."""
    from system.commands.options import (
        execution,
        open_network,
        output_file,
        varied_library,
        write_json,
    )
    from system.inference import default_samples, evaluate

    out = output_file(args.json, "--json") if args.json else None
    library = varied_library(args)
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

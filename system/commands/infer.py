"""nldpe infer: accuracy or perplexity of a network on programmed chips."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_mode, add_model, count

    add_model(parser)
    add_mode(parser)
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
    from system.commands.options import library_for, open_network, output_file, write_json
    from system.inference import evaluate

    out = output_file(args.json, "--json") if args.json else None
    library = library_for(args.library, args.mode)
    network = open_network(args, library)
    default = 10_000 if network.metric != "perplexity" else 16
    result = evaluate(
        network,
        library,
        mode=args.mode,
        samples=args.samples or default,
        chips=args.chips,
        seed=args.seed,
        read_noise=args.read_noise,
    )
    print(result)
    if out is not None:
        write_json(out, result.to_dict())
    return 0

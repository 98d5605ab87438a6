"""nldpe infer: accuracy or perplexity of a network on programmed chips."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_model

    add_model(parser)
    parser.add_argument(
        "--mode", default="noisy", choices=("float", "quantized", "ideal-analog", "noisy")
    )
    parser.add_argument(
        "--read-noise", default="frozen", choices=("frozen", "per-read"),
        help="drawn once per device, or anew at every read (mode noisy)",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, help="images, or windows of 256 tokens")
    parser.add_argument("--chips", type=int, default=1, help="programmed chips in mode noisy")
    parser.add_argument("--json", metavar="OUT", help="write the result here too")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one line."""
    from system.commands.options import (
        load_library,
        mapping_overrides,
        positive,
        write_json,
    )
    from system.inference import evaluate
    from system.networks import load_network

    positive("chips", args.chips)
    library = load_library(args.library)
    network = load_network(
        args.model,
        tile_rows=library.technology.column.rows,
        data=args.data,
        overrides=mapping_overrides(args.mapping),
    )
    default = 10_000 if network.metric == "accuracy" else 16
    result = evaluate(
        network,
        library,
        mode=args.mode,
        samples=positive("samples", args.samples or default),
        chips=args.chips,
        seed=args.seed,
        read_noise=args.read_noise,
    )
    if args.json:
        write_json(args.json, result.to_dict())
    print(result)
    return 0

"""nldpe generate: continue a text."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_model

    add_model(parser)
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--tokens", type=int, default=40, help="at most (default: 40)")
    parser.add_argument(
        "--mode", default="noisy", choices=("float", "quantized", "ideal-analog", "noisy")
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 (default): the likeliest token"
    )
    parser.add_argument(
        "--read-noise", default="frozen", choices=("frozen", "per-read"),
        help="drawn once per device, or anew at every read (mode noisy)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the prompt and stream its continuation."""
    from circuits.errors import ParameterError
    from system.commands.options import load_library, mapping_overrides, positive
    from system.engine import make_ops
    from system.generation import generate
    from system.linear import Chip
    from system.networks import load_network

    positive("tokens", args.tokens)
    try:
        args.prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(
            "the prompt is not valid UTF-8; check the terminal's locale"
        ) from error
    library = load_library(args.library)
    network = load_network(
        args.model,
        tile_rows=library.technology.column.rows,
        data=args.data,
        overrides=mapping_overrides(args.mapping),
    )
    ops = make_ops(network, library, args.mode, Chip(args.seed, 0, args.read_noise))
    pieces = generate(
        network, ops, args.prompt, tokens=args.tokens, temperature=args.temperature, seed=args.seed
    )
    first = next(pieces, "")  # programs the chip: errors come before any text
    print(args.prompt + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0

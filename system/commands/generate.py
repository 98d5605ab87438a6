"""nldpe generate: continue a text."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import (
        add_corner,
        add_execution,
        add_mode,
        add_model,
        count,
        temperature,
    )

    add_model(parser)
    add_corner(parser)
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--tokens", type=count, default=40, help="at most (default: 40)")
    add_mode(parser)
    add_execution(parser)
    parser.add_argument(
        "--temperature", type=temperature, default=0.0, help="0 (default): the likeliest token"
    )
    parser.add_argument("--json", metavar="OUT", help="write prompt and text here too")


def run(args: argparse.Namespace) -> int:
    """Print the prompt and stream its continuation."""
    from system.commands.options import (
        check_text,
        execution,
        library_for,
        open_network,
        output_file,
        write_json,
    )
    from system.generation import generate, to_dict
    from system.hardware import Chip
    from system.inference import arithmetic

    check_text(args.prompt, "the prompt")
    out = output_file(args.json, "--json") if args.json else None
    library = library_for(args.library, args.mode, args.corner)
    network = open_network(args, library)
    chip = Chip(args.seed, 0, args.read_noise)
    ops = arithmetic(network, library, args.mode, chip, execution=execution(args))
    pieces = generate(
        network, ops, args.prompt, tokens=args.tokens, temperature=args.temperature, seed=args.seed
    )
    first = next(pieces, "")  # programs the chip: errors come before any text
    print(args.prompt + first, end="", flush=True)
    text = first
    for piece in pieces:
        text += piece
        print(piece, end="", flush=True)
    print()
    if out is not None:
        sha256 = library.sha256 if library else None
        kept = {"seed": args.seed, "temperature": args.temperature}
        write_json(out, to_dict(network, args.mode, args.prompt, text, sha256, **kept))
    return 0

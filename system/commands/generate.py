"""nldpe generate: continue a text."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.speech import add_speech

    add_speech(parser, tokens=40, written="prompt and text")
    parser.add_argument("--prompt", required=True, metavar="TEXT")


def run(args: argparse.Namespace) -> int:
    """Print the prompt and stream its continuation."""
    from system.commands.options import check_text, output_file, write_json
    from system.commands.speech import open_speaker
    from system.generation import generate, to_dict

    check_text(args.prompt, "the prompt")
    out = output_file(args.json, "--json") if args.json else None
    network, ops, sha256 = open_speaker(args)
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
        kept = {"seed": args.seed, "temperature": args.temperature}
        write_json(out, to_dict(network, args.mode, args.prompt, text, sha256, **kept))
    return 0

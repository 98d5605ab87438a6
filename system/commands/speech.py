"""What `nldpe generate` and `nldpe chat` share: a language model on one chip, and how it speaks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system.models.ops import Ops
    from system.networks import Network


def add_speech(parser: argparse.ArgumentParser, tokens: int, written: str) -> None:
    """Declare model, chip, and how tokens are chosen.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    tokens : the default of --tokens.
    written : what --json writes.
    """
    from system.commands.options import (
        add_corner,
        add_execution,
        add_mode,
        add_model,
        add_variation,
        count,
        temperature,
    )

    add_model(parser)
    add_corner(parser)
    add_variation(parser)
    parser.add_argument("--tokens", type=count, default=tokens, help=f"at most (default: {tokens})")
    add_mode(parser)
    add_execution(parser)
    parser.add_argument(
        "--temperature", type=temperature, default=0.0, help="0 (default): the likeliest token"
    )
    parser.add_argument("--json", metavar="OUT", help=f"write {written} here too")


def open_speaker(args: argparse.Namespace) -> tuple[Network, Ops, str | None]:
    """Return the network, the arithmetic of its mode and chip, and the library's sha256, if any."""
    from system.commands.options import execution, open_network, varied_library
    from system.hardware import Chip
    from system.inference import arithmetic

    library = varied_library(args)
    network = open_network(args, library)
    chip = Chip(args.seed, 0, args.read_noise)
    ops = arithmetic(network, library, args.mode, chip, execution=execution(args))
    return network, ops, library.sha256 if library else None

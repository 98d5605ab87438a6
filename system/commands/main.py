"""The command `nldpe`: finds the sub-command, turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module

COMMANDS = {
    "characterize": "simulate both circuits in ngspice and write the library of look-up models",
    "inspect": "show what a library holds and how far it is from ngspice",
    "infer": "run a network on a library: accuracy or perplexity over programmed chips",
    "generate": "continue a text with a language model",
    "validate": "replay a sample of an inference in ngspice and report the error",
    "finetune": "train a network and fine-tune it for the noise of its circuits (extra: train)",
    "demo": "the whole job on a CNN and a language model, with a report",
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser; sub-commands other than `only` are listed but not imported."""
    parser = argparse.ArgumentParser(
        prog="nldpe",
        description="From the transistor to the whole network: RRAM crossbars and analog CAMs.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == only:
            module = import_module(f"system.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    only = next((a for a in arguments if a in COMMANDS), None)
    args = build_parser(only).parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s"
    )
    from circuits.errors import NldpeError

    try:
        return int(args.run(args) or 0)
    except NldpeError as error:
        print(f"nldpe {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nnldpe {args.command}: interrupted; finished work is kept, run it again to go on",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"nldpe {args.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""nldpe chat: talk with a language model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system.chat import Chat


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.speech import add_speech

    parser.epilog = "Messages are lines of the standard input; its end ends the chat."
    add_speech(parser, tokens=200, written="the conversation")
    parser.add_argument("--system", metavar="TEXT", help="instructions before the first message")


def run(args: argparse.Namespace) -> int:
    """Answer every message; write the conversation however it ends."""
    from system.chat import Chat, to_dict
    from system.commands.options import check_text, output_file, write_json
    from system.commands.speech import open_speaker
    from system.generation import Sampling

    out = output_file(args.json, "--json") if args.json else None
    if args.system is not None:
        check_text(args.system, "--system")
    network, ops, sha256 = open_speaker(args)
    sampling = Sampling(args.tokens, args.temperature, args.seed)
    chat = Chat(network, ops, sampling, args.system)
    if args.mode in ("ideal-analog", "noisy"):
        print("The first answer programs a chip; others come faster.", file=sys.stderr)
    try:
        _talk(chat, sys.stdin.isatty())
    finally:
        if out is not None:
            kept = {"seed": args.seed, "temperature": args.temperature}
            write_json(out, to_dict(chat, network, args.mode, sha256, **kept))
    return 0


def _talk(chat: Chat, terminal: bool) -> None:
    """Answer what comes in; at a terminal a refused message or Ctrl-C ends an answer only."""
    from circuits.errors import ParameterError

    said = False
    for line in _lines(terminal):
        try:
            if not line.isspace():
                said = True
                _print_answer(chat, line.strip())
            elif terminal:
                print("(type a message; Ctrl-D ends)")
        except ParameterError as error:
            if not terminal:
                raise
            print(f"nldpe chat: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            if not terminal:
                raise
            print("\n(interrupted; Ctrl-D ends)")
    if not said and not terminal:
        raise ParameterError(
            "no message came in; pipe one per line, for example: echo Hello | nldpe chat MODEL"
        )


def _lines(terminal: bool) -> Iterator[str]:
    """Yield the lines of the standard input, each with its end.

    Raises
    ------
    ParameterError
        A line is not UTF-8.
    """
    from circuits.errors import ParameterError

    number = 0
    while True:
        if terminal:
            print("> ", end="", flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            break
        number += 1
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"line {number} is not UTF-8 at byte {error.start + 1}; convert it: iconv"
            if not terminal:
                raise ParameterError(message) from error
            print(f"nldpe chat: {message}", file=sys.stderr)
    if terminal:
        print()


def _print_answer(chat: Chat, message: str) -> None:
    for piece in chat.answer(message):
        print(piece, end="", flush=True)
    print()

"""The command `nldpe`: finds the sub-command, turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

COMMANDS = {
    "characterize": "simulate both circuits in ngspice and write the library of look-up models",
    "devices": "list, show, compare, check and fit device cards",
    "technologies": "list, show and check technology files",
    "inspect": "show what a library holds and how far it is from ngspice",
    "acam": "an ACAM unit, its sense amplifier and match lines, whole in ngspice",
    "driver": "row drivers at transistor level: code to row voltage, settling, energy",
    "size": "size the ACAM cell for a threshold law and an energy; writes a technology",
    "infer": "run a network on a library: accuracy or perplexity over programmed chips",
    "generate": "continue a text with a language model",
    "chat": "talk with a language model by its chat template",
    "validate": "replay a sample of an inference in ngspice and report the error",
    "finetune": "train a network and fine-tune it for the noise of its circuits (extra: train)",
    "sweep": "what a parameter of device, circuit or mapping does to a network: table and plot",
    "explore": "a grid of designs, and the Pareto front of accuracy, energy, latency and area",
    "accuracy": "the table of accuracy: networks in every mode, over programmed chips",
    "quality": "language models on texts and questions, by mode and by analog part",
    "rerun": "run what a run directory holds again, and compare bit for bit",
    "cost": "energy, latency and area of an inference, beside ADC accelerators and a GPU",
    "report": "one HTML page, and Markdown, of what the other commands wrote",
    "demo": "the whole job on a CNN and a language model, with a report",
}
# What these tell takes a while, so it is always shown.
TALKING = (
    "system.data.fetch",
    "system.networks",
    "system.sweep.study",
    "system.quality_study",
    "system.training.adapters",
    "system.training.kept",
)
RESUMABLE = (
    "characterize", "validate", "demo", "sweep", "explore", "accuracy", "quality", "acam", "driver",
    "size", "finetune",
)  # fmt: skip
RECORDED = ("infer", "validate", "cost", "finetune")  # with --run; sweeps always are


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser; sub-commands other than `only` are listed but not imported."""
    parser = argparse.ArgumentParser(
        prog="nldpe",
        description="From the transistor to the whole network: RRAM crossbars and analog CAMs.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        if name == only:
            module = import_module(f"system.commands.{name}")
            module.add_arguments(sub)
            if name in RECORDED:
                add_run_directory(sub)
            sub.set_defaults(run=module.run)
    return parser


def add_run_directory(parser: argparse.ArgumentParser) -> None:
    """Declare where a run is kept so that it can be repeated."""
    parser.add_argument(
        "--run", dest="run_directory", metavar="DIR",
        help="write every file into DIR, under the last part of its name, with versions and "
        "hashes of all that was read; `nldpe rerun DIR` repeats and compares",
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; return its exit code."""
    # Threads that wait for each other on a busy machine cost far more than they bring, and BLAS
    # sums in another order with each count. The user's own setting wins.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    arguments = sys.argv[1:] if argv is None else argv
    if argv is None:
        _prepare_process()
    only = next((a for a in arguments if a in COMMANDS), None)
    args = build_parser(only).parse_args(arguments)
    args.words = arguments
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s"
    )
    for name in TALKING:
        logging.getLogger(name).setLevel(logging.INFO)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; errors become a message and an exit code."""
    try:
        from circuits.errors import NldpeError

        try:
            return perform(args)
        except NldpeError as error:
            print(f"nldpe {args.command}: {error}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        kept = "; what was finished is kept, run the same command again to go on"
        keeps = args.command in ("infer", "cost") and args.run_directory is not None
        note = kept if keeps or args.command in RESUMABLE else ""
        print(f"\nnldpe {args.command}: interrupted{note}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        print(f"nldpe {args.command}: not enough memory ({error})", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"nldpe {args.command}: {error}{_advice(error)}", file=sys.stderr)
        return 1


def perform(args: argparse.Namespace) -> int:
    """Run a sub-command, in its run directory if it has one; return its exit code."""
    if getattr(args, "resumes", False):
        args.run_directory = args.out
    if getattr(args, "run_directory", None) is None:
        return int(args.run(args) or 0)
    from system.runs import recorded

    return recorded(args, args.words)


def _prepare_process() -> None:
    """Print what the terminal cannot show as '?', and end in order when asked to."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # A shell starts background jobs with SIGINT ignored; `kill -INT` should still end them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> NoReturn:
    """Leave through the clean-up of everything that runs, simulator processes among it."""
    raise SystemExit(128 + number)


def _advice(error: OSError) -> str:
    """Name the next step for a place that cannot be written."""
    from circuits.cache import cache_root

    root = cache_root()
    if error.filename and str(error.filename).startswith(str(root)):
        return f"\n{root} holds results that can be made again; set NLDPE_CACHE to another folder"
    if error.errno == errno.ENOSPC:
        return (
            f"\nfree some space, or write to another disk (results are kept in {root}: NLDPE_CACHE)"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())

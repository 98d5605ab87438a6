"""nldpe demo: the whole job on a CNN and a language model, with a report."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", default="demo", metavar="DIR")
    parser.add_argument(
        "--llm", action="store_true", help="SmolLM2-135M-Instruct in place of the small networks"
    )
    parser.add_argument("--workers", type=int, help="ngspice processes (default: all cores)")


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and print its table."""
    import logging
    from pathlib import Path
    from time import perf_counter

    from system import demo
    from system.report import results_table

    logging.getLogger("system.fetch").setLevel(logging.INFO)
    start = perf_counter()
    jobs = ["llm"] if args.llm else ["cnn", "language"]
    findings = demo.run(Path(args.out), jobs, args.workers)
    print("\n" + results_table(findings.results))
    print(f"\nDone in {perf_counter() - start:.0f} s. Report: {args.out}/report.md")
    return 0

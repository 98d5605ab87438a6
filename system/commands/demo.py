"""nldpe demo: the whole job on a CNN and a language model, with a report."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import count

    parser.add_argument("--out", default="demo", metavar="DIR")
    parser.add_argument(
        "--llm", action="store_true", help="SmolLM2-135M-Instruct in place of the small networks"
    )
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and print its table."""
    from time import perf_counter

    from system import demo
    from system.commands.options import announce_compilation, output_folder
    from system.report.accuracy import gather, results_table
    from system.report.markdown import to_table
    from system.report.records import Evaluation

    folder = output_folder(args.out, "--out")
    start = perf_counter()
    announce_compilation()
    jobs = ["llm"] if args.llm else ["cnn", "language"]
    findings = demo.run(folder, jobs, args.workers)
    scores = gather([Evaluation(result) for result in findings.results])
    print("\n" + to_table(results_table(scores)))
    print(f"\nDone in {perf_counter() - start:.0f} s. Report: {folder}/report.html, report.md")
    return 0

"""nldpe accuracy: the table of accuracy over networks and modes."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_model
    from system.commands.sweep import add_run

    add_model(parser, several="*")
    add_run(parser, "accuracy", chips=10)


def run(args: argparse.Namespace) -> int:
    """Run every mode of every network; write and print the table."""
    from system.commands.sweep import execute, finish, prepare
    from system.files import write_text
    from system.sweep.accuracy import MODELS, mode_axis, to_markdown
    from system.sweep.table import to_csv

    args.models = args.models or list(MODELS)
    study, folder = prepare(args, cost=False, axes=(mode_axis(),))
    rows = execute(args, study, folder)
    library = study.library
    circuits = (
        f"device `{library.device.name}`, technology `{library.technology.name}`, library "
        f"`{library.sha256[:12]}`, seed {args.seed}"
    )
    if args.mismatch != "none":
        circuits += f", mismatch {args.mismatch}"
    text = to_markdown(rows, args.chips, circuits)
    print(text)
    write_text(folder / "accuracy.md", text)
    finish(folder, "accuracy", to_csv(rows, study.axes))
    print(f"{folder / 'accuracy.md'}, {folder / 'accuracy.csv'} written")
    failed = [row for row in rows if row.reason]
    for row in failed:
        print(f"no result for {row.point.model} in mode {row.mode}: {row.reason}")
    return 1 if failed else 0

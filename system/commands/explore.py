"""nldpe explore: a grid of designs, and those that no other design beats."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.sweep import add_grid

    add_grid(parser, "explore")
    parser.add_argument(
        "--objective", default="accuracy,energy,area", metavar="LIST",
        help="of accuracy (mean of the network's metric), worst (chip), energy, latency, area "
        "(default: accuracy,energy,area)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the grid, mark the front; write the table and the plot."""
    from system.commands.sweep import execute, finish, prepare
    from system.sweep.pareto import check_metrics, mark_front, read_objectives
    from system.sweep.plots import draw_front
    from system.sweep.table import to_csv, to_text

    objectives = read_objectives(args.objective)
    study, folder = prepare(args, cost=bool({"energy", "latency", "area"} & {*objectives}))
    check_metrics(model.metric for model in study.models.values())
    rows = execute(args, study, folder)
    mark_front(rows, objectives)
    print(to_text(rows, study.axes))
    finish(folder, "explore", to_csv(rows, study.axes))
    draw_front(rows, objectives, study.axes, folder / "explore.png")
    print(f"{folder / 'explore.csv'}, {folder / 'explore.png'} written")
    return 1 if any(row.reason for row in rows) else 0

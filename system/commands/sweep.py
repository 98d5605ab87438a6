"""nldpe sweep: what a parameter of device, circuit or mapping does to a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system.sweep.axes import Axis
    from system.sweep.points import Conditions
    from system.sweep.study import Study
    from system.sweep.table import Row

KEYS = """keys of --over:
  bits                     of DAC, ACAM and weights; singly: map.input_bits, ...
  noise-scale              factor of all device noise; crossbar-noise, acam-noise: of one part
  stuck                    share of devices stuck off; crossbar-stuck, acam-stuck: of one part
  wire-ohm, rows           bit-line resistance per cell, cells on a bit line
  g-max, temperature       largest conductance [S], temperature [Celsius]
  mode                     float, quantized, ideal-analog, noisy
  mismatch                 none, open, trimmed, as the option
  map.KEY                  any choice of the mapping, as in --map
  any key of the cards     as in characterize --set, for example corner, acam.t_sense_s
values: 6,7,8 or 4..9 (whole numbers), 64..512 (doublings), 0.5..2 (round steps) or 0.5..2:4
(four, evenly spaced)

Points that change a circuit are characterised with ngspice; noise, stuck devices and mapping
need none. Finished points stay in the run directory: the same command again goes on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_grid(parser, "sweep")
    parser.add_argument(
        "--cost", action="store_true", help="energy, latency and area of every point too"
    )


def add_grid(parser: argparse.ArgumentParser, out: str) -> None:
    """Declare the options of every grid."""
    from system.commands.options import add_mode, add_model

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = KEYS
    add_model(parser, several="+")
    add_mode(parser)
    parser.add_argument(
        "--over", dest="axes", action="append", required=True, metavar="KEY=VALUES",
        help="what is swept; repeatable: every combination is run",
    )  # fmt: skip
    add_run(parser, out, chips=5)


def add_run(parser: argparse.ArgumentParser, out: str, chips: int) -> None:
    """Declare how much is run, where, and by how many processes."""
    from system.commands.options import add_cluster, add_mismatch, count

    parser.add_argument(
        "--samples", type=count,
        help="images (default: 10000), or windows of 256 tokens (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--chips", type=count, default=chips,
        help=f"programmed chips in mode noisy (default: {chips})",
    )  # fmt: skip
    add_mismatch(parser)
    parser.add_argument(
        "--workers", type=count, help="processes of one thread each (default: all cores)"
    )
    add_cluster(parser, "simulate and compute")
    parser.add_argument(
        "--quick", action="store_true", help="characterise other circuits with the coarse plan"
    )
    parser.add_argument("--out", default=out, metavar="DIR", help=f"run directory (default: {out})")
    parser.set_defaults(resumes=True)


def run(args: argparse.Namespace) -> int:
    """Run the grid; write the table and the plot."""
    from system.sweep.plots import draw_sweep
    from system.sweep.table import to_csv, to_text

    study, folder = prepare(args, cost=args.cost)
    rows = execute(args, study, folder)
    print(to_text(rows, study.axes))
    finish(folder, "sweep", to_csv(rows, study.axes))
    draw_sweep(rows, study.axes, folder / "sweep.png")
    print(f"{folder / 'sweep.csv'}, {folder / 'sweep.png'} written")
    return 1 if any(row.reason for row in rows) else 0


def prepare(
    args: argparse.Namespace, *, cost: bool, axes: tuple[Axis, ...] | None = None
) -> tuple[Study, Path]:
    """Check everything that can be checked before the work; return the study and its folder."""
    from system.commands.options import load_library, output_folder
    from system.sweep.axes import read_axes
    from system.sweep.study import Study

    chosen = read_axes(args.axes) if axes is None else axes
    load_library(args.library)  # says how to make one
    study = Study(
        args.models, chosen, _conditions(args), Path(args.library), quick=args.quick, cost=cost
    )
    return study, output_folder(args.out, "--out")


def execute(args: argparse.Namespace, study: Study, folder: Path) -> list[Row]:
    """Run what is missing in the folder."""
    from circuits.plan import default_workers
    from system.commands.options import announce_compilation, executor_of
    from system.sweep.runs import RunFolder

    announce_compilation()
    with executor_of(args.cluster) as executor:
        return study.run(RunFolder(folder), args.workers or default_workers(), executor)


def finish(folder: Path, name: str, table: str) -> None:
    """Write the table, whole."""
    from system.files import write_text

    write_text(folder / f"{name}.csv", table)


def _conditions(args: argparse.Namespace) -> Conditions:
    from system.commands.options import mapping_overrides
    from system.sweep.points import Conditions

    return Conditions(
        samples=args.samples,
        chips=args.chips,
        seed=args.seed,
        mode=getattr(args, "mode", "noisy"),
        read_noise=getattr(args, "read_noise", "frozen"),
        data=args.data,
        mismatch=args.mismatch,
        mapping=tuple(mapping_overrides(args.mapping).items()),
    )

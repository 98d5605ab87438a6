"""nldpe characterize: from device and technology cards to a library of look-up models."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuits.parameters import Device, Technology

SHOWN_FAILURES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_cluster, count

    parser.add_argument(
        "--device", default="taox", metavar="NAME|FILE.toml", help="RRAM card (default: taox)"
    )
    parser.add_argument(
        "--technology", default="lp16", metavar="NAME|FILE.toml",
        help="transistors, wires, supplies and sizes (default: lp16)",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change one key of either card, for example column.r_wire_ohm_per_cell=1; repeatable",
    )  # fmt: skip
    add_corner(parser)
    parser.add_argument("--out", default="library.h5", metavar="FILE.h5")
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
    add_cluster(parser)
    parser.add_argument("--quick", action="store_true", help="a coarse plan, for trying things out")
    parser.add_argument(
        "--adaptive", type=float, nargs="?", const=0.1, metavar="LSB",
        help="conductances where interpolation needs them: until it misses the middle of no "
        "interval by more (default: 0.1 LSB), in place of uniform axes",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the plan, simulate nothing")


def add_corner(parser: argparse.ArgumentParser) -> None:
    """Declare where the circuits are measured."""
    from system.commands.options import count

    group = parser.add_argument_group("corners and mismatch")
    group.add_argument(
        "--corner", default=None, metavar="PROCESS",
        help="tt, ff, ss, fs or sf, n device first: the library's tables are of this corner",
    )  # fmt: skip
    group.add_argument("--temperature-c", type=float, metavar="T", help="and of this temperature")
    group.add_argument(
        "--supply-scale", type=float, default=1.0, metavar="S", help="and of S times the supply"
    )
    group.add_argument(
        "--corners", metavar="LIST|all",
        help="further corners in the same file, for `infer --corner`: ff,ss_125c,tt_-40c_0.9vdd",
    )  # fmt: skip
    group.add_argument(
        "--monte-carlo", type=count, default=0, metavar="N",
        help="simulate the mismatch of N ACAM and N crossbar cells at each of three conductances",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Characterise and write the library."""
    from time import perf_counter

    from behavioral.held_out import BAR_LSB, above_bar
    from behavioral.library import Library
    from circuits.corners import Corner, read_corners
    from circuits.parameters import load_parameters
    from system.commands.options import executor_of, output_file

    out = output_file(args.out, "--out")
    device, technology = load_parameters(args.device, args.technology, args.overrides)
    corners = read_corners(args.corners) if args.corners else ()
    for corner in corners:
        corner.apply(technology)  # a mistake is told before the work, not after it
    process = args.corner or technology.process.corner
    point = Corner.checked(process, args.temperature_c, args.supply_scale)
    base, technology = technology, point.apply(technology)
    if args.dry_run:
        print_plan(device, technology, quick=args.quick, adaptive_lsb=args.adaptive)
        if corners:
            print(f"The same without held-out points at: {', '.join(c.name for c in corners)}.")
        return 0
    start = perf_counter()
    print(
        f"Characterising device {device.name} in technology {technology.name} with ngspice: "
        "ACAM thresholds, crossbar column, read-out.\n"
        "What was simulated before comes from the cache; Ctrl-C loses nothing that is finished.",
        flush=True,
    )
    with few_failures(), executor_of(args.cluster) as executor:
        library = Library.from_spice(
            device, technology, quick=args.quick, samples=args.monte_carlo,
            adaptive_lsb=args.adaptive,
            corners={corner.name: corner.apply(base) for corner in corners},
            workers=args.workers, executor=executor, progress="ngspice",
        )  # fmt: skip
    library.to_hdf5(out)
    if args.adaptive is not None:
        sizes = library.acam.g.size, library.crossbar.g.size
        print("conductances of ACAM thresholds and cell table: {}, {}".format(*sizes))
    print(f"{out}: written in {perf_counter() - start:.1f} s, sha256 {library.sha256[:16]}...")
    for name, error in above_bar(library.errors).items():
        print(
            f"note: {name} is off by {error:.2g} LSB rms at held-out points (bar: {BAR_LSB:g}); "
            f"networks on this library deviate from its circuits by as much: nldpe inspect {out}"
        )
    return 0


@contextlib.contextmanager
def few_failures() -> Iterator[None]:
    """Show the first failed netlists only: a mistake in a card fails every one of them."""
    plan = logging.getLogger("circuits.plan")
    seen = 0

    def is_shown(record: logging.LogRecord) -> bool:
        nonlocal seen
        seen += record.levelno >= logging.WARNING
        return record.levelno < logging.WARNING or seen <= SHOWN_FAILURES

    plan.addFilter(is_shown)
    try:
        yield
    finally:
        plan.removeFilter(is_shown)
        if seen > SHOWN_FAILURES:
            more = seen - SHOWN_FAILURES
            plan.warning("... and %d more failed netlists in the same folder", more)


def print_plan(
    device: Device, technology: Technology, *, quick: bool, adaptive_lsb: float | None = None
) -> None:
    """Print how many netlists of which kind the plan begins with."""
    import re
    from collections import Counter
    from importlib import import_module

    from behavioral.layout import circuits_of
    from circuits.plan import Job

    for circuit in circuits_of(technology):
        jobs: list[Job] = []
        measured = import_module(f"circuits.{circuit}")
        has_grid = circuit in ("acam", "crossbar")
        options = {"adaptive_lsb": adaptive_lsb} if has_grid else {}
        measured.characterize(device, technology, quick=quick, record=jobs, **options)
        kinds = Counter(re.sub(r"[-_ ]?[0-9]+$", "", job.name) for job in jobs)
        for kind, count in kinds.items():
            print(f"{circuit:9} {kind:28} {count:4d} netlists")
    if adaptive_lsb is not None:
        print("This is the first round; where it refines depends on what is found.")
    print("ACAM searches narrow each threshold in further rounds that depend on the first results.")

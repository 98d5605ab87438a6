"""nldpe validate: replay a sample of an inference in ngspice, and what its error costs."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behavioral.library import Library
    from system.networks import Network
    from system.validation import LayerReport

POINT = ("tile", "column", "stimulus")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_cluster, add_corner, add_model, count

    add_model(parser)
    add_corner(parser)
    parser.add_argument(
        "--samples", type=count, default=32, help="inputs of the recorded inference (default: 32)"
    )
    parser.add_argument(
        "--layer", action="append", metavar="NAME", help="replay only this layer; repeatable"
    )
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
    add_cluster(parser)
    parser.add_argument("--json", metavar="OUT", help="write the result here too")
    parser.add_argument(
        "--require", metavar="CONDITIONS",
        help="exit with 1 unless all hold, for example column_rms_lsb<0.1,code_agreement>0.999",
    )  # fmt: skip
    _add_sampling(parser)
    _add_propagation(parser)
    _add_point(parser)
    parser.add_argument(
        "--full", type=count, metavar="N",
        help="instead of a sample: N images entirely in ngspice (of the layers given, or all)",
    )  # fmt: skip


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    from system.commands.options import count

    group = parser.add_argument_group("what is replayed, in every layer")
    for name, what, default in (
        ("tiles", "row tiles: the ends and some between", 4),
        ("columns", "columns of a tile: heaviest, lightest, strata of load", 3),
        ("stimuli", "inputs of a tile: up to four extremes, strata of drive", 16),
        ("searches", "ACAM conversions: half in proportion, two ends, the rest near edges", 16),
    ):
        group.add_argument(
            f"--{name}", type=count, default=default, help=f"{what} (default: {default})"
        )


def _add_propagation(parser: argparse.ArgumentParser) -> None:
    from system.commands.options import count

    group = parser.add_argument_group("what the measured errors do to the network")
    group.add_argument(
        "--propagate", action="store_true",
        help="score every mode, and the noisy one with the measured errors injected",
    )  # fmt: skip
    group.add_argument(
        "--score-samples", type=count, metavar="N",
        help="images (default: 2000), or windows of 256 tokens (default: 8)",
    )  # fmt: skip
    group.add_argument("--chips", type=count, default=3, help="programmed chips (default: 3)")
    group.add_argument(
        "--injections", type=count, default=3, help="injections on each chip (default: 3)"
    )
    group.add_argument("--plot", metavar="PICTURE", help="draw the waterfall here")


def _add_point(parser: argparse.ArgumentParser) -> None:
    from system.commands.options import natural

    group = parser.add_argument_group("one recorded point again, with its netlists")
    for name in POINT:
        group.add_argument(f"--{name}", type=natural, metavar="N", help="as a report names it")
    group.add_argument(
        "--search", action="store_true", help="the ACAM conversion instead of the column output"
    )
    group.add_argument(
        "--fine", action="store_true", help="... in the second read-out range (output_fine)"
    )
    group.add_argument(
        "--copy", type=natural, default=0, metavar="N",
        help="... by which of parallel ACAM units (output_copies, product_copies; default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--unit", choices=("log", "exp"), default="",
        help="... of a block of products; --stimulus is then a DAC level",
    )  # fmt: skip
    group.add_argument(
        "--netlists", metavar="FOLDER", default=".", help="where they are written (default: here)"
    )


def run(args: argparse.Namespace) -> int:
    """Record, replay, print the tables; or do so for one point."""
    from system import validation
    from system.commands.options import (
        executor_of,
        load_library,
        open_network,
        output_file,
        picture_file,
    )
    from system.validation import gate

    conditions = gate.parse(args.require) if args.require else []
    out = output_file(args.json, "--json") if args.json else None
    plot = picture_file(args.plot, "--plot") if args.plot else None
    _check(args, [c.metric for c in conditions])
    library = load_library(args.library, args.corner)
    network = open_network(args, library)
    if args.stimulus is not None:
        return _replay_point(args, network, library, out)
    if args.full is not None:
        return _run_full(args, network, library, out)
    with executor_of(args.cluster) as executor:
        reports = validation.validate(
            network,
            library,
            samples=args.samples,
            seed=args.seed,
            layers=args.layer,
            sampling=validation.Sampling(args.tiles, args.columns, args.stimuli, args.searches),
            workers=args.workers,
            executor=executor,
        )
    command = command_line(args)
    figures = _show(reports, command)
    content = {
        "model": network.name,
        "seed": args.seed,
        "library_sha256": library.sha256,
        **validation.to_dict(reports, command),
    }
    if args.propagate:
        content["waterfall"] = _propagate(args, network, library, reports, plot)
        figures["score_shift"] = content["waterfall"]["shift"]
    lines, held = gate.check(conditions, figures)
    content["require"] = {str(c): c.holds(figures) for c in conditions}
    _finish(out, content, lines)
    return 0 if held else 1


def _check(args: argparse.Namespace, metrics: list[str]) -> None:
    """Refuse options that do not go together, before any work is done."""
    from circuits.errors import ParameterError

    given = [name for name in POINT if getattr(args, name) is not None]
    if given and (args.stimulus is None or args.column is None or len(args.layer or []) != 1):
        raise ParameterError(
            f"--{given[0]} replays one point: give --layer (once), --column and --stimulus, and "
            "--tile where a layer has several"
        )
    if args.search and not given:
        raise ParameterError("--search replays one conversion: give --layer, --column, --stimulus")
    if args.unit and not given:
        raise ParameterError("--unit replays one conversion: give --layer, --column, --stimulus")
    if (args.fine or args.copy) and not (args.search or args.unit):
        raise ParameterError("--fine and --copy choose the unit of one conversion: add --search")
    if given and args.cluster:
        raise ParameterError(f"--{given[0]} replays one point, on this machine: without --cluster")
    if given and (args.propagate or metrics):
        raise ParameterError(f"--{given[0]} replays one point: without --propagate and --require")
    if args.full is not None and (given or args.propagate or metrics):
        raise ParameterError("--full stands alone: without points, --propagate and --require")
    if args.plot and not args.propagate:
        raise ParameterError("--plot draws the waterfall: add --propagate")
    if "score_shift" in metrics and not args.propagate:
        raise ParameterError("--require score_shift: it is measured only with --propagate")


def command_line(args: argparse.Namespace) -> str:
    """Return the command that records the same inference, to which a point's options are added."""
    words = ["nldpe", "validate", args.model, "--library", args.library]
    words += ["--samples", str(args.samples), "--seed", str(args.seed)]
    if args.corner is not None:
        words += ["--corner", args.corner]
    if args.data is not None:
        words += ["--data", args.data]
    for pair in args.mapping:
        words += ["--map", pair]
    return shlex.join(words)


def _replay_point(
    args: argparse.Namespace, network: Network, library: Library, out: Path | None
) -> int:
    from system.commands.options import output_folder
    from system.validation.point import reproduce

    found = reproduce(
        network,
        library,
        output_folder(args.netlists, "--netlists"),
        samples=args.samples,
        layer=args.layer[0],
        tile=args.tile,
        column=args.column,
        stimulus=args.stimulus,
        search=args.search,
        fine=args.fine,
        copy=args.copy,
        unit=args.unit,
        seed=args.seed,
        workers=args.workers,
    )
    print(found)
    content = {**asdict(found.point), "netlists": [str(p) for p in found.netlists]}
    _finish(out, {"model": network.name, "seed": args.seed, **content}, "")
    return 0


def _run_full(
    args: argparse.Namespace, network: Network, library: Library, out: Path | None
) -> int:
    from system.commands.options import executor_of
    from system.validation.full import run_full

    with executor_of(args.cluster) as executor:
        found = run_full(
            network,
            library,
            images=args.full,
            layers=args.layer,
            seed=args.seed,
            workers=args.workers,
            executor=executor,
        )
    print(found)
    header = {"model": network.name, "seed": args.seed, "library_sha256": library.sha256}
    _finish(out, {**header, **found.to_dict()}, "")
    return 0


def _show(reports: list[LayerReport], command: str) -> dict[str, float]:
    from system.validation import agreement

    figures = agreement.totals(reports)
    print(agreement.to_table(reports))
    print(f"\n{agreement.boundary_table(reports)}")
    print(f"\nworst points, and how to replay each:\n{agreement.worst_table(reports, command)}\n")
    print(agreement.summary(figures))
    return figures


def _propagate(
    args: argparse.Namespace,
    network: Network,
    library: Library,
    reports: list[LayerReport],
    plot: Path | None,
) -> dict[str, Any]:
    from system.validation.waterfall import draw, waterfall

    default = 2000 if network.metric != "perplexity" else 8
    result = waterfall(
        network,
        library,
        reports,
        samples=args.score_samples or default,
        chips=args.chips,
        injections=args.injections,
        seed=args.seed,
    )
    print(f"\n{result}")
    if plot is not None:
        draw(result, plot)
    return result.to_dict()


def _finish(out: Path | None, content: dict[str, Any], lines: str) -> None:
    from system.commands.options import write_json

    if lines:
        print(lines)
    if out is not None:
        write_json(out, content)

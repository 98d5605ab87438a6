"""nldpe cost: energy, latency and area of an inference."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_corner, add_model, count

    add_model(parser)
    add_corner(parser)
    parser.add_argument(
        "--batch", type=count, default=1, help="inferences that follow each other (default: 1)"
    )
    parser.add_argument(
        "--sequence", type=count, default=256,
        help="tokens of the prompt and of the context, for language models (default: 256)",
    )  # fmt: skip
    parser.add_argument(
        "--replicate", type=count, default=1,
        help="copies of the layer that multiplies most vectors, others in proportion (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--components", metavar="FILE.toml", help="your figures in place of some of the table's"
    )
    parser.add_argument(
        "--reference", default="llama-austen", metavar="MODEL",
        help="whose weights and activations stand in for llama-3.2-1b and llama-3.2-3b, which are "
        "known by their shapes alone (default: llama-austen)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="OUT", help="write everything here too")
    parser.add_argument("--csv", metavar="FILE", help="write the table of layers here")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the breakdowns")


def run(args: argparse.Namespace) -> int:
    """Measure, cost, print."""
    from circuits.errors import ParameterError
    from system.commands.options import (
        PICTURES,
        load_library,
        mapping_overrides,
        output_file,
        write_json,
        write_text,
    )
    from system.cost import report
    from system.cost.components import Components
    from system.cost.study import estimate

    out = output_file(args.json, "--json") if args.json else None
    table = output_file(args.csv, "--csv") if args.csv else None
    plot = output_file(args.plot, "--plot") if args.plot else None
    if plot is not None and not plot.name.lower().endswith(PICTURES):
        raise ParameterError(f"--plot {args.plot}: permitted endings: {', '.join(PICTURES)}")
    components = Components.from_toml(args.components)
    study = estimate(
        args.model,
        load_library(args.library, args.corner),
        components,
        batch=args.batch,
        sequence=args.sequence,
        replicate=args.replicate,
        seed=args.seed,
        data=args.data,
        overrides=mapping_overrides(args.mapping),
        reference=args.reference,
        pieces=getattr(args, "pieces", None),
    )
    print(report.to_text(study))
    if out is not None:
        write_json(out, report.to_dict(study))
    if table is not None:
        write_text(table, report.to_csv(study))
    if plot is not None:
        from system.cost.plots import draw

        draw(study, plot)
        print(f"plot: {plot}")
    return 0

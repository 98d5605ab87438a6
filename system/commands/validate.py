"""nldpe validate: replay a sample of an inference in ngspice."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_model, count

    add_model(parser)
    parser.add_argument(
        "--samples", type=count, default=32, help="inputs of the recorded inference (default: 32)"
    )
    parser.add_argument(
        "--layer", action="append", metavar="NAME", help="replay only this layer; repeatable"
    )
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
    parser.add_argument("--json", metavar="OUT", help="write the result here too")


def run(args: argparse.Namespace) -> int:
    """Record, replay, print the table."""
    from system import validation
    from system.commands.options import load_library, open_network, output_file, write_json

    out = output_file(args.json, "--json") if args.json else None
    library = load_library(args.library)
    network = open_network(args, library)
    reports = validation.validate(
        network,
        library,
        samples=args.samples,
        seed=args.seed,
        layers=args.layer,
        workers=args.workers,
    )
    totals = validation.to_dict(reports)
    print(validation.to_table(reports))
    print(
        f"all layers: columns rms {totals['column_rms_lsb']:.3f}, max "
        f"{totals['column_max_lsb']:.3f} LSB; codes equal {totals['codes_equal']:.2%}, "
        f"equal or adjacent {totals['codes_adjacent']:.2%}"
    )
    if out is not None:
        header = {"model": network.name, "seed": args.seed, "library_sha256": library.sha256}
        write_json(out, {**header, **totals})
    return 0

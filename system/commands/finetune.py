"""nldpe finetune: make the shipped checkpoints again."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import DEFAULT_LIBRARY, count, natural

    parser.add_argument(
        "model",
        metavar="MODEL",
        help="lenet-mnist, llama-austen, bert-tiny-rt, resnet8-photo-digits, "
        "resnet20-photo-digits, senet-photo-digits or minilm-rt; "
        "smollm2-135m, llama-austen-float or the path of a Llama: a low-rank adapter for it; "
        "of these and of any other network, by name or path: ACAM windows (--steps acam)",
    )
    parser.add_argument(
        "--steps",
        default="float,naf",
        help="comma-separated: float, crossbar, naf, quantize, exact, trees, acam (default: "
        "float,naf); each starts from what the one before it wrote",
    )
    parser.add_argument("--library", default=DEFAULT_LIBRARY, metavar="FILE.h5")
    parser.add_argument("--out", default="checkpoints", metavar="DIR")
    parser.add_argument(
        "--start", metavar="DIR",
        help="folder of the checkpoint that naf or acam starts from (default: --out), or `shipped`",
    )  # fmt: skip
    parser.add_argument("--seed", type=natural, default=1234)
    parser.add_argument("--float-steps", type=count, help="optimiser steps of float training")
    parser.add_argument("--naf-steps", type=count, help="optimiser steps of fine-tuning")
    parser.add_argument(
        "--naf-noise", choices=("frozen", "none"), default="frozen",
        help="device noise of the chips that an adapter is trained on; none: one chip with what "
        "all have in common, codes, wires and bent cells (default: frozen)",
    )  # fmt: skip
    parser.add_argument(
        "--acam-steps", type=count, help="optimiser steps of each set of ACAM windows"
    )
    parser.add_argument("--data", metavar="PATH", help="your own copy of the data set")
    parser.add_argument(
        "--samples", type=count,
        help="test images, sentences or windows of text that metrics.json scores (default: 500; "
        "of text 4)",
    )  # fmt: skip
    parser.add_argument(
        "--map", dest="mapping", action="append", default=[], metavar="KEY=VALUE",
        help="train and quantize for another choice of the mapping, as in infer; repeatable",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Train and report the directories written."""
    from dataclasses import replace
    from pathlib import Path

    from circuits.errors import NldpeError
    from system.commands.options import (
        announce_compilation,
        load_library,
        mapping_overrides,
        output_folder,
    )
    from system.networks import known_names, shipped_folder

    try:
        from system.training.classifiers import BASES, finetune_classifier
        from system.training.pipeline import WINDOWS, finetune
        from system.training.published import finetune_published
        from system.training.recipes import RECIPES, Plan
    except ModuleNotFoundError as error:
        raise NldpeError(
            f"training needs {error.name}; install the extra: pip install 'nldpe-cosim[train]'"
        ) from error
    out, data = output_folder(args.out, "--out"), Path(args.data) if args.data else None
    library = load_library(args.library)
    announce_compilation()
    plan = Plan(
        out, library, args.seed, args.float_steps, args.naf_steps, data=data,
        start=shipped_folder() if args.start == "shipped" else args.start and Path(args.start),
        mapping=mapping_overrides(args.mapping), samples=args.samples, naf_noise=args.naf_noise,
    )  # fmt: skip
    if args.acam_steps is not None:
        plan = replace(plan, acam_steps=args.acam_steps)
    steps = args.steps.split(",")
    published = args.model in known_names() or Path(args.model).exists()
    if args.model in BASES and not set(steps) <= set(WINDOWS):
        train = finetune_classifier
    else:
        train = finetune_published if published and args.model not in RECIPES else finetune
    if args.naf_noise != "frozen" and (train is not finetune_published or "naf" not in steps):
        raise NldpeError("--naf-noise is for adapters of published models (--steps naf) alone")
    for place in train(args.model, steps, plan):
        print(f"{place}: written")
    return 0

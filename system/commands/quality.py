"""nldpe quality: how near language models on circuits stay to their float32."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import add_corner, add_execution, add_model, count

    parser.epilog = (
        "Texts: Persuasion (or valid.txt of --data) and film reviews. Models with a chat template "
        "answer ten questions too. Finished chips stay in the run directory: the same command "
        "again goes on."
    )
    add_model(parser, several="+")
    add_corner(parser)
    parser.add_argument(
        "--samples", type=count, default=4, help="windows of 256 tokens of each text (default: 4)"
    )
    parser.add_argument(
        "--chips", type=count, default=3, help="programmed chips in mode noisy (default: 3)"
    )
    parser.add_argument(
        "--parts",
        action="store_true",
        help="also with one analog part on at a time, all else exact",
    )
    parser.add_argument(
        "--questions", metavar="FILE", help="ask these instead of the ten: a text file, one a line"
    )
    parser.add_argument(
        "--out", default="quality", metavar="DIR", help="run directory (default: quality)"
    )
    add_execution(parser)
    parser.set_defaults(resumes=True)


def run(args: argparse.Namespace) -> int:
    """Measure what is missing; write and print the table."""
    from pathlib import Path

    from circuits.errors import ParameterError
    from system.answers import QUESTIONS, read_questions
    from system.chat import chat_template
    from system.commands.options import (
        announce_compilation,
        execution,
        load_library,
        mapping_overrides,
        output_folder,
    )
    from system.files import write_text
    from system.generation import language_model
    from system.networks import load_network
    from system.quality_study import QualityStudy, to_csv, to_markdown
    from system.sweep.runs import RunFolder

    library = load_library(args.library, args.corner)
    if len(set(args.models)) < len(args.models):
        raise ParameterError("a network is named twice; name each once")
    questions = read_questions(Path(args.questions)) if args.questions else QUESTIONS
    folder = output_folder(args.out, "--out")
    announce_compilation()
    found = []
    for name in args.models:
        network = load_network(
            name,
            tile_rows=library.technology.column.rows,
            data=args.data,
            overrides=mapping_overrides(args.mapping),
        )
        language_model(network)
        if args.questions:
            chat_template(network)  # questions need one
        study = QualityStudy(
            network, library, samples=args.samples, chips=args.chips, seed=args.seed,
            parts=args.parts, questions=questions, execution=execution(args),
        )  # fmt: skip
        found += study.run(RunFolder(folder))
    text = to_markdown(found)
    print(text)
    write_text(folder / "quality.md", text)
    write_text(folder / "quality.csv", to_csv(found))
    print(f"{folder / 'quality.md'}, {folder / 'quality.csv'} written")
    return 0

"""nldpe rerun: a recorded run again, and whether its results are the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "folder", metavar="DIR", help="of a sweep, explore or accuracy, or given to --run"
    )
    parser.add_argument(
        "--out", metavar="NEW", help="new directory for the second run (default: DIR-rerun)"
    )


def run(args: argparse.Namespace) -> int:
    """Repeat, compare, tell."""
    from system.comparison import compare
    from system.runs import read_record

    first = Path(args.folder).resolve()
    record = read_record(first)
    second = _new_folder(args.out or f"{args.folder.rstrip('/')}-rerun")
    print(f"Running again in {second}: nldpe {' '.join(record['words'])}", flush=True)
    code = repeat(record, second)
    changes = _changes(record, read_record(second))
    if changes:
        print("What the runs were made with differs:", *changes, sep="\n  ")
    found = compare(first, second)
    if code != record["exit_code"]:
        found.insert(0, f"exit code {record['exit_code']}, then {code}")
    if not found:
        print("The results are equal, bit for bit (times and pictures are not compared).")
        return 0
    print(f"The results differ in {len(found)} places:", *found[:SHOWN], sep="\n  ")
    if len(found) > SHOWN:
        print(f"  ... and {len(found) - SHOWN} more")
    if not changes:
        print("Versions, code and all that was read are the same: please report this.")
    return 1


def repeat(record: dict[str, Any], folder: Path) -> int:
    """Run a recorded command again, from where it was run, in another directory."""
    import contextlib

    from circuits.errors import FormatError
    from system.commands.main import build_parser, perform

    command = build_parser(record["command"]).parse_args(record["words"])
    command.words = record["words"]
    command.run_directory = str(folder)
    if getattr(command, "resumes", False):
        command.out = str(folder)
    if not Path(record["directory"]).is_dir():
        raise FormatError(
            f"the run was made in {record['directory']}, which does not exist; names of files are "
            "relative to it: make it, with the files that the command names"
        )
    with contextlib.chdir(record["directory"]):
        return perform(command)


def _new_folder(path: str) -> Path:
    """Return the place of the second run; it holds nothing yet."""
    from circuits.errors import ParameterError
    from system.commands.options import output_folder

    place = output_folder(path, "--out").resolve()
    if any(place.iterdir()):
        raise ParameterError(f"--out {path} is not empty; give a new folder")
    return place


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return which versions and hashes are others."""
    lines = []
    for kind in ("versions", "hashes"):
        one, two = before[kind], after[kind]
        for name in sorted({*one, *two}):
            pair = one.get(name, "absent"), two.get(name, "absent")
            if pair[0] != pair[1]:
                lines.append(f"{name}: {pair[0][:48]}, now {pair[1][:48]}")
    return lines

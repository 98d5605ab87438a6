"""Options and helpers that several sub-commands share."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behavioral.library import Library

DEFAULT_LIBRARY = "library.h5"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the network and where it runs."""
    parser.add_argument(
        "model", metavar="MODEL", help="a shipped network, a checkpoint directory or a GGUF file"
    )
    parser.add_argument("--library", default=DEFAULT_LIBRARY, metavar="FILE.h5")
    parser.add_argument(
        "--data", metavar="PATH", help="your own copy of the data set, in its standard format"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default: 0)")
    parser.add_argument(
        "--map", dest="mapping", action="append", default=[], metavar="KEY=VALUE",
        help="change one choice of the mapping, for example partial_sums=digital; repeatable",
    )  # fmt: skip


def load_library(path: str) -> Library:
    """Open a library, or say how to make one."""
    from behavioral.library import Library
    from circuits.errors import FormatError

    if not Path(path).exists():
        raise FormatError(f"there is no library {path}; make one: nldpe characterize --out {path}")
    return Library.from_hdf5(path)


def mapping_overrides(pairs: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; values are JSON where they can be."""
    from circuits.errors import ParameterError

    values = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise ParameterError(f"--map {pair!r} is not of the form KEY=VALUE")
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = text
    return values


def positive(parser_name: str, value: int) -> int:
    """Return a count, or say that it must be at least 1."""
    from circuits.errors import ParameterError

    if value < 1:
        raise ParameterError(f"--{parser_name} is {value}; permitted: 1 or more")
    return value


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the whole file or none."""
    place = Path(path)
    text = json.dumps(content, indent=2) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, suffix=".tmp") as file:
        file.write(text)
    Path(file.name).replace(place)

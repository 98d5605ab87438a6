"""Options and helpers that several sub-commands share."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.files import write_json as write_json
from system.files import write_text as write_text

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from behavioral.library import Library
    from system.inference import Execution
    from system.networks import Network

DEFAULT_LIBRARY = "library.h5"
PICTURES = (".png", ".pdf", ".svg")


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is too small; permitted: {least} or more")
    return value


def add_cluster(parser: argparse.ArgumentParser, work: str = "simulate") -> None:
    """Declare where the work may be done."""
    parser.add_argument(
        "--cluster", metavar="ADDRESS",
        help=f"{work} on the workers of a dask scheduler, tcp://HOST:8786 (extra: cluster)",
    )  # fmt: skip


def executor_of(address: str | None) -> AbstractContextManager[Executor | None]:
    """Return a cluster's executor, or none for processes of this machine."""
    if address is None:
        return nullcontext()
    from circuits.cluster import cluster_executor

    return cluster_executor(address)


def temperature(text: str) -> float:
    """Read a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is out of range; permitted: 0 or more")
    return value


def add_model(parser: argparse.ArgumentParser, several: str | None = None) -> None:
    """Declare the network and where it runs.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    several : "+" or "*" for `models` in place of one `model`.
    """
    parser.add_argument(
        "models" if several else "model", metavar="MODEL", nargs=several,
        help="a shipped network, a checkpoint directory or a GGUF file",
    )  # fmt: skip
    parser.add_argument("--library", default=DEFAULT_LIBRARY, metavar="FILE.h5")
    parser.add_argument(
        "--data", metavar="PATH", help="your own copy of the data set, in its standard format"
    )
    parser.add_argument("--seed", type=natural, default=0, help="of all random draws (default: 0)")
    parser.add_argument(
        "--map", dest="mapping", action="append", default=[], metavar="KEY=VALUE",
        help="change one choice of the mapping, for example partial_sums=digital; repeatable",
    )  # fmt: skip


def add_mode(parser: argparse.ArgumentParser) -> None:
    """Declare how much of the silicon is in the arithmetic."""
    parser.add_argument(
        "--mode", default="noisy", choices=("float", "quantized", "ideal-analog", "noisy"),
        help="from exact arithmetic, which needs no library, to noisy silicon (default: noisy)",
    )  # fmt: skip
    parser.add_argument(
        "--read-noise", default="frozen", choices=("frozen", "per-read"),
        help="drawn once per device, or anew at every read (mode noisy)",
    )  # fmt: skip


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Declare where programmed chips are kept, and what computes them."""
    parser.add_argument(
        "--chips-dir", metavar="DIR", type=Path,
        help="keep programmed chips in this folder, and map them from it the next time (SmolLM2: "
        "2 GB a chip)",
    )  # fmt: skip
    parser.add_argument(
        "--stream", action="store_true",
        help="with --chips-dir: map a layer whenever it is used, and let it go; memory for one "
        "layer in place of all",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=count, default=1,
        help="with --chips-dir: processes that program the layers of a language model (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--device", metavar="NAME",
        help="let torch compute layers there: cpu, cuda (default: the kernels of this package)",
    )  # fmt: skip


def execution(args: argparse.Namespace) -> Execution:
    """Return what these options say."""
    from system.inference import Execution

    return Execution(args.chips_dir, args.stream, args.workers, args.device)


def add_corner(parser: argparse.ArgumentParser) -> None:
    """Declare which tables of the library are used."""
    parser.add_argument(
        "--corner", metavar="NAME",
        help="use the library's tables of this corner (made with characterize --corners)",
    )  # fmt: skip


def add_mismatch(parser: argparse.ArgumentParser) -> None:
    """Declare whether single transistors differ."""
    parser.add_argument(
        "--mismatch", default="none", choices=("none", "open", "trimmed"),
        help="single transistors differ, in crossbars, read-out and ACAM: conductances written as "
        "computed, or trimmed by write-verify of each cell itself (default: none)",
    )  # fmt: skip


def add_variation(parser: argparse.ArgumentParser) -> None:
    """Declare how the circuits differ from what programming assumes."""
    add_mismatch(parser)
    parser.add_argument(
        "--programmed-at", metavar="NAME",
        help="corner whose ACAM tables programming assumes (default: that of --corner)",
    )  # fmt: skip


def load_library(path: str, corner: str | None = None) -> Library:
    """Open a library at one of its corners, or say how to make one."""
    from behavioral.library import Library
    from circuits.errors import FormatError

    if not Path(path).exists():
        raise FormatError(f"there is no library {path}; make one: nldpe characterize --out {path}")
    library = Library.from_hdf5(path)
    return library if corner is None else library.at(corner)


def library_for(path: str, mode: str, corner: str | None = None) -> Library | None:
    """Open the library that a mode needs; float arithmetic needs none."""
    if mode == "float" and not Path(path).exists():
        return None
    return load_library(path, corner)


def varied_library(args: argparse.Namespace) -> Library | None:
    """Open the library that mode, corner and variation of the options ask for."""
    from behavioral.variation import vary
    from circuits.errors import ParameterError

    library = library_for(args.library, args.mode, args.corner)
    if args.mismatch == "none" and args.programmed_at is None:
        return library
    if library is None or args.mode not in ("ideal-analog", "noisy"):
        raise ParameterError("--mismatch and --programmed-at need --mode ideal-analog or noisy")
    assumed = args.programmed_at
    return vary(library, args.mismatch, load_library(args.library, assumed) if assumed else None)


def announce_compilation() -> None:
    """Say what the first minute is spent on, where kernels were never compiled."""
    from behavioral.compilation import kernels_are_compiled

    if not kernels_are_compiled():
        print("Compiling kernels for this machine, about a minute, once.", file=sys.stderr)


def open_network(args: argparse.Namespace, library: Library | None) -> Network:
    """Load the network that the options name."""
    from system.networks import load_network

    if library is not None and getattr(args, "mode", "noisy") != "float":
        announce_compilation()
    return load_network(
        args.model,
        tile_rows=library.technology.column.rows if library else None,
        data=args.data,
        overrides=mapping_overrides(args.mapping),
    )


def mapping_overrides(pairs: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; values are JSON where they can be."""
    from circuits.errors import ParameterError
    from system.sweep.axes import read_choice

    values = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise ParameterError(f"--map {pair!r} is not of the form KEY=VALUE")
        values[key] = read_choice(text)
    return values


def check_text(text: str, what: str) -> None:
    """Refuse an argument that the terminal handed over as other bytes than UTF-8."""
    from circuits.errors import ParameterError

    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(f"{what} is not valid UTF-8; check the terminal's locale") from error


def output_file(path: str, option: str) -> Path:
    """Return a place that a file can be written to; said before the work, not after it.

    Raises
    ------
    ParameterError
        The place is a folder, or its folder does not exist or cannot be written.
    """
    from circuits.errors import ParameterError

    place = Path(path)
    folder = place.resolve().parent
    if place.is_dir():
        raise ParameterError(f"{option} {path} is a folder; give the name of a file")
    if not folder.is_dir():
        raise ParameterError(f"{option} {path}: the folder {folder} does not exist; make it first")
    _try_writing(folder, f"{option} {path}: the folder {folder} cannot be written")
    return place


def picture_file(path: str, option: str) -> Path:
    """Return a place for a picture; as ``output_file``, and the ending must be a known one."""
    from circuits.errors import ParameterError

    place = output_file(path, option)
    if not place.name.lower().endswith(PICTURES):
        raise ParameterError(f"{option} {path}: permitted endings: {', '.join(PICTURES)}")
    return place


def output_folder(path: str, option: str) -> Path:
    """Return a folder that can be written to; makes it if need be.

    Raises
    ------
    ParameterError
        It cannot be made or written.
    """
    from circuits.errors import ParameterError

    place = Path(path)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"{option} {path}: cannot make this folder: {error}") from error
    _try_writing(place, f"{option} {path}: this folder cannot be written")
    return place


def _try_writing(folder: Path, message: str) -> None:
    """Make a file and remove it: permissions alone do not tell, and root has them all."""
    from circuits.errors import ParameterError

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise ParameterError(f"{message}: {error.strerror}; give another place") from error

"""A run directory: what was asked for, with which versions and inputs, and what came of it.

It holds the results, `run.json`, which is written last, and a lock. `nldpe rerun` does the same
again and compares.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

from circuits.errors import FormatError, ParameterError, SimulationError
from system import inputs
from system.files import write_json
from system.pieces import Pieces

RECORD, LOCK, LEDGER, PIECES = "run.json", ".lock", ".inputs", ".pieces"
FORMAT = 1
RESULT = "result.json"
READ = ("library", "data", "components")  # options that name what is read
WRITTEN = ("json", "csv", "plot", "netlists", "out")  # options that name what is written
PACKAGES = (
    "nldpe-cosim", "numpy", "scipy", "numba", "h5py", "safetensors", "tokenizers", "pillow",
    "torch", "scikit-learn",
)  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
FIELDS = {
    "command": str, "words": list, "directory": str, "versions": dict, "hashes": dict,
    "exit_code": int,
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]


def recorded(args: argparse.Namespace, words: list[str]) -> int:
    """Run a command whose results go to `args.run_directory`, and write down what it was.

    Parameters
    ----------
    args : parsed options; those that name what is written are moved into the directory.
    words : the command line.

    Returns
    -------
    int
        The command's exit code.

    Raises
    ------
    ParameterError
        The directory cannot be made or written, is in use, or holds another run.
    """
    from system.commands.options import output_folder

    option = "--out" if keeps_results(args) else "--run"
    folder = output_folder(args.run_directory, option).resolve()
    with hold(folder):
        place = folder / RECORD
        before = _earlier(folder)
        if before and before["words"] != words and not keeps_results(args):
            raise ParameterError(
                f"{folder} holds another run, nldpe {' '.join(before['words'])}; give a new folder"
            )
        place.unlink(missing_ok=True)
        options = {k: v for k, v in vars(args).items() if k not in ("run", "words")}
        content = {
            "format": FORMAT,
            "command": args.command,
            "words": words,
            "options": json.loads(json.dumps(options, default=str)),
            "directory": str(Path.cwd()),
            "seeds": {k: v for k, v in options.items() if k == "seed"},
            "versions": versions(),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        start = perf_counter()
        _redirect(args, folder)
        args.pieces = Pieces(folder / PIECES, {"words": words, "versions": content["versions"]})
        with inputs.noted(folder / LEDGER) as read:
            code = int(args.run(args) or 0)
        kept = before.get("hashes", {}) if keeps_results(args) else {}
        content |= {
            "hashes": {**kept, **_hashes(args, read, folder)},
            "seconds": perf_counter() - start,
            "exit_code": code,
        }
        write_json(place, content)
        args.pieces.clear()
    return code


def keeps_results(args: argparse.Namespace) -> bool:
    """Return whether the command itself has a run directory, and finds kept results in it."""
    return bool(getattr(args, "resumes", False))


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run directory, until this block or process ends.

    Raises
    ------
    ParameterError
        Another process holds it; the message names that process.
    """
    is_new = not any(folder.iterdir())
    lock = _lock(folder / LOCK, folder)
    try:
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield
    finally:
        if is_new and [path.name for path in folder.iterdir()] == [LOCK]:  # nothing came of it
            (folder / LOCK).unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(lock)


def _lock(place: Path, folder: Path) -> int:
    while True:
        file = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise ParameterError(
                f"{folder} is in use by another run, process {holder}; wait for it, or give "
                "another folder"
            ) from None
        # Its holder may have removed it between our opening and our locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), place.stat()):
                return file
        os.close(file)


def _earlier(folder: Path) -> dict[str, Any]:
    """Return what the directory says of an earlier run; nothing where it says nothing."""
    with contextlib.suppress(FormatError):
        return read_record(folder)
    return {}


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run directory says of its run.

    Raises
    ------
    FormatError
        There is none, it is damaged, or of another format.
    """
    place = folder / RECORD
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(
            f"{folder} holds no {RECORD}: not a run directory, or its run has not finished; run "
            "its command again, it goes on"
        ) from None
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {place}: {error}; run the command again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FormatError(f"{place} is of another format; run its command again")
    for key, kind in FIELDS.items():
        if not isinstance(found.get(key), kind):
            raise FormatError(f"{place} is damaged ({key}); run its command again")
    return found


def versions() -> dict[str, str]:
    """Return what can change a result besides inputs: packages, simulator, machine, own code."""
    found = {"python": platform.python_version(), "machine": _machine()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    found["ngspice"] = _simulator()
    found |= {name: os.environ.get(name, "not set") for name in THREADS}
    found["code"] = _own_code()
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _simulator() -> str:
    from circuits.plan import simulator_version

    try:
        return simulator_version()
    except SimulationError:
        return "none"


def _machine() -> str:
    """Return architecture and processor: libraries choose their kernels, and so bits, by it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{platform.machine()}, {line.partition(':')[2].strip()}"
    return platform.machine()


def _own_code() -> str:
    """Return the sha256 of our source: a commit says nothing of a changed working tree."""
    digest = hashlib.sha256()
    for package in ("netlists", "circuits", "behavioral", "system"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".cir", ".lib", ".toml"):
                digest.update(f"{path.relative_to(ROOT)}\0{inputs.sha256(path)}\n".encode())
    return digest.hexdigest()


def _commit() -> str:
    """Return the commit of the checkout we run from; empty where there is none."""
    if not (ROOT / ".git").exists():
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return done.stdout.strip()
    return ""


def _redirect(args: argparse.Namespace, folder: Path) -> None:
    """Let a command write below the run directory; the last part of a given path is the name."""
    if keeps_results(args):
        return
    for option in WRITTEN:
        given = getattr(args, option, None)
        if given is not None:
            setattr(args, option, str(folder / Path(given).name))
    if hasattr(args, "json") and args.json is None:
        args.json = str(folder / RESULT)


def _hashes(args: argparse.Namespace, read: set[Path], folder: Path) -> Mapping[str, str]:
    """Return the sha256 of everything that was read and not made here, by its name."""
    named = {Path(v).resolve() for v in (getattr(args, option, None) for option in READ) if v}
    places = {p for p in named | read if p.exists() and not p.is_relative_to(folder.resolve())}
    return {inputs.title(place): inputs.sha256(place) for place in sorted(places)}

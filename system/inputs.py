"""What a run reads, noted by those who read it, in this process and its workers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from circuits.cache import cache_root

LEDGER = "NLDPE_INPUTS"  # names a file; the environment takes it to worker processes


def note(place: Path) -> None:
    """Note that a file or folder is read, if anybody wants to know."""
    ledger = os.environ.get(LEDGER)
    if ledger:
        with Path(ledger).open("a", encoding="utf-8") as file:
            file.write(f"{place.resolve()}\n")


def seen() -> set[Path]:
    """Return what was noted so far and is there; nothing where nobody wants to know."""
    ledger = os.environ.get(LEDGER)
    if not ledger:
        return set()
    lines = Path(ledger).read_text(encoding="utf-8").splitlines()
    return {place for place in map(Path, lines) if place.exists()}


@contextmanager
def noted(ledger: Path) -> Iterator[set[Path]]:
    """Gather what is read inside; the set is filled at the end.

    Parameters
    ----------
    ledger : a file for the purpose; it is removed.
    """
    found: set[Path] = set()
    before = os.environ.get(LEDGER)
    ledger.write_text("", encoding="utf-8")
    os.environ[LEDGER] = str(ledger.resolve())
    try:
        yield found
        found.update(map(Path, ledger.read_text(encoding="utf-8").splitlines()))
    finally:
        ledger.unlink(missing_ok=True)
        if before is None:
            del os.environ[LEDGER]
        else:
            os.environ[LEDGER] = before


def sha256(place: Path) -> str:
    """Return the sha256 of a file, or of the names and contents of all files of a folder."""
    if place.is_file():
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(place).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def title(place: Path) -> str:
    """Return a name that is the same on other machines, where there is one."""
    package = Path(str(files("system"))).resolve()
    for root, name in ((cache_root().resolve(), "cache"), (package, "system")):
        if place.is_relative_to(root):
            return f"{name}: {place.relative_to(root).as_posix()}"
    return str(place)

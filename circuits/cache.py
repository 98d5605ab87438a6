"""A content-addressed store of simulation results: one small file per job.

The key is the sha256 of the netlist text, the wanted vectors and the simulator's version, so a
changed parameter can never meet an old result, and an interrupted plan resumes where it stopped.
"""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.files import replacing, write_bytes


def cache_root() -> Path:
    """Return ``NLDPE_CACHE``, or ``nldpe`` under the user's cache folder (``XDG_CACHE_HOME``)."""
    given = os.environ.get("NLDPE_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "nldpe"


def make_key(netlist: str, vectors: Sequence[str], simulator: str) -> str:
    """Return the sha256 that names a result."""
    text = "\0".join([simulator, *vectors, netlist])
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """Results below a folder; safe for several processes, since files are moved into place."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root()
        self.folder = self.root / "spice"
        self.failed = self.root / "failed"

    def load(self, key: str) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return ``(status, vectors)``, or None when absent or unreadable (it is made anew)."""
        try:
            with self._path(key).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                names = [str(name) for name in file["names"]]
                found = {name: file[f"v{k}"] for k, name in enumerate(names)}
                return int(file["status"]), found
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def store(self, key: str, status: int, vectors: dict[str, NDArray[Any]]) -> None:
        """Write a result: to a temporary file beside its place, then moved."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"v{k}": data for k, data in enumerate(vectors.values())}
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez(file, names=np.array(list(vectors), dtype=np.str_), status=status, **arrays)

    def keep_failed(self, name: str, netlist: str, log: str) -> Path:
        """Keep the netlist and log of a failed job; return the netlist's path."""
        self.failed.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(netlist.encode()).hexdigest()[:12]
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        path = self.failed / f"{safe}-{digest}.cir"
        write_bytes(path, netlist.encode())
        write_bytes(path.with_suffix(".log"), log.encode(errors="replace"))
        return path

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

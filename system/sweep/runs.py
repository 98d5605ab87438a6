"""A run directory, and the processes that fill it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from behavioral.library import Library
from circuits.errors import FormatError, NldpeError
from circuits.parameters import Device, Technology
from system.processes import in_processes
from system.sweep.scoring import Task, perform


class RunFolder:
    """Results and libraries below a folder, each written whole.

    Parameters
    ----------
    path : existing folder; `system.runs.hold` keeps other processes out of it.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results, self._libraries = path / "results", path / "libraries"
        for folder in (self._results, self._libraries):
            folder.mkdir(exist_ok=True)

    def place(self, key: str) -> Path:
        """Return where the result of a key is kept."""
        return self._results / f"{key}.json"

    def result(self, key: str) -> dict[str, Any] | None:
        """Return a kept result; None if there is none, or it is damaged."""
        try:
            found = json.loads(self.place(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def library(
        self, device: Device, technology: Technology, *, quick: bool, workers: int
    ) -> tuple[Path, str]:
        """Return the file and sha256 of the library of two cards; ngspice measures what is new.

        Raises
        ------
        NldpeError
            The circuits cannot be characterised.
        """
        text = f"{device.to_toml()}\n{technology.to_toml()}\n{quick}"
        place = self._libraries / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.h5"
        try:
            return place, Library.from_hdf5(place).sha256
        except FormatError:
            made = Library.from_spice(
                device, technology, quick=quick, workers=workers, progress="ngspice"
            )
        made.to_hdf5(place)
        return place, Library.from_hdf5(place).sha256


def make_key(content: dict[str, Any]) -> str:
    """Return the name of a result: the sha256 of everything it depends on."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def execute(tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, dict[str, Any] | str]]:
    """Do tasks in this process or several; yield each with its result, or why it has none.

    Parameters
    ----------
    tasks : sequence of Task
    workers : processes; each computes on one thread.

    Raises
    ------
    SimulationError
        A process was killed.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, _attempt(task)
        return
    yield from in_processes(_attempt, tasks, workers)


def _attempt(task: Task) -> dict[str, Any] | str:
    try:
        return perform(task)
    except NldpeError as error:
        return str(error)

"""A run directory, and the processes that fill it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from behavioral.library import Library
from circuits.errors import FormatError, NldpeError
from circuits.parameters import Device, Technology
from system.files import write_json
from system.processes import in_processes, on_executor
from system.sweep.scoring import Task, compute, perform, read_library


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
        self, device: Device, technology: Technology, *, quick: bool, **run_options: Any
    ) -> tuple[Path, str]:
        """Return the file and sha256 of the library of two cards; ngspice measures what is new.

        `run_options` are those of `circuits.plan.run`.

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
                device, technology, quick=quick, progress="ngspice", **run_options
            )
        made.to_hdf5(place)
        return place, Library.from_hdf5(place).sha256


def make_key(content: dict[str, Any]) -> str:
    """Return the name of a result: the sha256 of everything it depends on."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def execute(
    tasks: Sequence[Task], workers: int, executor: Executor | None = None
) -> Iterator[tuple[Task, dict[str, Any] | str]]:
    """Do tasks in this process or several; yield each with its result, or why it has none.

    Parameters
    ----------
    tasks : sequence of Task
    workers : processes; each computes on one thread.
    executor : whose workers do the tasks instead; they need no file of this machine.

    Raises
    ------
    SimulationError
        A process was killed.
    """
    workers = min(workers, len(tasks))
    if executor is not None:
        yield from _execute_far(tasks, executor)
    elif workers > 1:
        yield from in_processes(_attempt, tasks, workers)
    else:
        for task in tasks:
            yield task, _attempt(task)


def _attempt(task: Task) -> dict[str, Any] | str:
    try:
        return perform(task)
    except NldpeError as error:
        return str(error)


def _execute_far(
    tasks: Sequence[Task], executor: Executor
) -> Iterator[tuple[Task, dict[str, Any] | str]]:
    """Send every task with its library, and keep here what comes back."""
    sent = [(task, read_library(task.library, task.sha256)) for task in tasks]
    for (task, _), found in on_executor(_attempt_far, sent, executor):
        if not isinstance(found, str):
            write_json(task.place, found)
        yield task, found


def _attempt_far(sent: tuple[Task, Library]) -> dict[str, Any] | str:
    try:
        return compute(*sent)
    except NldpeError as error:
        return str(error)

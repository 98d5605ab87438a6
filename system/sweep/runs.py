"""A run directory, and the processes that fill it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partialmethod
from pathlib import Path
from typing import Any

from behavioral.library import Library
from circuits.errors import FormatError, NldpeError, SimulationError
from circuits.parameters import Device, Technology
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
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        futures = {pool.submit(_attempt, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise SimulationError(
            "a worker process was killed, for lack of memory perhaps; finished points are kept: "
            "run the same command again, with fewer --workers"
        ) from None
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(task: Task) -> dict[str, Any] | str:
    try:
        return perform(task)
    except NldpeError as error:
        return str(error)


def _start_worker() -> None:
    """Leave interrupts and progress bars to the parent, and compute on one thread."""
    import numba
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    numba.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own would leak a semaphore when the process is ended
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)

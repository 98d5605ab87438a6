"""Work spread over processes of one thread each."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partialmethod
from typing import Any, TypeVar

from circuits.errors import SimulationError

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    perform: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    begin: Callable[..., object] | None = None,
    *arguments: Any,
) -> Iterator[tuple[Task, Result]]:
    """Yield every task with what `perform` makes of it, in the order in which they end.

    Parameters
    ----------
    perform : function of a module
    tasks : sequence
    workers : processes
    begin : function of a module, called once in every process
    *arguments : of `begin`

    Raises
    ------
    SimulationError
        A process was killed.
    """
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(begin, *arguments),
    )
    try:
        futures = {pool.submit(perform, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise SimulationError(
            "a worker process was killed, for lack of memory perhaps; what is finished is kept: "
            "run the same command again, with fewer --workers"
        ) from None
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(begin: Callable[..., object] | None, *arguments: Any) -> None:
    """Leave interrupts and progress bars to the parent, and compute on one thread."""
    import numba
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    numba.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own would leak a semaphore when the process is ended
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)
    if begin is not None:
        begin(*arguments)

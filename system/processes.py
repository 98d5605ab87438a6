"""Work spread over processes of one thread each, on this machine or on a cluster's."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partialmethod
from typing import Any, TypeVar

from circuits.errors import SimulationError

Task = TypeVar("Task")
Result = TypeVar("Result")
_alone = threading.Lock()


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


def on_executor(
    perform: Callable[[Task], Result], tasks: Sequence[Task], executor: Executor
) -> Iterator[tuple[Task, Result]]:
    """Do `in_processes` on the workers of an executor, such as `circuits.cluster` gives."""
    futures = {executor.submit(_far, perform, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def _far(perform: Callable[[Task], Result], task: Task) -> Result:
    """Do one task at a time on one thread, whatever the worker's process was started with."""
    import numba

    with _alone:
        numba.set_num_threads(1)
        return perform(task)


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

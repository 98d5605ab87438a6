"""Threads that do not change a bit: every sum is made by one thread, in one order.

BLAS adds up in another order with every number of threads. So it gets one thread, and large
products are cut into blocks of samples of fixed size, which threads take in turn.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray
from threadpoolctl import LibController, ThreadpoolController

Float32 = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 2048  # samples of one BLAS call
PANEL = 256  # columns of one: with them, ACAM tables and outputs stay in the second-level cache
ROOM = 1 << 16  # outputs of one block at least, so that calling does not cost more than computing

# OpenMP's threads wait awake: not for milliseconds, when a thread of Python needs their core.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread; numba's threads (NUMBA_NUM_THREADS) share the work instead."""
    found = [(library, library.get_num_threads() or 1) for library in blas_libraries()]
    several = [(library, threads) for library, threads in found if threads > 1]
    for library, _ in several:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in several:
            library.set_num_threads(threads)


@cache
def blas_libraries() -> list[LibController]:
    """Return controllers of BLAS; `ThreadpoolController.limit` takes as long as a small product."""
    return [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]


def product(a: Float32, b: Float32) -> Float32:
    """Return a @ b, (samples, n) times (n, cols), in blocks of samples."""
    if len(a) <= BLOCK:
        return a @ b
    out = np.empty((len(a), b.shape[1]), np.float32)

    def fill(low: int) -> None:
        np.matmul(a[low : low + BLOCK], b, out=out[low : low + BLOCK])

    run_all(fill, range(0, len(a), BLOCK))
    return out


def blocks(samples: int, columns: int) -> list[tuple[slice, slice]]:
    """Cut (samples, columns) into blocks that stay in the cache, panel of columns by panel."""
    panels = [slice(low, min(low + PANEL, columns)) for low in range(0, columns, PANEL)]
    step = max(BLOCK, ROOM // max(1, min(columns, PANEL)))
    parts = [slice(low, min(low + step, samples)) for low in range(0, samples, step)]
    return [(part, panel) for panel in panels for part in parts]


def steps(samples: int, step: int) -> list[slice]:
    """Cut samples into parts of at most `step`."""
    if samples <= step:
        return [slice(0, samples)]
    return [slice(low, min(low + step, samples)) for low in range(0, samples, step)]


def passes(samples: int, columns: int) -> list[slice]:
    """Cut samples so that whatever their outputs need stays in the cache."""
    return steps(samples, max(1, ROOM // max(1, columns)))


@contextmanager
def in_place(whole: NDArray[Any], place: tuple[slice, slice]) -> Iterator[NDArray[Any]]:
    """Give room for one block of an array, contiguous; it is copied in if it lies elsewhere."""
    block = whole[place]
    if block.flags.c_contiguous:
        yield block
    else:
        room = np.empty(block.shape, block.dtype)
        yield room
        block[:] = room


def run_all(
    job: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> list[Result]:
    """Return the result of every job; threads take them in turn. Jobs use one thread each.

    The calling thread works too: waking another takes as long as a small product.
    """
    jobs = list(items)
    threads = 1 if len(jobs) < 2 else min(threads or get_num_threads(), len(jobs))
    if threads == 1:
        return [job(item) for item in jobs]
    results: list[Any] = [None] * len(jobs)
    turn = itertools.count()

    def work() -> None:
        while (number := next(turn)) < len(jobs):
            results[number] = job(jobs[number])

    with one_blas_thread():
        others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
        try:
            work()
        finally:
            wait([other for other in others if not other.cancel()])
    for other in others:
        if not other.cancelled():
            other.result()
    return results


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="block")

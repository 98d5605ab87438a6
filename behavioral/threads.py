"""Threads that do not change a bit: every sum is made by one thread, in one order.

BLAS adds up in another order with every number of threads. So it gets one thread, and large
products are cut into blocks of samples of fixed size, which threads take in turn.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Float32 = NDArray[np.float32]

BLOCK = 512  # samples of one BLAS call


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread; numba's threads (NUMBA_NUM_THREADS) share the work instead."""
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


def product(a: Float32, b: Float32) -> Float32:
    """Return a @ b, (samples, n) times (n, cols), in blocks of samples."""
    if len(a) <= BLOCK:
        return a @ b
    out = np.empty((len(a), b.shape[1]), np.float32)

    def fill(low: int) -> None:
        np.matmul(a[low : low + BLOCK], b, out=out[low : low + BLOCK])

    starts = range(0, len(a), BLOCK)
    if get_num_threads() == 1:
        for low in starts:
            fill(low)
    else:
        list(_pool(get_num_threads()).map(fill, starts))
    return out


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="product")

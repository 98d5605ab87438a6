"""The product of one array of at most 256 x 256 with ideal row drivers, in one call of a kernel.

The steps are those of `CrossbarModel.drive` and `read`, with the same bits; what a part of the
samples needs stays in the cache, and all threads take parts of a batch that is worth it.
"""

import threading

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from behavioral.array import ProgrammedArray
from behavioral.blas import LANES
from behavioral.kernels import crossbar as kernels
from behavioral.noise import add_read_noise
from behavioral.threads import BLOCK, PANEL, one_blas_thread, steps

Float32 = NDArray[np.float32]

MOST = 256  # samples of a part
WORTH = 16384  # outputs of a part below which BLAS's own threads, if it may use any, are faster
SEVERAL = 16  # samples from which on numpy's BLAS is worth the calls, on one thread
_NO_ROWS = np.zeros(0, np.uint32), np.zeros(0, np.float32)


def is_plain(array: ProgrammedArray) -> bool:
    """Return whether one panel of whole vectors and one sum give the product."""
    rows, cols = array.correction.matrix.shape
    fits = 0 < rows == array.rows <= kernels.DEPTH and 0 < cols <= PANEL and cols % LANES == 0
    return fits and array.levels is None


def multiply_plain(
    array: ProgrammedArray,
    x: Float32,
    rest: float,
    seed: int | tuple[int, ...],
    first_sample: int,
) -> tuple[Float32, int]:
    """Return products (samples, cols), and how many inputs left [-1, 1]; see `CrossbarModel`."""
    found, spread = array.correction, array.spread
    noise = (*_NO_ROWS, found.matrix[:0])
    if spread is not None:
        noise = spread.own, spread.weights, spread.matrix
    law = found.laws, np.ascontiguousarray(found.probe.T), found.basis
    fixed = found.matrix, found.common, found.terms
    y, outside = np.empty((len(x), array.cols), np.float32), 0
    for block in steps(len(x), BLOCK):
        out = y[block]
        step, threads = _shares(*out.shape)
        work, variance = _rooms(threads, out.size if spread is not None else 0)
        variance = variance.reshape(-1, array.cols)
        given = x[block], np.float32(rest), *law, *fixed, *noise, step, work, out, variance
        if threads > 1:
            with one_blas_thread():
                outside += kernels.multiply_parallel(*given)
        else:
            alone = len(out) >= SEVERAL and get_num_threads() == 1
            outside += (multiply if alone else kernels.multiply)(*given)
        if spread is not None:
            add_read_noise(out, variance, seed, 0, first_sample + block.start, threads > 1)
    return y, outside


def multiply(
    x: Float32, rest: np.float32, laws: Float32, probe: Float32, basis: Float32, matrix: Float32,
    common: Float32, terms: Float32, own: NDArray[np.uint32], weights: Float32, spread: Float32,
    step: int, work: Float32, out: Float32, variance: Float32,
) -> int:  # fmt: skip
    """Do `kernels.multiply` with numpy's BLAS, on one thread a tenth faster than kernels'."""
    outside = 0
    for part in steps(len(x), step):
        some, y = x[part], out[part]
        driven = work[0, 0, : some.size].reshape(some.shape)
        squares = work[0, 1, : len(some) * len(spread)].reshape(len(some), len(spread))
        outside += kernels.drive(some, rest, laws, probe, basis, own, weights, driven, squares)
        np.matmul(driven, matrix, out=y)
        if terms.size:
            kernels.correct(y, driven, common, terms)
        if squares.size:
            np.matmul(squares, spread, out=variance[part])
    return outside


def _shares(samples: int, cols: int) -> tuple[int, int]:
    """Return samples of a part, and how many threads are worth waking for all of them."""
    least = -(-WORTH // cols)
    threads = min(get_num_threads(), samples // least) if samples > least else 1
    return min(MOST, max(1, -(-samples // threads))), threads


def _rooms(threads: int, outputs: int) -> tuple[Float32, Float32]:
    """Return room for threads (threads, 2, MOST * DEPTH) and for variances, kept between calls."""
    work: Float32 | None = getattr(_kept, "work", None)
    if work is None or len(work) < threads:
        work = _kept.work = np.empty((threads, 2, MOST * kernels.DEPTH), np.float32)
    variance: Float32 | None = getattr(_kept, "variance", None)
    if variance is None or variance.size < outputs:
        variance = _kept.variance = np.empty(outputs, np.float32)
    return work[:threads], variance[:outputs]


_kept = threading.local()

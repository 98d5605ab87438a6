"""The product of one array of at most 256 x 256 with ideal row drivers, in one call of a kernel.

The steps are those of `CrossbarModel.drive` and `read`, with the same bits; what a part of the
samples needs stays in the cache, and all threads take parts of a batch that is worth it.
"""

import threading

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from behavioral.array import ProgrammedArray
from behavioral.blas import LANES, samples_in_place
from behavioral.kernels import crossbar as kernels
from behavioral.noise import add_read_noise
from behavioral.threads import BLOCK, PANEL, one_blas_thread, steps

Float32 = NDArray[np.float32]

MOST = 256  # samples of a part
WORTH = 4096  # outputs of a part below which BLAS's own threads, if it may use any, are faster
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
        step, threads = _shares(len(out), array.rows, array.cols)
        work, variance = _rooms(threads, out.size if spread is not None else 0)
        variance = variance.reshape(-1, array.cols)
        given = x[block], np.float32(rest), *law, *fixed, *noise, step, work, out, variance
        if threads > 1:
            with one_blas_thread():
                outside += kernels.multiply_parallel(*given)
        else:
            outside += kernels.multiply(*given)
        if spread is not None:
            add_read_noise(out, variance, seed, 0, first_sample + block.start, threads > 1)
    return y, outside


def _shares(samples: int, rows: int, cols: int) -> tuple[int, int]:
    """Return samples of a part, and how many threads are worth waking for all of them."""
    least = -(-WORTH // cols)
    threads = min(get_num_threads(), samples // least) if samples > least else 1
    share = min(MOST, max(1, -(-samples // threads)))
    return samples_in_place(rows, cols, share), threads


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

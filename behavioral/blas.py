"""Products by BLAS that do not depend on how many samples are multiplied at once.

BLAS adds up in another order for one sample, for columns that do not fill its vectors, and for sums
longer than its blocks. Here these are formed in one way. OpenBLAS then gives the same bits for any
batch on processors with AVX-512; on others the last bit of some sums may differ.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from behavioral.kernels import crossbar as kernels
from behavioral.threads import blas_libraries, passes

Float32 = NDArray[np.float32]

LANES = 16  # columns of a vector
_SMALL = 10**6  # samples times rows times columns, by OpenBLAS's pull request 3335
_SMALL_FOR = {"SkylakeX", "Cooperlake", "SapphireRapids"}  # processors with AVX-512


def samples_in_place(rows: int, cols: int, most: int) -> int:
    """Return how many samples BLAS multiplies by a matrix as it lies, a power of two up to `most`.

    With more it first copies the matrix to its own order, as it always does on processors that
    have no kernels for small products: `most` there.
    """
    return min(most, 1 << (_SMALL // (rows * cols)).bit_length() - 1) if _has_small() else most


@cache
def _has_small() -> bool:
    found = {getattr(one, "architecture", None) for one in blas_libraries()}
    return bool(found) and found <= _SMALL_FOR


def multiply(a: Float32, b: Float32, columns: slice, out: Float32) -> None:
    """Write ``a @ b[:, columns]`` to `out`, for a (samples, n) and C-contiguous b (n, cols)."""
    if len(a) == 1:
        kernels.multiply_one(a[0], b, columns.start or 0, out[0])
        return
    width = out.shape[1]
    part = b[:, columns]
    if width % LANES:
        part = np.zeros((len(b), width + -width % LANES), np.float32)
        part[:, :width] = b[:, columns]
    elif len(b) <= kernels.DEPTH:
        np.matmul(a, part, out=out)
        return
    for place in passes(*out.shape):
        _add_up(a[place], part, out[place])


def _add_up(a: Float32, b: Float32, out: Float32) -> None:
    """Do `multiply` for whole vectors of columns, `kernels.DEPTH` rows at once."""
    some = np.concatenate((a, a)) if len(a) == 1 else a
    for low in range(0, max(1, len(b)), kernels.DEPTH):
        rows = slice(low, low + kernels.DEPTH)
        total = (some[:, rows] @ b[rows])[: len(a), : out.shape[1]]
        np.copyto(out, total) if low == 0 else np.add(out, total, out=out)

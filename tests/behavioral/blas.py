"""Equality of sums that BLAS made for batches of different sizes."""

import numba
import numpy as np
from threadpoolctl import threadpool_info

EXACT = {"SkylakeX", "Cooperlake", "SapphireRapids"}  # OpenBLAS's names of kernels for AVX-512


def assert_same(found, expected):
    """Compare bit for bit, or to a rounding error where BLAS adds up in several orders."""
    known = {info.get("architecture") for info in threadpool_info() if info["user_api"] == "blas"}
    if known <= EXACT and not numba.config.DISABLE_JIT:  # plain Python rounds each product
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max(initial=1.0))

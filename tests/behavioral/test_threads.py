"""Threads of BLAS, and how many samples it is given at once."""

import numpy as np
import pytest

from behavioral import blas, plain
from behavioral.crossbar import CrossbarModel
from behavioral.threads import blas_libraries, one_blas_thread
from tests.behavioral.standin import make_library


def threads():
    return [library.get_num_threads() for library in blas_libraries()]


def test_blas_has_one_thread_inside_and_those_it_had_before_afterwards():
    before = threads()
    for library in blas_libraries():
        library.set_num_threads(2)
    several = threads()
    with one_blas_thread():
        assert set(threads()) == {1}
    assert threads() == several
    for library, count in zip(blas_libraries(), before, strict=True):
        library.set_num_threads(count)


@pytest.mark.parametrize(
    ("rows", "cols", "most", "samples"), [(256, 256, 256, 8), (16, 16, 256, 256), (256, 256, 3, 3)]
)
def test_so_many_samples_fit_openblas_kernels_for_small_products(
    rows, cols, most, samples, monkeypatch
):
    """At most a million multiplications (its pull request 3335), all where it has none."""
    monkeypatch.setattr(blas, "_has_small", lambda: True)
    assert blas.samples_in_place(rows, cols, most) == samples
    monkeypatch.setattr(blas, "_has_small", lambda: False)
    assert blas.samples_in_place(rows, cols, most) == most


def test_a_product_in_small_parts_has_the_bits_of_one_in_large_parts(monkeypatch):
    """On processors with AVX-512; elsewhere the parts are the same."""
    rng, model = np.random.default_rng(0), CrossbarModel(make_library())
    w, x = rng.uniform(-1, 1, (256, 64)), rng.uniform(-1, 1, (40, 256))
    array = model.program(w, noise="per-read")
    assert plain.is_plain(array)
    small = model.multiply(array, x)
    monkeypatch.setattr(plain, "samples_in_place", lambda rows, cols, most: most)
    np.testing.assert_array_equal(model.multiply(array, x), small)

"""The noise of a matrix, some rows of which share a variance, against the whole sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavioral.crossbar import CrossbarModel
from behavioral.kernels import crossbar as kernels
from behavioral.spread import ERROR, Spread
from tests import naive
from tests.behavioral.standin import make_library


def parts(rows=256, cols=48, samples=400, seed=0):
    """Variances of real size and scatter, and inputs that drive rows unequally hard."""
    rng = np.random.default_rng(seed)
    variance = rng.lognormal(-5.0, 0.5, (rows, cols)).astype(np.float32)
    x = rng.normal(size=(samples, rows)) * np.exp(rng.normal(-2.0, 1.0, rows))
    return variance, x.astype(np.float32)


def variances(spread, x):
    return spread.squares(x) @ spread.matrix


def errors(spread, variance, x):
    """Return relative errors of the variances (samples, cols)."""
    exact = np.square(x, dtype=float) @ variance
    return variances(spread, x) / exact - 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(0, 9), st.integers(0, 3), st.integers(0, 2**31))
def test_squares_equal_their_twin(samples, rows, first, seed):
    rng = np.random.default_rng(seed)
    own = np.flatnonzero(rng.random(rows) < 0.5).astype(np.uint32)
    weights = rng.random(rows).astype(np.float32)
    weights[own] = 0.0
    driven = rng.normal(size=(samples, first + rows + 1)).astype(np.float32)
    width = len(own) + (len(own) < rows)
    out = np.zeros((samples, width + 2), np.float32)
    kernels.square(driven, first, own, weights, out, 1)
    for row, given_row in zip(out, driven, strict=True):
        expected = naive.square(given_row[first:], own, weights)
        np.testing.assert_allclose(row, [0.0, *expected, 0.0], rtol=1e-5)  # float32 sums


def test_error_of_unseen_inputs_is_within_its_limit():
    """Inputs of the same law; 1.3: the choice rests on 400 samples, and sums vary between them."""
    variance, x = parts()
    spread = Spread.of(variance, x[:200])
    rms = np.sqrt(np.mean(errors(spread, variance, x[200:]) ** 2))
    assert ERROR / 10 < rms < 1.3 * ERROR
    assert spread.parts < 0.8 * len(variance)


def test_mean_over_typical_inputs_is_exact():
    variance, x = parts()
    exact = np.square(x, dtype=float).mean(axis=0) @ variance
    got = variances(Spread.of(variance, x), x).mean(axis=0)
    np.testing.assert_allclose(got, exact, rtol=1e-5)  # float32 sums


def test_arrays_that_are_summed_may_err_more_each():
    variance, x = parts()
    alone, of_four = Spread.of(variance, x), Spread.of(variance, x, tiles=4)
    assert len(of_four.own) < len(alone.own)
    rms = np.sqrt(np.mean(errors(of_four, variance, x) ** 2))
    assert rms < 1.3 * 2 * ERROR


def test_equal_variances_need_one_row():
    _, x = parts()
    variance = np.full((256, 48), 0.25, np.float32)
    spread = Spread.of(variance, x)
    assert spread.parts == 1
    np.testing.assert_allclose(errors(spread, variance, x), 0.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 0), (2, 1)])
def test_small_and_empty_matrices(shape):
    x = np.full((4, shape[0]), 0.5, np.float32)
    variance = np.arange(1.0, 1.0 + np.prod(shape), dtype=np.float32).reshape(shape)
    spread = Spread.of(variance, x)
    np.testing.assert_allclose(variances(spread, x), np.square(x) @ variance, rtol=ERROR)


def test_device_without_noise_has_none():
    variance, x = parts()
    assert not variances(Spread.of(0 * variance, x), x).any()


def test_programmed_array_keeps_its_noise_within_the_limit():
    """Every row has a row of its own if the error may be none: that is the whole sum."""
    model = CrossbarModel(make_library())
    w = np.clip(np.random.default_rng(3).normal(0, 0.3, (64, 200)), -1, 1).astype(np.float32)
    x = np.random.default_rng(4).normal(0, 0.4, (300, 64)).clip(-1, 1).astype(np.float32)
    whole = model.program(w, noise="per-read", inputs=x[:200], tiles=0).spread
    shared = model.program(w, noise="per-read", inputs=x[:200], tiles=16).spread
    assert whole.parts == 64
    assert shared.parts < 64
    ratio = variances(shared, x) / variances(whole, x)
    assert np.sqrt(np.mean((ratio - 1.0) ** 2)) < 1.3 * 4 * ERROR

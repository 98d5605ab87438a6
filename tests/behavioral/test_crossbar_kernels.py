"""Kernels of the crossbar against naive twins, scipy and dense solves."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from behavioral.kernels import crossbar as kernels
from behavioral.kernels import dac, ladder
from behavioral.kernels import noise as noise_kernels
from behavioral.noise import quantiles, stream_key
from tests import naive

NO_JIT = bool(numba.config.DISABLE_JIT)
ROWS, COLS = (6, 3) if NO_JIT else (64, 20)
DEGREE = 2


def transfer(g, r, r_end):
    g = np.ascontiguousarray(g, np.float32)
    out = np.empty_like(g)
    ladder.transfer_profile(g, r, r_end, out)
    return out


columns = st.tuples(
    st.integers(0, 9), st.integers(0, 4), st.sampled_from([0.0, 1e-4, 0.02, 3.0]), st.floats(0, 2)
)


@settings(max_examples=15 if NO_JIT else 60, deadline=None)
@given(columns, st.integers(0, 2**31))
def test_effective_matrix_is_that_of_the_dense_nodal_equations(shape, seed):
    """Dense solve in float64; the kernel returns float32, so 1e-6 relative."""
    rows, cols, r, r_end = shape
    g = 10 ** np.random.default_rng(seed).uniform(-6, 0.3, (rows, cols)).astype(np.float32)
    found = g * transfer(g, r, r_end)
    for c in range(cols):
        expected = naive.effective_column(g[:, c].astype(float), r, r_end)
        np.testing.assert_allclose(found[:, c], expected, rtol=2e-6, atol=0)


def test_effective_matrix_equals_the_banded_solve_of_scipy():
    """Nodal matrix is tridiagonal: scipy.linalg.solve_banded for the passive ladder."""
    g = np.random.default_rng(0).uniform(0, 1, ROWS)
    r, r_end = 0.003, 0.01
    band = np.zeros((3, ROWS))
    band[0, 1:] = band[2, :-1] = -1 / r
    band[1] = g + 2 / r
    band[1, 0] -= 1 / r
    band[1, -1] += 1 / r_end - 1 / r
    end = np.zeros(ROWS)
    end[-1] = 1 / r_end
    expected = linalg.solve_banded((1, 1), band, end)
    np.testing.assert_allclose(transfer(g[:, None], r, r_end)[:, 0], expected, rtol=2e-6)


@settings(max_examples=10 if NO_JIT else 40, deadline=None)
@given(columns, st.integers(0, 2**31))
def test_first_order_response_equals_its_twin(shape, seed):
    rows, cols, r, r_end = shape
    rng = np.random.default_rng(seed)
    g, ohmic = rng.uniform(0.01, 1, (2, rows, cols)).astype(np.float32)
    alpha = rng.normal(size=(rows, cols)).astype(np.float32)
    x = rng.uniform(-1, 1, (2, rows)).astype(np.float32)
    base, slope = rng.normal(size=(2, 6)) * 0.1
    powers = [(a, b) for b in range(DEGREE + 1) for a in range(DEGREE + 1 - b)]
    folded = np.zeros((2, 2, rows, 6), np.float32)  # the kernel's are of the fifth degree
    for law, out in zip((base, slope), folded, strict=True):
        for value, (a, b) in zip(law, powers, strict=True):
            out[:, :, b] += value * x**a
    first, second = np.empty((2, 2, cols), np.float32)
    z = transfer(ohmic, r, r_end)
    ends = np.float32(r), np.float32(r_end)
    ladder.perturb(g, ohmic, z, alpha, *folded, x, *ends, first, second)
    for m in range(2):
        for c in range(cols):
            arrays = (a[:, c].astype(float) for a in (g, ohmic, alpha))
            v = x[m].astype(float)
            expected = naive.first_order_column(*arrays, base, slope, DEGREE, v, r, r_end)
            np.testing.assert_allclose((first[m, c], second[m, c]), expected, rtol=2e-4, atol=2e-5)


@settings(max_examples=5 if NO_JIT else 40, deadline=None)
@given(columns, st.integers(0, 3), st.integers(0, 2**31))
def test_predistortion_repeats_retargeting_at_the_present_transfer(shape, steps, seed):
    """To the bit: both do the same operations, one for strips, the other for whole arrays."""
    rows, cols, r, r_end = shape
    w = np.random.default_rng(seed).uniform(-1, 1, (rows, cols)).astype(np.float32)
    low, top = np.float32(0.02), np.float32(1.02)
    expected, found = np.empty((2, 2, rows, cols), np.float32)
    z_pos = z_neg = np.ones_like(w)
    clipped = ladder.retarget(w, low, top, z_pos, z_neg, *expected)
    for _ in range(steps):
        z_pos, z_neg = (transfer(g, r, r_end) for g in expected)
        clipped = ladder.retarget(w, low, top, z_pos, z_neg, *expected)
    assert ladder.predistort(w, low, top, r, r_end, steps, *found) == clipped
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=10 if NO_JIT else 40, deadline=None)
@given(st.integers(0, 9), st.integers(0, 3), st.integers(1, 2), st.integers(0, 2**31))
def test_linearised_inputs_equal_their_twin(rows, samples, parts, seed):
    rng = np.random.default_rng(seed)
    x = (1.5 * rng.uniform(-1, 1, (rows, samples)).astype(np.float32)).T.copy()
    probe, basis = rng.normal(size=(2, 5, rows)).astype(np.float32) / 9
    laws = rng.normal(size=(parts, 6, 6)).astype(np.float32)
    for run in (kernels.linearize, kernels.linearize_parallel):
        wide = np.pad(x, ((0, 0), (2, 1)), constant_values=9)
        out = np.zeros((samples, 3 + parts * rows), np.float32)
        outside = run(wide, 2, np.float32(0), probe, basis, laws, out, 1)
        assert outside == (np.abs(x) > 1).sum()
        for m in range(samples):
            expected = naive.linearized(x[m], (probe @ x[m]) @ basis, laws, 5)
            np.testing.assert_allclose(out[m], [0, *expected, 0, 0], rtol=1e-5, atol=1e-5)


@settings(max_examples=10 if NO_JIT else 40, deadline=None)
@given(st.integers(0, 40), st.sampled_from([0.0, -0.0625, 0.125]), st.integers(0, 2**31))
def test_bent_inputs_equal_their_twin(size, rest, seed):
    """Float32 polynomial of degree 5: a few rounding errors of 1e-7."""
    rng = np.random.default_rng(seed)
    x, law = 1.5 * rng.uniform(-1, 1, size).astype(np.float32), rng.normal(size=6)
    x[rng.random(size) < 0.1] = np.nan
    wide = np.stack([np.full(size + 3, np.nan, np.float32)] * 2)
    wide[:, 1 : size + 1] = x
    for run in (kernels.bend, kernels.bend_parallel):
        out = np.zeros((2, size + 5), np.float32)
        outside = run(wide, 1, size, np.float32(rest), law.astype(np.float32), out, 3)
        assert outside == 2 * np.count_nonzero(~(np.abs(x) <= 1))
        assert not out[:, :3].any()
        assert not out[:, size + 3 :].any()
        fine, found = ~np.isnan(x), out[1, 3 : size + 3]
        np.testing.assert_allclose(
            found[fine], naive.bent(x[fine], rest, law), rtol=1e-4, atol=1e-5
        )


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9), st.integers(0, 2**31))
def test_correction_equals_its_twin(samples, cols, rows, seed):
    rng = np.random.default_rng(seed)
    shapes = (samples, cols), (2, cols), (samples, rows + 2), (rows,)
    y, terms, driven, common = (rng.normal(size=s).astype(np.float32) for s in shapes)
    expected = naive.correct(y, driven, common, terms)
    kernels.correct(y, driven, common, terms)
    scale = np.abs(expected).max(initial=1.0)  # sums in float32: parts of the largest output
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 * scale)


@settings(max_examples=10 if NO_JIT else 30, deadline=None)
@given(st.integers(0, 7), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_product_of_an_array_equals_its_twin(samples, rows, profiled, noisy, seed):
    """Sums of a few float32 numbers, each rounded to 6e-8 of the largest."""
    rng, cols = np.random.default_rng(seed), 16
    x = rng.uniform(-1, 1, (samples, rows)).astype(np.float32)
    own = np.flatnonzero(rng.random(rows) < 0.5).astype(np.uint32)
    weights = rng.random(rows).astype(np.float32)
    weights[own] = 0.0
    matrix, spread, terms, laws, probe, basis, common = (
        rng.normal(size=shape).astype(np.float32) / 3
        for shape in (
            (rows, cols), ((len(own) + (len(own) < rows)) * noisy, cols), (2, cols),
            (1, 6, 6) if profiled else (1, 1, 6), (5, rows), (5, rows), (rows,),
        )
    )  # fmt: skip
    given_ = x, laws, probe, basis, matrix, common, terms, own, weights, spread
    expected, variances = naive.multiply(*given_)
    for run, threads in ((kernels.multiply, 1), (kernels.multiply_parallel, 2)):
        out, work = np.empty((samples, cols), np.float32), np.empty((threads, 2, 3 * rows), "f4")
        variance = np.empty((samples * noisy, cols), np.float32)
        assert run(x, np.float32(0), *given_[1:], 3, work, out, variance) == 0
        scale = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5 * scale)
        np.testing.assert_allclose(variance, variances, rtol=1e-4, atol=1e-5 * scale)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(0, 7), st.integers(1, 7), st.integers(0, 2**31))
def test_row_drivers_equal_their_twin(samples, inputs, zero, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 9, (samples, inputs)).astype(np.float32)
    steps = rng.uniform(0.1, 2, inputs).astype(np.float32)
    out = np.empty_like(x)
    dac.encode(x, steps, np.float32(-zero), np.float32(7 - zero), np.float32(0.125), out)
    expected = [
        [naive.dac(v, s, -zero, 7 - zero) / 8 for v, s in zip(row, steps, strict=True)] for row in x
    ]
    np.testing.assert_array_equal(out, np.reshape(expected, x.shape))


@pytest.mark.skipif(NO_JIT, reason="needs many samples")
@pytest.mark.parametrize("cols", [1, 7, 256])
def test_quick_normals_are_normal_to_the_tails(cols):
    """Kolmogorov-Smirnov at 4e5 samples (p > 1e-4), and the expected number beyond 4 sigma."""
    y = np.zeros((400_000 // cols, cols), np.float32)
    noise_kernels.add_noise(y, np.ones_like(y), quantiles(), stream_key(3, "t"), np.uint64(0))
    draws = y.ravel()
    assert stats.kstest(draws, "norm").pvalue > 1e-4
    expected = draws.size * 2 * stats.norm.sf(4)
    assert abs(np.count_nonzero(np.abs(draws) > 4) - expected) < 4 * np.sqrt(expected)
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 4 / np.sqrt(draws.size)

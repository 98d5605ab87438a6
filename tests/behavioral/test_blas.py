"""Products whose rows do not depend on one another."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from behavioral.blas import multiply
from tests.behavioral.blas import assert_same


def product(a, b, columns=slice(None)):
    out = np.full((len(a), b[:, columns].shape[1]), np.nan, np.float32)
    multiply(a, b, columns, out)
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 600), st.integers(1, 40), st.integers(1, 9))
def test_rows_do_not_depend_on_how_many_are_multiplied(samples, depth, cols, step):
    rng = np.random.default_rng(samples * depth + cols)
    a, b = rng.normal(size=(samples, depth)), rng.normal(size=(depth, cols + 3))
    a, b = a.astype(np.float32), b.astype(np.float32)
    whole = product(a, b, slice(2, 2 + cols))
    parts = [product(a[k : k + step], b, slice(2, 2 + cols)) for k in range(0, samples, step)]
    assert_same(np.concatenate(parts), whole)
    # float32 sums of some hundred terms: within 1e-5 of the largest
    exact = a.astype(float) @ b[:, 2 : 2 + cols]
    np.testing.assert_allclose(whole, exact, atol=1e-5 * np.abs(exact).max(initial=1.0))


def test_a_batch_longer_than_a_pass_and_no_samples_at_all():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 300, 300)).astype(np.float32)
    assert_same(product(a, b)[256:], product(a[256:], b))
    assert product(a[:0], b).shape == (0, 300)

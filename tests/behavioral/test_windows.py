"""Windows of functions: counts, edges, placement on data lines."""

import numpy as np
import pytest
from scipy.special import erf

from behavioral.windows import Windows
from circuits.errors import ParameterError
from tests import naive


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def silu(x):
    return x / (1 + np.exp(-x))


def logistic(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def identity():
    return Windows.from_function(lambda x: x, (0.0, 1.0))


@pytest.mark.parametrize(
    ("f", "reach"),
    [
        (lambda x: x, (-1, 1)),
        (lambda x: np.maximum(x, 0), (-1, 1)),
        (logistic, (-8, 8)),
        (np.tanh, (-4, 4)),
        (np.exp, (-8, 0)),
        (np.log, (0.001, 1)),
    ],
)
@pytest.mark.parametrize("bits", [6, 7, 8, 9])
def test_monotone_functions_need_the_published_number_of_rows(f, reach, bits):
    """papers.md A.4: 2**(bits - 1) rows in Gray code, 2**bits - 1 in binary."""
    assert Windows.from_function(f, reach, bits=bits, gray=True).rows == 2 ** (bits - 1)
    assert Windows.from_function(f, reach, bits=bits, gray=False).rows == 2**bits - 1


@pytest.mark.parametrize(
    ("f", "reach", "gray", "binary"),
    [
        (gelu, 8, (33, 66, 132, 263), (64, 130, 260, 522)),
        (silu, 12, (33, 66, 132, 263), (64, 130, 261, 523)),
    ],
)
def test_non_monotone_functions_need_the_published_number_of_rows(f, reach, gray, binary):
    """papers.md A.4, exact interval counting at 6 to 9 bits; the range is ours."""
    ends = (-reach, reach)
    counts = [Windows.from_function(f, ends, bits=b, gray=True).rows for b in (6, 7, 8, 9)]
    assert tuple(counts) == gray
    counts = [Windows.from_function(f, ends, bits=b, gray=False).rows for b in (6, 7, 8, 9)]
    assert tuple(counts) == binary


def test_rows_per_bit_halve_towards_the_most_significant(identity):
    """papers.md A.4: 64, 32, 16, 8, 4, 2, 1, 1 rows from the least significant bit."""
    assert np.bincount(identity.bit).tolist() == [64, 32, 16, 8, 4, 2, 1, 1]


@pytest.mark.parametrize("f", [gelu, silu, np.sin, lambda x: np.floor(3 * x)])
@pytest.mark.parametrize("gray", [True, False])
def test_windows_reproduce_the_quantised_function(f, gray):
    w = Windows.from_function(f, (-3.0, 5.0), bits=6, gray=gray)
    x = np.random.default_rng(0).uniform(-3, 5, 400)
    low, high = w.y_range
    expected = np.clip(np.floor((f(x) - low) / (high - low) * 63 + 0.5), 0, 63)
    np.testing.assert_array_equal(naive.search(w.lo, w.hi, w.bit, gray, x), expected)


def test_edges_of_windows_are_exact():
    """The edges of a quantised exponential are the logarithms of half-integers over 15."""
    w = Windows.from_function(np.exp, (-5.0, 0.0), (0.0, 1.0), bits=4)
    edges = np.unique(np.concatenate([w.lo, w.hi])[np.isfinite(np.concatenate([w.lo, w.hi]))])
    np.testing.assert_allclose(edges, np.log((np.arange(15) + 0.5) / 15), rtol=0, atol=1e-12)


def test_a_constant_beyond_the_range_needs_only_open_rows():
    w = Windows.from_function(lambda x: 0 * x + 9.0, (0.0, 1.0), (0.0, 1.0), gray=True)
    assert (w.rows, w.lo[0], w.hi[0], w.bit[0]) == (1, -np.inf, np.inf, 7)


def test_levels_put_bounds_midway():
    w = Windows.from_levels([0, 0, 1, 3, 3], (0.0, 4.0), (0.0, 3.0), bits=2, gray=False)
    assert w.lo.tolist() == [1.5, 2.5]
    assert w.hi.tolist() == [np.inf, np.inf]
    assert w.bit.tolist() == [0, 1]


def test_columns_place_windows_by_bias_and_range():
    w = Windows.from_function(np.tanh, (-4.0, 4.0), bits=3)
    lo, hi = w.on_data_line([-2.0, 3.0], [2.0, -1.0])
    np.testing.assert_allclose(lo[0], (w.lo + 2) / 4, rtol=1e-6)
    np.testing.assert_allclose(hi[1], (w.lo - 3) / -4, rtol=1e-6)
    np.testing.assert_allclose(lo[1], (w.hi - 3) / -4, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x_range": (1.0, 1.0)}, "x_range"),
        ({"x_range": (0.0, np.nan)}, "x_range"),
        ({"x_range": (0.0, 1.0), "bits": 0}, "1 to 16 bits"),
        ({"x_range": (-1.0, 1.0), "f": np.reciprocal}, "finite"),
    ],
)
def test_bad_ranges_are_refused(arguments, message):
    f = arguments.pop("f", np.negative)
    with np.errstate(divide="ignore"), pytest.raises(ParameterError, match=message):
        Windows.from_function(f, **arguments)


def test_coinciding_line_ends_are_refused(identity):
    with pytest.raises(ParameterError, match="column 1"):
        identity.on_data_line([0.0, 1.0], [1.0, 1.0])

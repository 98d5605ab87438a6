"""Decision trees per output bit against the exact windows."""

import numpy as np
import pytest

from behavioral.windows import Windows
from circuits.errors import ParameterError
from system.layer_spec import FUNCTIONS
from system.training.trees import fit_windows


@pytest.mark.parametrize(
    ("name", "x_range", "gray", "rows"),
    [
        (None, (0.0, 1.0), True, 128),
        ("relu", (0.0, 4.0), False, 255),
        ("sigmoid", (-8.0, 8.0), True, 128),
        ("tanh", (-4.0, 4.0), False, 255),
        ("gelu", (-8.0, 8.0), True, 132),
        ("gelu", (-8.0, 8.0), False, 260),
        ("silu", (-10.0, 10.0), True, 132),
        ("silu", (-12.0, 12.0), False, 261),
    ],
)
def test_trees_have_the_published_rows_where_the_exact_windows_are(name, x_range, gray, rows):
    """Rows: NL-DPE Table I, by counting. Edges lie within half a sample distance."""
    exact = Windows.from_function(FUNCTIONS[name], x_range, gray=gray)
    found = fit_windows(FUNCTIONS[name], x_range, exact.y_range, gray=gray)
    assert found.rows == exact.rows == rows
    np.testing.assert_array_equal(found.bit, exact.bit)
    distance = (x_range[1] - x_range[0]) / 4999
    for ours, wanted in ((found.lo, exact.lo), (found.hi, exact.hi)):
        inner = np.isfinite(wanted)
        np.testing.assert_array_equal(np.isfinite(ours), inner)
        assert np.abs(ours[inner] - wanted[inner]).max() <= 0.5001 * distance


def test_too_few_samples_miss_rows():
    exact = Windows.from_function(FUNCTIONS[None], (0.0, 1.0))
    assert fit_windows(FUNCTIONS[None], (0.0, 1.0), exact.y_range, samples=60).rows < 128


def test_an_empty_range_is_refused():
    with pytest.raises(ParameterError, match="lower end"):
        fit_windows(FUNCTIONS[None], (1.0, 1.0), (0.0, 1.0))

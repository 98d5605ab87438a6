"""Tables: interpolation, range policy, refusal of holes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavioral.table import Table
from circuits.errors import FormatError, TableRangeError


def plane(policy="error"):
    x, y = np.array([0.0, 1.0, 3.0]), np.array([-1.0, 2.0])
    return Table("plane", [("x", x), ("y", y)], 2 * x[:, None] - y, policy=policy)


@given(st.floats(0, 3), st.floats(-1, 2))
def test_linear_table_reproduces_a_plane(x, y):
    assert plane()(x, y) == pytest.approx(2 * x - y, abs=1e-12)


def test_logarithmic_axis_is_linear_in_the_logarithm():
    g = np.geomspace(1e-8, 1e-4, 5)
    table = Table("t", [("g", g)], np.log(g), log=("g",))
    assert table(3e-7) == pytest.approx(np.log(3e-7), rel=1e-12)


@pytest.mark.parametrize("method", ["linear", "pchip", "cubic"])
def test_table_returns_its_own_points(method):
    x = np.linspace(0, 1, 6)
    np.testing.assert_allclose(Table("t", [("x", x)], x**3, method=method)(x), x**3, atol=1e-14)


def test_error_policy_raises_outside_with_the_range():
    with pytest.raises(TableRangeError, match=r"plane: x = .* 0 \.\. 3"):
        plane()(3.5, 0.0)


def test_clip_policy_counts_and_uses_the_edge():
    table = plane("clip")
    assert table(np.array([4.0, 1.0, -2.0]), 0.0).tolist() == pytest.approx(
        [6.0, 2.0, 0.0], abs=1e-12
    )
    assert (table.clipped, table.lookups) == (2, 6)


def test_nan_is_refused_on_the_way_in():
    with pytest.raises(TableRangeError, match="NaN"):
        plane("clip")(np.nan, 0.0)


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        ([0.0, 1.0], [1.0, np.nan], "1 of 2 points are missing"),
        ([0.0, 0.0], [1.0, 2.0], "not strictly increasing"),
        ([0.0, 1.0], [1.0, 2.0, 3.0], "values"),
    ],
)
def test_broken_tables_are_refused(x, values, message):
    with pytest.raises(FormatError, match=message):
        Table("t", [("x", x)], values)

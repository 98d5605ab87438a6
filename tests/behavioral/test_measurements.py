"""Measurement tables: which rows belong together, and what is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behavioral.measurements import Measurements
from circuits.errors import DataError


def read(folder, text):
    (folder / "m.csv").write_text(text)
    return Measurements.from_csv(folder / "m.csv")


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("target_s,measured_s\n1u,1u\n1u,2u\n2u,2u\n", [0, 1, 2]),
        ("target_s,measured_s,read_index\n1u,1u,0\n1u,1u,1\n1u,1u,0\n2u,2u,1\n", [0, 0, 1, 2]),
        ("cell,target_s,measured_s\nb,1u,1u\na,1u,1u\nb,1u,1u\n", [1, 0, 1]),
        ("target_s,voltage_v,current_a\n1u,.1,.1u\n1u,.2,.2u\n2u,.1,.2u\n", [0, 0, 1]),
    ],
)
def test_rows_of_a_programmed_state_share_a_cell(tmp_path, text, cells):
    assert read(tmp_path, text).cell.tolist() == cells


def test_quantities_that_a_row_lacks_are_nan_and_suffixes_are_read(tmp_path):
    text = "target_s, measured_s,voltage_v,current_a\n1u,900n,,\n\n2u,,0.1,200n\n"
    data = read(tmp_path, text)
    np.testing.assert_array_equal(data.target_s, [1e-6, 2e-6])
    np.testing.assert_array_equal(data.measured_s, [900e-9, np.nan])
    np.testing.assert_array_equal(data.current_a, [np.nan, 200e-9])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the column target_s"),
        ("target,measured_s\n1,1\n", "unknown column 'target'; nearest: target_s"),
        ("target_s,voltage_v\n1,1\n", "and measured_s or voltage_v with current_a"),
        ("target_s,measured_s\n", "holds no rows"),
        ("target_s,measured_s\n1u,abc\n", "line 2: measured_s: 'abc' is not a number"),
        ("target_s,measured_s\n1u,inf\n", "line 2: measured_s = inf is out of range"),
        ("target_s,measured_s\n1u,1u\n-1u,1u\n", "line 3: target_s must be positive"),
        ("target_s,measured_s\n1u,1u,3\n", "line 2: more values than the header"),
        ("target_s,measured_s,target_s\n1u,1u,3\n", "stands twice"),
    ],
)
def test_wrong_tables_are_explained(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_no_text_is_explained(tmp_path):
    (tmp_path / "m.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="cannot read"):
        Measurements.from_csv(tmp_path / "m.csv")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet='target_smeasured,voltage_v\n"0159.eu-', max_size=200))
def test_any_text_is_read_or_explained(tmp_path, text):
    with contextlib.suppress(DataError):
        assert (read(tmp_path, "target_s,measured_s\n" + text).target_s > 0).all()

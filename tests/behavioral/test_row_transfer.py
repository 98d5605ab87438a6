"""Row drivers in the crossbar model: kernel, loads of arrays, pre-distortion, files."""

import dataclasses

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from behavioral import reference
from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from behavioral.row_transfer import RowTransfer, follow
from behavioral.tables import Tables
from circuits.errors import FormatError, TableRangeError
from tests import naive
from tests.behavioral.standin import driven_library, make_library, row_transfer

RNG = np.random.default_rng(3)


def weights(rows=48, cols=300, mean=0.0):
    return np.clip(RNG.normal(mean, 0.2, (rows, cols)), -1, 1).astype(np.float32)


@settings(deadline=None)  # the kernel is compiled at its first call
@given(
    arrays.arrays(np.float32, (3, 5), elements=st.floats(-1.5, 1.5, width=32)),
    st.integers(2, 9),
)
def test_rows_follow_their_levels(x, count):
    """Linear in between: numpy's interpolation row by row, within float32."""
    levels = np.sort(np.random.default_rng(count).uniform(-1, 1, (4, count))).astype("f4")
    out, outside = follow(x, slice(1, 5), levels)
    np.testing.assert_allclose(out, naive.follow(x[:, 1:], levels), atol=2e-6)
    assert outside == (np.abs(x[:, 1:]) > 1).sum()


def test_gains_of_a_resistive_source_are_ohms_law():
    """Held against the law between the table's loads; cubic interpolation in the root of G."""
    transfer, load = RowTransfer(row_transfer(18.0), 0.2), np.geomspace(1e-5, 0.03, 50)
    np.testing.assert_allclose(transfer.gain(load), 1 / (1 + 18 * load), rtol=2e-4)
    assert transfer.gain(np.array([1.0])) == transfer.gain(np.array([0.0384]))  # beyond: the end


def test_a_driver_without_resistance_changes_nothing():
    w, x = weights(), RNG.uniform(-1, 1, (20, 48)).astype(np.float32)
    ideal, driven = CrossbarModel(make_library()), CrossbarModel(driven_library(0.0))
    y = [m.multiply(m.program(w, seed=1), x) for m in (ideal, driven)]
    np.testing.assert_allclose(y[1], y[0], atol=1e-5 * np.abs(y[0]).max())


@pytest.mark.parametrize(("mean", "bar"), [(0.0, 0.1), (0.1, 0.2)])
@pytest.mark.parametrize("predistort", [True, False])
def test_arrays_load_their_own_drivers(predistort, mean, bar):
    """Newton's method, every array's rows at their own voltages; rms in LSB of each column.

    44 columns stand beside 256; with a mean weight of 0.1 one array of a pair has four times the
    load of the other, and what is left is how cells bend at voltages of their own.
    """
    model = CrossbarModel(driven_library(20.0, 1e-3))
    w, x = weights(mean=mean), RNG.uniform(-1, 1, (40, 48)).astype(np.float32)
    array = model.program(w, seed=1, predistort=predistort, inputs=x, keep_devices=True)
    y, exact = model.multiply(array, x), reference.multiply(model, array, x)
    error = (y - exact) / np.ptp(exact, axis=0) * 256
    assert np.sqrt((error**2).mean()) < bar
    without = dataclasses.replace(array, levels=None)
    assert np.abs(model.multiply(without, x) - exact).max() > 10 * np.abs(y - exact).max()


def test_larger_weights_make_up_for_the_drivers():
    """What is left is the estimate of the load: pre-distortion for bit lines adds to it."""
    model = CrossbarModel(driven_library(20.0))
    w, x = weights(48, 256), RNG.uniform(-1, 1, (20, 48)).astype(np.float32)
    slopes = []
    for predistort in (False, True):
        y = model.multiply(model.program(w, noise="none", predistort=predistort), x)
        slopes.append(float((y * (x @ w)).sum() / ((x @ w) ** 2).sum()))
    assert slopes[0] < 0.95
    assert slopes[1] == pytest.approx(1.0, abs=0.02)


def test_inputs_beyond_the_swing_are_counted_or_refused():
    w, x = weights(4, 3), np.full((2, 4), 1.5, np.float32)
    model = CrossbarModel(driven_library(10.0))
    model.multiply(model.program(w), x)
    assert model.clipped_inputs == 8
    strict = CrossbarModel(driven_library(10.0), policy="error")
    with pytest.raises(TableRangeError, match="8 inputs"):
        strict.multiply(strict.program(w), x)


def test_a_library_keeps_its_driver(tmp_path):
    library = driven_library(20.0)
    library.to_hdf5(tmp_path / "l.h5")
    again = Library.from_hdf5(tmp_path / "l.h5")
    np.testing.assert_array_equal(again.row_transfer.row_v, library.row_transfer.row_v)
    assert again.technology == library.technology
    assert "row_transfer" in again.summary()


def test_a_library_that_lacks_its_driver_is_refused(tmp_path):
    library = driven_library(20.0)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in ("acam", "crossbar", "readout"):
            file.create_group(f"{name}/nominal")
        with pytest.raises(FormatError, match="row_transfer/nominal is missing"):
            Tables.from_hdf5(file, "nominal", library.technology.to_toml())

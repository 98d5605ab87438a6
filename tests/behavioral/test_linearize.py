"""Uneven DAC levels and conductances that count with their own gain."""

import dataclasses

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from behavioral import reference
from behavioral.crossbar import CrossbarModel
from behavioral.kernels import dac
from behavioral.programming import Job
from circuits.errors import ParameterError
from tests import naive
from tests.behavioral.standin import make_library, simulated_library

NO_JIT = bool(numba.config.DISABLE_JIT)
ROWS, COLS, SAMPLES = (24, 4, 16) if NO_JIT else (128, 12, 48)


@pytest.fixture(scope="module")
def model():
    return CrossbarModel(make_library())


def weights(rows=ROWS, cols=COLS):
    """Normal weights over their largest, a fifth of the range left free."""
    w = np.random.default_rng(7).normal(size=(rows, cols))
    return 0.8 * w / np.abs(w).max()


def wanted_inputs(samples=SAMPLES, rows=ROWS):
    return np.clip(np.random.default_rng(5).normal(0, 0.15, (samples, rows)), -1, 1).astype("f4")


@settings(deadline=None)  # the kernel is compiled at its first call
@given(
    arrays(np.float32, 7, elements=st.floats(-1.5, 1.5, width=32) | st.just(np.nan)),
    st.integers(2, 9),
)
def test_levels_are_looked_up_as_numpy_interpolates(x, count):
    levels = np.sort(np.random.default_rng(count).uniform(-1, 1, count)).astype(np.float32)
    found = np.empty_like(x)
    dac.place(x, levels, found)
    np.testing.assert_allclose(found, naive.place(x, levels), atol=1e-6)


def test_levels_make_the_mean_cell_linear(model):
    """Within float32 and the table's steps; -1 passes 0.3 % more than 1, so it is not reached."""
    x = np.linspace(-1, 1, 333).astype(np.float32)
    levels = model.levels(x)
    np.testing.assert_allclose(model.cell.bend(levels.astype(float))[0], x, atol=1e-6)
    assert model.levels(np.zeros(1))[0] == 0.0
    assert np.abs(levels - x).max() > 3e-3


def test_the_bent_current_is_that_of_the_cell_law(model):
    """The mean over alpha of cells' currents from the fitted law, at rest bit lines."""
    v, g = np.linspace(-1, 1, 21), 3e-5
    mean, more = model.cell.bend(v)
    rram = model.cell.rram_conductance(g)
    alpha = np.interp(g, model.cell.alpha_step * np.arange(model.cell.alpha.size), model.cell.alpha)
    current = model.cell.current(rram, v * model.v_read, 0.0) / (g * model.v_read)
    np.testing.assert_allclose(mean + alpha * more, current, atol=1e-3)  # one alpha a cell: 7e-4


def test_conductances_respond_as_wanted(model):
    inverse = model.cell.inverse(-0.1, model.span)
    job = Job((0,), "none", 1, True, np.float32(1.0), inverse)
    wanted = np.linspace(0.01, 0.9, 40).astype(np.float32).reshape(4, 10)
    g = job.conductance(wanted)
    alpha = np.interp(
        g * model.span, model.cell.alpha_step * np.arange(model.cell.alpha.size), model.cell.alpha
    )
    np.testing.assert_allclose(g * (1 - 0.1 * alpha), wanted, rtol=1e-5)
    assert job.response(float(g[2, 3])) == pytest.approx(wanted[2, 3], rel=1e-5)


def spread(found, wanted):
    """Return the rms error, but for each column's constant, which `ground_trim` takes off."""
    error = found - wanted
    return np.sqrt(np.mean(np.square(error - error.mean(axis=0))))


def test_linearized_columns_are_nearer_to_the_product(model):
    """Newton on every column; what is left is the voltage of bit lines."""
    w, x = weights(), wanted_inputs()
    volts = model.levels(x)
    plain = model.program(w, noise="none", inputs=x, keep_devices=True)
    ready = model.program(w, noise="none", inputs=volts, linearize=True, keep_devices=True)
    linear = reference.multiply(model, ready, volts)
    assert spread(linear, x @ w) < spread(reference.multiply(model, plain, x), x @ w) / 3
    assert spread(model.multiply(ready, volts), linear) < 0.1 * np.ptp(linear) / 256


def test_without_predistortion_conductances_stay(model):
    w, x = weights(), wanted_inputs()
    options = {"noise": "none", "predistort": False, "keep_devices": True, "inputs": x}
    one, other = (model.program(w, linearize=choice, **options) for choice in (False, True))
    np.testing.assert_array_equal(one.devices, other.devices)


def test_cells_stay_within_their_range(model):
    w = np.sign(weights())
    array = model.program(w, noise="none", linearize=True, slices=1, keep_devices=True)
    g = model.cell.cell_conductance(array.devices.astype(float))
    assert g.max() <= (model.g_min + model.span) * (1 + 1e-3)
    assert g.min() >= model.g_min * (1 - 1e-3)


def test_rows_driven_by_pulses_have_no_levels():
    library = make_library()
    technology = library.technology.override({"driver.circuit": "pulses"})
    model = CrossbarModel(dataclasses.replace(library, technology=technology))
    with pytest.raises(ParameterError, match="pulses"):
        model.program(weights(), linearize=True)
    assert model.program(weights(), noise="none").cols == COLS


@pytest.mark.ngspice
def test_ngspice_columns_are_nearer_to_the_product_too(spice_cache):
    """Transistor-level columns of 64 cells without noise; in longer ones bit lines count more."""
    from circuits import crossbar
    from circuits.cache import Cache

    run = {"cache": Cache(spice_cache), "workers": 2}
    library = simulated_library(**run)
    model, card = CrossbarModel(library), (library.device, library.technology)
    w, x = weights(64, 2), wanted_inputs(12, 64)
    currents = []
    for linearize, volts in ((False, x), (True, model.levels(x))):
        array = model.program(
            w, noise="none", slices=1, inputs=volts, linearize=linearize, keep_devices=True
        )
        g = array.devices.astype(float).transpose(0, 2, 1).reshape(4, 64)
        spice = crossbar.replay(*card, g, volts.astype(float) * model.v_read, **run)
        currents.append((spice[:, :2] - spice[:, 2:]) / (model.v_read * model.span))
    plain, linear = (spread(y, x @ w) for y in currents)
    assert linear < plain / 3

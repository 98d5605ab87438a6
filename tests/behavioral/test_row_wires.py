"""Arrays with resistive row lines: kernel, pre-distortion, correction, parameter."""

import numba
import numpy as np
import pytest
from scipy import optimize

from behavioral import reference
from behavioral.crossbar import CrossbarModel
from behavioral.kernels import grid
from behavioral.wire_grid import WireGrid
from circuits import crossbar
from circuits.errors import ParameterError, SimulationError
from circuits.parameters import Technology
from system.sweep.axes import Axis
from tests import naive
from tests.behavioral.standin import make_library

NO_JIT = bool(numba.config.DISABLE_JIT)
ROWS, COLS = (6, 5) if NO_JIT else (64, 64)
DEGREE = 5


def make_model(ohms="0.5", **options):
    """Row and bit lines of the same resistance per cell."""
    wires = {"column__r_row_wire_ohm_per_cell": ohms, "column__r_wire_ohm_per_cell": ohms}
    return CrossbarModel(make_library(**wires), **options)


def weights(rows=ROWS, cols=COLS):
    w = np.random.default_rng(7).normal(size=(rows, cols))
    return (w / np.abs(w).max()).astype(np.float32)


def relax(laws, ohmic, wires, x):
    y, change = np.empty((len(x), ohmic.shape[1])), np.empty(len(x))
    grid.relax(laws, DEGREE, ohmic, *wires, 0.0, x, 1e-12, 300, y, change)
    assert change.max() < 1e-12
    return y


@pytest.mark.parametrize("wires", [(0.0, 0.02, 0.05), (0.05, 0.0, 0.01), (0.1, 0.1, 0.2)])
def test_sweeps_solve_kirchhoffs_law(wires):
    """scipy.optimize.root on the dense equations of a 3 x 4 array whose cells are not ohmic."""
    rng = np.random.default_rng(0)
    laws = rng.normal(0, 0.02, (21, 3, 4))
    laws[0] = rng.uniform(0.01, 1, (3, 4))
    x = rng.uniform(-1, 1, (2, 3))
    y = relax(laws, laws[0].copy(), wires, x)
    for k in range(2):
        found = optimize.root(
            lambda n, k=k: naive.grid_residual(n, laws, DEGREE, x[k], *wires)[0],
            np.zeros(24), tol=1e-13,
        )  # fmt: skip
        exact = naive.grid_residual(found.x, laws, DEGREE, x[k], *wires)[1]
        np.testing.assert_allclose(y[k], exact, atol=1e-9)


def test_sweeps_of_ohmic_cells_equal_the_sparse_solution():
    rng = np.random.default_rng(1)
    g, x, wires = rng.uniform(0, 1, (ROWS, COLS)), rng.uniform(-1, 1, (2, ROWS)), (1e-3, 2e-3, 1e-3)
    laws = np.concatenate([g[None], np.zeros((20, ROWS, COLS))])
    exact = WireGrid(g, *wires).solve(x).output
    np.testing.assert_allclose(relax(laws, g, wires, x), exact, atol=1e-9)


def test_predistortion_makes_up_for_row_lines():
    """No noise, ohmic cells: the effective matrix is the weights, within reach of g_max."""
    w = np.clip(weights(), -0.7, 0.7)
    options = {"noise": "none", "correction": "none", "slices": 1}
    array = make_model().program(w, **options)
    assert array.clipped == 0
    np.testing.assert_allclose(array.effective, w, atol=1e-5)
    plain = make_model().program(w, predistort=False, **options)
    assert np.abs(plain.effective - w).max() > (0 if NO_JIT else 0.02)


@pytest.mark.skipif(NO_JIT, reason="too slow without the JIT")
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_product_follows_the_full_solution(low):
    """Bar: rms 0.1 LSB, max 0.5 LSB of each output's range, non-linear cells, noise frozen."""
    model, w = make_model(), weights()
    rng = np.random.default_rng(11)
    x = np.clip(rng.normal(0, 0.35, (80, ROWS)), low, 1).astype(np.float32)
    array = model.program(w, keep_devices=True, inputs=x[:48])
    exact = reference.multiply(model, array, x[48:])
    error = (model.multiply(array, x[48:]) - exact) / (np.ptp(exact, axis=0) / 256)
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert np.abs(error).max() < 0.5


@pytest.mark.skipif(NO_JIT, reason="needs two groups of 256 columns")
def test_every_group_of_256_columns_has_its_own_drivers():
    """Column 256 is as near to its driver as column 0."""
    w = np.tile(weights(8, 256), 2)
    effective = make_model("5").program(w, noise="none", predistort=False).effective
    np.testing.assert_allclose(effective[:, 256:], effective[:, :256], rtol=1e-4, atol=1e-6)


def test_row_resistance_changes_the_output_and_zero_does_not():
    w, x = weights(6, 5), np.full((1, 6), 0.5, np.float32)
    options = {"noise": "none", "predistort": False}
    plain, zero, high = (
        CrossbarModel(make_library(**changed))
        for changed in (
            {},
            {"column__r_row_wire_ohm_per_cell": "0"},
            {"column__r_row_wire_ohm_per_cell": "50"},
        )
    )
    y = [model.multiply(model.program(w, **options), x) for model in (plain, zero, high)]
    assert np.array_equal(y[0], y[1])
    assert np.abs(y[2] - y[0]).max() > 1e-3


def test_per_read_noise_works_with_row_resistance():
    model = make_model()
    array = model.program(weights(6, 5), noise="per-read")
    x = np.full((500, 6), 0.5, np.float32)
    y = model.multiply(array, x, seed=1)
    squares = array.spread.squares(array.correction.drive(x[:1], model.rest)[0])
    sigma = np.sqrt(squares @ array.spread.matrix)
    np.testing.assert_allclose(y.std(axis=0), sigma[0], rtol=0.15)  # 4.7 standard errors


def test_the_default_is_not_written():
    """Libraries made before the key keep their bytes; another value is kept."""
    technology = Technology.from_toml("lp16")
    assert "r_row_wire" not in technology.to_toml()
    changed = technology.override({"column.r_row_wire_ohm_per_cell": "0.5"})
    assert Technology.from_text(changed.to_toml()) == changed


def test_row_resistance_is_an_axis_of_sweeps():
    axis = Axis.from_text("row-wire-ohm=0,0.5")
    assert axis.targets == ("technology.column.r_row_wire_ohm_per_cell",)


def test_replay_of_single_columns_refuses_row_resistance():
    library = make_library(column__r_row_wire_ohm_per_cell="0.5")
    with pytest.raises(ParameterError, match="ideal row lines"):
        crossbar.replay(library.device, library.technology, np.ones((1, 2)), np.ones((1, 2)))


def test_rows_that_pass_nothing_are_refused():
    with pytest.raises(ParameterError, match="a row of 256 cells"):
        CrossbarModel(make_library(column__r_row_wire_ohm_per_cell="1e4"))


def test_sweeps_that_do_not_end_are_an_error(monkeypatch):
    monkeypatch.setattr("behavioral.row_wires.SWEEPS", 1)
    with pytest.raises(SimulationError, match="nodes still move"):
        make_model("50").program(weights(6, 5))

"""The crossbar model against its promises, Newton's method and ngspice."""

import dataclasses
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from scipy import optimize

from behavioral import reference
from behavioral.cell import Cell
from behavioral.crossbar import CrossbarModel, typical_inputs
from behavioral.plain import is_plain
from circuits.errors import FormatError, ParameterError, TableRangeError
from tests import naive
from tests.behavioral.blas import assert_same
from tests.behavioral.standin import cell_current, crossbar_data, make_library, simulated_library

NO_JIT = bool(numba.config.DISABLE_JIT)
ROWS, COLS = (6, 3) if NO_JIT else (64, 20)
DEGREE = 2


@pytest.fixture(scope="module")
def model():
    """Default technology: 0.5 ohm per cell and 0.5 ohm read-out."""
    return CrossbarModel(make_library())


@pytest.fixture(scope="module")
def weights():
    """Normal weights over their largest, as networks have them."""
    w = np.random.default_rng(7).normal(size=(ROWS, COLS))
    return w / np.abs(w).max()


def inputs(samples, rows=ROWS, seed=1, low=-1.0):
    return np.random.default_rng(seed).uniform(low, 1, (samples, rows)).astype(np.float32)


@pytest.mark.parametrize("wire", ["0", "2.5", "200"])
def test_newton_solves_kirchhoffs_law(wire):
    """scipy.optimize.root on the dense equations of one short column, from the same cell law."""
    model = CrossbarModel(make_library(column__r_wire_ohm_per_cell=wire))
    rng = np.random.default_rng(3)
    g, v = rng.uniform(1e-6, 1.4e-4, 5), rng.uniform(-1, 1, 5)
    cell, span = model.cell, model.span
    laws = np.stack([np.interp(np.log(g), cell.ln_g, c) for c in cell.coef.T], axis=1)
    laws *= g[:, None] / span

    def residual(u):
        ends = model.r_wire * span, model.r_end * span
        return naive.column_residual(u, laws, cell.degree, v, *ends) - model.rest

    u = optimize.root(residual, np.zeros(5), tol=1e-13).x
    current = sum(
        (v[i] - u[i]) * naive.cell_law(laws[i], cell.degree, v[i], u[i]) for i in range(5)
    )
    found = reference.solve(model, g[None], v[None] * model.v_read)[0, 0]
    assert found == pytest.approx(current * span * model.v_read, rel=1e-7)


def test_cell_law_follows_its_table_off_the_grid():
    """Bar: 1e-4 of full scale (0.025 LSB)."""
    cell = Cell(crossbar_data(), 0.2)
    rng = np.random.default_rng(5)
    g, v, u = 10 ** rng.uniform(-8, -3.85, 200), *rng.uniform(-0.2, 0.2, (2, 200))
    error = cell.current(g, v, u) - cell_current(g, v, u)
    full = np.abs(crossbar_data().current).max()
    assert np.abs(error).max() < 1e-4 * full
    assert cell.fit_max < 1e-4


def test_cell_conductance_inverts():
    cell = Cell(crossbar_data(), 0.2)
    g = np.geomspace(1e-8, 1.5e-4, 50)
    np.testing.assert_allclose(cell.cell_conductance(cell.rram_conductance(g)), g, rtol=1e-5)


def test_cell_refuses_holes():
    data = crossbar_data()
    data.current[0, 0, 0] = np.nan
    with pytest.raises(FormatError, match="1 of 2475 points are missing"):
        Cell(data, 0.2)


def test_ideal_program_gives_the_weights(model, weights):
    """Predistortion, no noise: within 2e-3 for ohmic cells (idle cells and clipping remain)."""
    array = model.program(weights, noise="none", correction="none")
    np.testing.assert_allclose(array.effective, weights, atol=2e-3 if array.clipped == 0 else 0.05)
    x = inputs(4)
    expected = (x - model.rest) @ array.effective
    np.testing.assert_allclose(model.multiply(array, x), expected, atol=1e-5)


def test_without_predistortion_wires_show(weights):
    model = CrossbarModel(make_library(column__r_wire_ohm_per_cell="20"))
    plain = model.program(weights, noise="none", correction="none", predistort=False)
    ready = model.program(weights, noise="none", correction="none")
    error = [np.abs(array.effective - weights).mean() for array in (plain, ready)]
    assert error[1] < 0.3 * error[0]


def test_programmed_devices_give_the_effective_matrix(model, weights):
    """Dense nodal solve of the conductances that were kept, combined as the read-out does."""
    array = model.program(weights, seed=3, correction="none", keep_devices=True)
    total = np.zeros(array.effective.shape)
    scale = array.error_scale[0]
    for weight, device in zip((1, -1, 1 / scale, -1 / scale), array.devices, strict=True):
        g = model.cell.cell_conductance(device.astype(float)) / model.span
        for c in range(array.cols):
            ends = model.r_wire * model.span, model.r_end * model.span
            total[:, c] += weight * naive.effective_column(g[:, c], *ends)
    np.testing.assert_allclose(array.effective, total, atol=2e-6)


@pytest.mark.skipif(NO_JIT, reason="256 rows are too slow without the JIT")
@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("wire", ["0", "0.5", "1", "2.5"])
def test_fast_product_follows_newton(wire, low):
    """Bar: rms 0.1 LSB, max 0.5 LSB of each output's range; "fine", fitted on such inputs."""
    model = CrossbarModel(make_library(column__r_wire_ohm_per_cell=wire))
    rng = np.random.default_rng(11)
    w = rng.normal(size=(256, 24))
    x = np.clip(rng.normal(0, 0.35, (160, 256)), low, 1).astype(np.float32)
    array = model.program(w / np.abs(w).max(), keep_devices=True, correction="fine", inputs=x[:64])
    exact = reference.multiply(model, array, x[64:])
    error = (model.multiply(array, x[64:]) - exact) / (np.ptp(exact, axis=0) / 256)
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert np.abs(error).max() < 0.5


@pytest.mark.skipif(NO_JIT, reason="256 rows are too slow without the JIT")
def test_inputs_of_varied_length_follow_newton():
    """Default correction on 64 unipolar inputs of varied length: bars of 0.1 rms, 0.5 max LSB."""
    model = CrossbarModel(make_library())
    rng = np.random.default_rng(12)
    w = rng.normal(size=(100, 24))
    x = rng.uniform(0, 1, (160, 100)) * rng.uniform(0, 1, (160, 1)).astype(np.float32)
    array = model.program(w / np.abs(w).max(), keep_devices=True, inputs=x[:64])
    assert array.correction.pointwise
    exact = reference.multiply(model, array, x[64:])
    error = (model.multiply(array, x[64:]) - exact) / (np.ptp(exact, axis=0) / 256)
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert np.abs(error).max() < 0.5


@pytest.mark.skipif(NO_JIT, reason="256 rows are too slow without the JIT")
def test_second_product_takes_the_rows_that_are_driven_hard():
    """Products of three normals, as behind gates: bars of 0.1 rms, 0.5 max LSB on other inputs."""
    model = CrossbarModel(make_library())
    rng = np.random.default_rng(13)
    w = rng.normal(size=(256, 24))
    x = np.prod(rng.normal(size=(3, 160, 256)), axis=0) * np.exp(0.5 * rng.normal(size=256))
    x = (x / np.abs(x).max()).astype(np.float32)
    array = model.program(w / np.abs(w).max(), keep_devices=True, inputs=x[:64])
    second, power = array.correction.second, np.square(x[:64]).sum(axis=0)
    assert second.size == 16
    assert power[second].mean() > 2 * power.mean()
    exact = reference.multiply(model, array, x[64:])
    error = (model.multiply(array, x[64:]) - exact) / (np.ptp(exact, axis=0) / 256)
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert np.abs(error).max() < 0.5


@pytest.mark.skipif(NO_JIT, reason="needs many samples")
def test_programming_noise_is_that_of_the_card(model):
    """Device noise against the law: moments of 20,000 devices, 4 standard errors."""
    w = np.full((100, 200), 0.5, np.float32)
    options = {"noise": "per-read", "slices": 1, "predistort": False, "correction": "none"}
    array = model.program(w, seed=5, keep_devices=True, **options)
    target = model.cell.rram_conductance(model.g_min + 0.5 * model.span)
    drawn = array.devices[0] - target
    sigma = float(model.write_law.sigma(target))
    assert abs(drawn.mean()) < 4 * sigma / np.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * drawn.size))


@pytest.mark.skipif(NO_JIT, reason="needs many samples")
def test_per_read_noise_equals_brute_force_draws(model, weights):
    """Variance of outputs from 1200 arrays whose devices are drawn again; 2 % of a std is 1 s.e."""
    options = {"slices": 1, "correction": "none", "keep_devices": True, "seed": 2}
    array = model.program(weights, noise="per-read", **options)
    x = inputs(1)
    many = model.multiply(array, np.repeat(x, 1200, axis=0), seed=4)
    rng = np.random.default_rng(0)
    base = array.devices.astype(float)
    brute = np.empty((1200, array.cols))
    sigma = model.read_law.sigma(base)
    for k in range(1200):
        device = np.maximum(base + sigma * rng.normal(size=base.shape), 1e-8)
        g = model.cell.cell_conductance(device)
        g = (g / model.span).astype(np.float32)
        t = [a * model.programmer.transfer(a) for a in g]
        brute[k] = (x - model.rest) @ (t[0] - t[1])
    np.testing.assert_allclose(many.std(axis=0), brute.std(axis=0), rtol=0.12)
    np.testing.assert_allclose(many.mean(axis=0), brute.mean(axis=0), atol=4 * brute.std() / 34)


def test_error_slice_removes_programming_noise(model, weights):
    target = model.program(weights, noise="none", correction="none").effective

    def error(slices):
        array = model.program(weights, noise="per-read", slices=slices, correction="none")
        return np.std(array.effective - target)

    assert error(2) < 0.1 * error(1)


def test_stuck_devices_carry_no_current():
    library = make_library()
    device = library.device.override({"stuck_off_rate": "0.5"})
    model = CrossbarModel(dataclasses.replace(library, device=device))
    w = np.full((ROWS, COLS), 0.9)
    array = model.program(w, slices=1, keep_devices=True, noise="per-read", correction="none")
    share = np.mean(array.devices[0] < 1e-8)
    assert share == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(w.size))


def test_same_seed_same_array_and_other_seed_another(model, weights):
    first, again = (model.program(weights, seed=(1, 2)) for _ in range(2))
    assert np.array_equal(first.effective, again.effective)
    assert not np.array_equal(first.effective, model.program(weights, seed=(1, 3)).effective)


@pytest.mark.parametrize("cols", [5, 16, 40])
@pytest.mark.parametrize("correction", ["none", "pointwise", "fitted", "fine"])
def test_results_do_not_depend_on_batches(model, cols, correction):
    """Bit for bit where BLAS is known to allow it (`behavioral.blas`)."""
    rng = np.random.default_rng(2)
    w, x = rng.uniform(-1, 1, (ROWS, cols)), inputs(7)
    array = model.program(w, noise="per-read", correction=correction)
    whole = model.multiply(array, x, seed=9)
    for step in (1, 3):
        parts = [
            model.multiply(array, x[k : k + step], seed=9, first_sample=k)
            for k in range(0, 7, step)
        ]
        assert_same(np.concatenate(parts), whole)


@pytest.mark.parametrize("correction", ["pointwise", "fitted"])
def test_the_kernel_of_a_plain_array_gives_the_bits_of_drive_and_read(model, correction):
    w = np.random.default_rng(2).uniform(-1, 1, (ROWS, 32))
    array = model.program(w, noise="per-read", correction=correction)
    x = inputs(70)
    y = model.multiply(array, x, seed=4, first_sample=3)
    assert is_plain(array)
    assert_same(y, model.read(array, model.drive(array, x), seed=4, first_sample=3))


@pytest.mark.skipif(NO_JIT, reason="threads exist with the JIT only")
def test_threads_do_not_change_a_bit():
    code = (
        "import numpy as np, hashlib\n"
        "from behavioral.crossbar import CrossbarModel\n"
        "from tests.behavioral.standin import make_library\n"
        "m = CrossbarModel(make_library())\n"
        "w = np.random.default_rng(0).uniform(-1, 1, (40, 300))\n"
        "for cols in (300, 256):\n"
        "    a = m.program(w[:, :cols], noise='per-read')\n"
        "    y = m.multiply(a, w.T[:200], seed=1)\n"
        "    print(hashlib.sha256(a.effective.tobytes() + y.tobytes()).hexdigest())\n"
    )
    found = set()
    for threads in ("1", "2"):
        env = {**os.environ, "NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        found.add(run.stdout)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("w", "options", "message"),
    [
        (np.full((2, 2), 1.5), {}, r"\[-1, 1\]"),
        (np.full((2, 2), np.nan), {}, "NaN"),
        (np.zeros((257, 1)), {}, "257 rows of weights, a column has 256"),
        (np.zeros(3), {}, "1 dimensions"),
        (np.zeros((2, 2)), {"noise": "some"}, "noise 'some'"),
        (np.zeros((2, 2)), {"slices": 3}, "slices 3"),
        (np.zeros((2, 2)), {"correction": "x"}, "correction 'x'"),
        (np.zeros((2, 2)), {"inputs": np.zeros((4, 3))}, r"\(samples, 2\)"),
        (np.zeros((2, 2)), {"seed": -1}, "seed"),
    ],
)
def test_bad_weights_and_options_are_refused(model, w, options, message):
    with pytest.raises(ParameterError, match=message):
        model.program(w, **options)


def test_nan_in_is_an_error(model, weights):
    array = model.program(weights, correction="none", keep_devices=True)
    x = inputs(2)
    x[1, 2] = np.nan
    with pytest.raises(ParameterError, match="NaN"):
        model.multiply(array, x)
    with pytest.raises(ParameterError, match="finite"):
        reference.multiply(model, array, x)


def test_inputs_beyond_the_rails_follow_the_policy(model, weights):
    array = model.program(weights, correction="none")
    x = np.full((1, ROWS), 0.5, np.float32)
    x[0, :2] = 3.0, -2.0
    before = model.clipped_inputs
    assert np.array_equal(model.multiply(array, x), model.multiply(array, np.clip(x, -1, 1)))
    assert model.clipped_inputs == before + 2
    strict = CrossbarModel(make_library(), policy="error")
    with pytest.raises(TableRangeError, match="2 inputs leave"):
        strict.multiply(array, x)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_empty_and_single_arrays_work(model, shape):
    array = model.program(np.zeros(shape), noise="per-read")
    y = model.multiply(array, np.zeros((2, shape[0])))
    assert y.shape == (2, shape[1])
    assert np.isfinite(y).all()


def test_non_contiguous_input_is_accepted(model, weights):
    array = model.program(np.asfortranarray(weights))
    x = inputs(6)
    expected = model.multiply(array, x)
    np.testing.assert_allclose(model.multiply(array, np.asfortranarray(x)), expected, atol=0)
    assert np.array_equal(array.effective, model.program(weights).effective)


def test_unreachable_conductance_is_refused():
    library = make_library()
    wide = dataclasses.replace(library, device=library.device.override({"g_max_s": "10m"}))
    with pytest.raises(ParameterError, match="above the largest cell conductance"):
        CrossbarModel(wide)


def test_typical_inputs_are_fixed_and_in_range():
    x = typical_inputs(10)
    assert np.array_equal(x, typical_inputs(10))
    assert np.abs(x).max() <= 1


@pytest.mark.ngspice
@pytest.mark.skipif(NO_JIT, reason="256 rows are too slow without the JIT")
def test_column_model_equals_ngspice_at_transistor_level(spice_cache):
    """Bar: rms 0.1 LSB, max 0.5 LSB of each column's range over random and sparse inputs."""
    from circuits import crossbar
    from circuits.cache import Cache

    run = {"cache": Cache(spice_cache), "workers": 2}
    measured = simulated_library(**run)
    model, card = CrossbarModel(measured), (measured.device, measured.technology)
    rng = np.random.default_rng(21)
    w = rng.normal(size=(256, 2))
    array = model.program(w / np.abs(w).max(), keep_devices=True)
    x = np.clip(rng.normal(0, 0.35, (12, 256)), -1, 1)
    x[6:] = np.maximum(x[6:], 0)
    g = array.devices[:2].astype(float).transpose(0, 2, 1).reshape(4, 256)
    spice = crossbar.replay(*card, g, x * model.v_read, **run)
    lsb = np.ptp(spice, axis=0) / 256
    error = (reference.solve(model, g, x * model.v_read) - spice) / lsb
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert np.abs(error).max() < 0.5

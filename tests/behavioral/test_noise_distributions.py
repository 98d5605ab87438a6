"""Outputs under noise against brute force: every device drawn on its own, every column solved.

The brute force shares the noise law, the cell's conductance and the device ranges with the model,
and nothing else: numpy's generator, float64, one ladder per sample.
"""

import dataclasses

import numba
import numpy as np
import pytest
from scipy import stats

from behavioral.crossbar import CrossbarModel
from behavioral.programming import Job
from tests.behavioral.standin import make_library

NO_JIT = bool(numba.config.DISABLE_JIT)
ROWS, SAMPLES, CHUNK = 32, 100_000, 10_000
# 32 rows of 32 ohm lose as much as 256 rows of 0.5 ohm: resistance times rows squared.
OHMS = "32"

pytestmark = pytest.mark.skipif(NO_JIT, reason="needs 100,000 samples")


@pytest.fixture(scope="module")
def model():
    return CrossbarModel(make_library(column__r_wire_ohm_per_cell=OHMS))


@pytest.fixture(scope="module")
def weights():
    """One column; normal weights, as networks have them."""
    return np.clip(np.random.default_rng(1).normal(0, 0.3, (ROWS, 1)), -1, 1).astype(np.float32)


def inputs(low, samples):
    """Inputs of both signs (low = -1) or rectified (low = 0)."""
    return np.clip(np.random.default_rng(2).normal(0, 0.4, (samples, ROWS)), low, 1).astype("f4")


def drawn_outputs(model, devices, x, rng, laws):
    """Outputs (SAMPLES,) of ohmic columns whose devices (ROWS,) [S] are drawn by the laws in turn.

    Inputs x are one for all (1, ROWS), or one for each sample.

    A ladder of Norton sources, folded from its open end (naive.effective_column is its dense twin).
    """
    low, high = np.exp(model.cell.ln_g[[0, -1]])
    inputs, wires = np.broadcast_to(x - model.rest, (SAMPLES, ROWS)), model.wires
    parts = []
    for v in np.split(inputs, SAMPLES // CHUNK):
        load, drive = np.zeros(CHUNK), np.zeros(CHUNK)
        for row in range(ROWS):
            g = np.full(CHUNK, float(devices[row]))
            for law in laws:
                g = np.clip(g + law.sigma(g) * rng.normal(size=CHUNK), low, high)
            cell = model.cell.cell_conductance(g) / model.span
            load, drive = load + cell, drive + cell * v[:, row]
            fold = 1.0 / (1.0 + (wires.r if row < ROWS - 1 else wires.r_end) * load)
            load, drive = load * fold, drive * fold
        parts.append(drive)
    return np.concatenate(parts)


def assert_same(ours, brute):
    """Kolmogorov-Smirnov at 1e5 samples; means and standard deviations within 1 %.

    p is uniform for equal distributions: 1e-3 is a fair floor for fixed seeds. The deviations of
    1e5 samples are known to 0.22 % each.
    """
    assert ours.size == brute.size == SAMPLES
    assert stats.ks_2samp(ours, brute).pvalue > 1e-3
    assert ours.mean() == pytest.approx(brute.mean(), abs=0.01 * np.abs(brute).mean())
    assert ours.std() == pytest.approx(brute.std(), rel=0.01)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_frozen_noise_equals_brute_force(model, weights, low):
    """100,000 columns of one array: programming and read noise of every device."""
    x = inputs(low, 1)
    array = model.program(
        np.repeat(weights, SAMPLES, axis=1), slices=1, correction="none", predistort=False, seed=3
    )
    rng, laws = np.random.default_rng(4), (model.write_law, model.read_law)
    targets = [
        model.cell.rram_conductance(model.g_min + np.clip(sign * weights[:, 0], 0, 1) * model.span)
        for sign in (1, -1)
    ]
    pos, neg = (drawn_outputs(model, target, x, rng, laws) for target in targets)
    assert_same(model.multiply(array, x)[0], pos - neg)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_per_read_noise_equals_brute_force(model, weights, low):
    """100,000 reads of one array whose devices are known, each of another input.

    What a read adds is compared. The model knows the bit lines' share on average over such inputs.
    """
    x = inputs(low, SAMPLES)
    options = {"slices": 1, "correction": "none", "seed": 3, "keep_devices": True}
    array = model.program(weights, noise="per-read", inputs=x[:48], **options)
    rng, brute = np.random.default_rng(5), np.zeros(SAMPLES)
    for sign, device in zip((1, -1), array.devices[:, :, 0], strict=True):
        for part, laws in ((sign, (model.read_law,)), (-sign, ())):
            brute += part * drawn_outputs(model, device, x, rng, laws)
    quiet = dataclasses.replace(array, spread=None)
    ours = model.multiply(array, x, seed=6) - model.multiply(quiet, x)
    assert_same(ours[:, 0], brute)


def test_read_noise_passes_the_cell_as_its_current_does():
    """Slope of the cell's conductance by differences; wires of 0 ohm: nothing else is in."""
    ideal = CrossbarModel(make_library(column__r_wire_ohm_per_cell="0"))
    g = np.linspace(0.02, 0.98, 40, dtype=np.float32)[:, None]
    job = Job((0,), "per-read", 1, True, np.float32(1.0))
    written = ideal.programmer.write(g, "main+", 0, job)
    device, step = written.device.astype(float), 1e-9
    high, low = (ideal.cell.cell_conductance(device + side) for side in (step, -step))
    exact = ideal.read_law.sigma(device) * (high - low) / (2 * step) / ideal.span
    np.testing.assert_allclose(np.sqrt(written.variance) / written.z, exact, rtol=5e-3)

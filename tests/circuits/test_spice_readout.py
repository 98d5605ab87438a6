"""The read-out against the theory of finite-gain amplifiers."""

import math

import numpy as np
import pytest

from circuits import readout
from circuits.parameters import load_parameters

pytestmark = pytest.mark.ngspice

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")


@pytest.fixture(scope="module")
def data(spice_cache):
    return readout.characterize(DEVICE, TECHNOLOGY, cache=spice_cache)


def test_input_resistance_is_feedback_and_output_over_gain_plus_one(data):
    """The 10 kohm of the summing stage take 50 / 10000 of the loop gain: 0.5 % tolerance."""
    assert data.r_input_ohm == pytest.approx(550 / 1001, rel=0.005)


def test_gain_is_nominal_less_the_finite_loop_gain(data):
    """Summing stage: noise gain 1 + s (1 + 1/k), open-loop gain 1000; the stages lose 1/1001.

    3e-4: the output resistance of 50 ohm against the 10 and 22 kohm around it.
    """
    s = 0.54 / 0.24
    loss = (1 + (1 + s * (1 + 1 / 64)) / 1000) * 1.001
    np.testing.assert_allclose(data.gain_v_per_a, data.gain_nominal_v_per_a / loss, rtol=3e-4)


def test_lines_add_with_their_signs_and_scale(data):
    assert data.gain_v_per_a[0] == pytest.approx(-data.gain_v_per_a[1], rel=1e-5)
    assert data.gain_v_per_a[0] / data.gain_v_per_a[2] == pytest.approx(64, rel=1e-4)


def test_transfer_is_linear(data):
    fit = data.offset_v + data.gain_v_per_a[0] * data.i_in
    np.testing.assert_allclose(data.v_dl[0], fit, atol=1e-9)


def test_full_scale_current_fills_the_data_line_range(data):
    span = data.gain_v_per_a[0] * TECHNOLOGY.readout.i_full_scale_a
    assert span == pytest.approx(0.54, rel=0.01)


def test_bandwidth_is_that_of_two_stages_in_a_row(data):
    """Poles GBW (unloaded stage) and GBW over the noise gain of the summing stage.

    5 %: the output resistance moves both poles and passes some input on directly.
    """
    poles = [5e9, 5e9 / (1 + 0.54 / 0.24 * (1 + 1 / 64))]
    f = np.geomspace(1e8, 1e10, 20001)
    size = np.prod([1 / np.hypot(1, f / p) for p in poles], axis=0)
    expected = f[np.argmin(abs(size - math.sqrt(0.5)))]
    assert data.bandwidth_hz == pytest.approx(expected, rel=0.05)

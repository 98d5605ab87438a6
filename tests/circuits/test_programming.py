"""Pulses on 1T1R cells with a transistor-level access device, write-verify, read disturb."""

from dataclasses import replace

import numpy as np
import pytest

from circuits.disturb import _drift, disturb
from circuits.dynamics import BOLTZMANN, ELEMENTARY_CHARGE
from circuits.errors import ParameterError
from circuits.parameters import load_parameters
from circuits.programming import Bench, Pulses, next_pulse, program

DEVICE, TECHNOLOGY = load_parameters("sky130", "lp16")
SETTINGS = DEVICE.programming
# Big steps and a wide tolerance: few pulses.
COARSE = replace(DEVICE, programming=replace(SETTINGS, v_step_v=0.03, tolerance=0.25))


def pulsed(device, start_s, v_set, v_reset, cache):
    """Return the conductance after one pulse on each of several cells."""
    bench = Bench(device, TECHNOLOGY, workers=1, cache=cache)
    count = len(v_set)
    states = np.full(count, bench.model.state(start_s))
    after, _ = bench.apply(states, Pulses(v_set, v_reset, np.ones(count)))
    return bench.model.conductance(after)


@pytest.mark.ngspice
def test_conductance_rises_with_the_height_of_a_set_pulse(spice_cache):
    v = np.array([1.2, 1.3, 1.4, 1.45, 1.5])
    g = pulsed(DEVICE, 5e-6, v, 0 * v, spice_cache)
    assert (np.diff(np.append(5e-6, g)) > 0).all()


@pytest.mark.ngspice
def test_conductance_rises_with_the_length_of_a_set_pulse(spice_cache):
    found = [5e-6]
    for length in (10e-9, 30e-9, 100e-9, 300e-9):
        longer = replace(DEVICE, programming=replace(SETTINGS, t_pulse_s=length))
        found.append(pulsed(longer, 5e-6, np.array([1.4]), np.zeros(1), spice_cache)[0])
    assert (np.diff(found) > 0).all()


@pytest.mark.ngspice
def test_conductance_falls_with_the_height_of_a_reset_pulse(spice_cache):
    v = np.array([1.2, 1.3, 1.4, 1.5, 1.6])
    g = pulsed(DEVICE, 90e-6, 0 * v, v, spice_cache)
    assert (np.diff(np.append(90e-6, g)) < 0).all()


@pytest.mark.ngspice
def test_a_weaker_word_line_limits_the_set(spice_cache):
    """The access transistor is in series: 1.5 V on the row set at 1.8 V, hardly at 0.9 V."""
    weak = replace(DEVICE, programming=replace(SETTINGS, v_gate_set_v=0.9))
    full, limited = (
        pulsed(d, 5e-6, np.array([1.55]), np.zeros(1), spice_cache)[0] for d in (DEVICE, weak)
    )
    assert full > 50e-6
    assert limited < 20e-6


@pytest.mark.ngspice
def test_write_verify_ends_within_the_tolerance_and_resumes_from_the_cache(spice_cache):
    targets = np.array([3e-6, 20e-6, 60e-6])
    written = program(COARSE, TECHNOLOGY, targets, seed=1, workers=1, cache=spice_cache)
    assert written.done.all()
    # the RRAM deviates a little more than its cell, in which the transistor has a share
    assert np.abs(written.g_s / targets - 1).max() < 0.3
    assert (written.pulses > 0).all()
    again = program(COARSE, TECHNOLOGY, targets, seed=1, executor=None, cache=spice_cache)
    assert (again.g_s == written.g_s).all()
    other = program(COARSE, TECHNOLOGY, targets, seed=2, workers=1, cache=spice_cache)
    assert (other.g_s != written.g_s).any()


@pytest.mark.ngspice
def test_rate_at_a_read_is_that_of_the_published_equation(spice_cache):
    """At 1 uS the transistor takes 0.1 % of 0.2 V; 1e-12 nm/ns and less must not drown in noise."""
    model = DEVICE.stanford
    gap = model.state(np.array([1e-6, 3e-6]))
    bench = Bench(DEVICE, TECHNOLOGY, workers=1, cache=spice_cache)
    _, rate = bench.hold(gap, np.full(2, 0.2), SETTINGS.t_read_s)
    x = (model.gamma_k0 + model.gamma_k1 * gap**3) * model.a0_m / model.tox_m * 0.2
    kt = BOLTZMANN / ELEMENTARY_CHARGE * 300.15
    growth = np.exp((x - model.eact_generation_ev) / kt)
    decay = np.exp((-x - model.eact_recombination_ev) / kt)
    np.testing.assert_allclose(rate, -model.velocity_k1_m_per_s * (growth - decay), rtol=0.05)


@pytest.mark.ngspice
def test_extrapolated_drift_is_that_of_a_long_transient(spice_cache):
    """At 1.0 V a thousand reads of 10 ns fit into one transient: 5 %, the windows cost some."""
    start = np.array([5e-6, 30e-6, 85e-6])
    found = disturb(
        DEVICE, TECHNOLOGY, start, np.array([1.0]), reads=1e3, workers=1, cache=spice_cache
    )
    bench = Bench(DEVICE, TECHNOLOGY, workers=1, cache=spice_cache)
    after, _ = bench.hold(bench.model.state(start), np.ones(3), 1e3 * SETTINGS.t_read_s)
    direct = bench.model.conductance(after) / start - 1
    assert found.change[:, 0, -1] == pytest.approx(direct, rel=0.05)
    assert (direct > 1e-6).all()


def test_drift_of_a_known_rate_law_is_its_integral():
    """ds/dt = exp(-s), to a limit; ds/dt = 2 - s, to its rest: the last points lie 1.4 % apart."""
    states, times = np.linspace(0, 3, 41), np.geomspace(1e-6, 10, 30)
    moved = _drift(1.0, states, np.exp(-states), times, (0.0, 3.0))
    exact = np.minimum(np.log(np.e + times), 3.0) - 1.0
    np.testing.assert_allclose(moved, exact, rtol=1e-3)
    to_rest = _drift(0.5, states, 2.0 - states, times * 10, (0.0, 3.0))
    np.testing.assert_allclose(to_rest, 1.5 * -np.expm1(-times * 10), rtol=0.015)


@pytest.mark.ngspice
def test_a_read_below_both_thresholds_of_vteam_moves_nothing(spice_cache):
    """A row above its bit line sets: nothing to 0.2 V; a row below it resets from 0.02 V on."""
    device, _ = load_parameters("vteam", "lp16")
    found = disturb(
        device, TECHNOLOGY, np.array([5e-3]), np.array([0.15, -0.15]), workers=1, cache=spice_cache
    )
    assert found.change[0, 0, -1] == 0.0
    assert found.change[0, 1, -1] == pytest.approx(1e-3 / 5e-3 - 1, rel=0.05)


def test_pulses_grow_in_one_direction_and_begin_anew_in_the_other():
    s = replace(SETTINGS, v_set_v=1.0, v_reset_v=1.1, v_step_v=0.5, v_most_v=1.2)
    height, sign = np.array([0.0, 1.0, -1.1, 1.2]), np.array([1.0, 1.0, 1.0, -1.0])
    assert next_pulse(height, sign, s).tolist() == [1.0, 1.2, 1.0, -1.1]


def test_a_target_out_of_range_is_refused():
    with pytest.raises(ParameterError, match=r"150 uS is out of the range.*0\.296 to 99\.3 uS"):
        program(DEVICE, TECHNOLOGY, np.array([150e-6]))


@pytest.mark.ngspice
@pytest.mark.parametrize("change", [{"tolerance": 0.02}, {"most_pulses": 1}, {"rate_sigma": 0.0}])
def test_keys_of_the_loop_change_what_is_written(change, spice_cache):
    targets = np.array([20e-6])
    other = replace(COARSE, programming=replace(COARSE.programming, **change))
    a, b = (program(d, TECHNOLOGY, targets, workers=1, cache=spice_cache) for d in (COARSE, other))
    assert (a.g_s != b.g_s).all()

"""Dynamic RRAM models in ngspice against scipy's solution of the same published equations.

Equations: SkyWater's ReRAM Verilog-A (Stanford-PKU gap model); VTEAM, Kvatinsky et al., TCAS-II
2015. Both with the one-sided windows of the netlists, which the papers have as hard limits.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from circuits import batch
from circuits.dynamics import BOLTZMANN, ELEMENTARY_CHARGE
from circuits.errors import ParameterError
from circuits.netlist import program_models
from circuits.parameters import Device, Technology, load_parameters

SKY130, LP16 = load_parameters("sky130", "lp16")
VTEAM: Device = Device.from_toml("vteam")
PERIOD = {"sky130": 1e-6, "vteam": 2e-6}
PEAK = {"sky130": 2.4, "vteam": 0.4}


def triangle(t, device):
    """Return the voltage at time t [s]: up, down through zero, back; the netlists have the same."""
    phase = np.asarray(t) / PERIOD[device.name] * 4
    return PEAK[device.name] * np.interp(phase, [0, 1, 3, 4], [0, 1, -1, 0])


def sweep(device, s0):
    """Return time, voltage, current and state of one bare device over a period, from ngspice."""
    period, peak = PERIOD[device.name], PEAK[device.name]
    netlist = f"""sweep
{program_models(device, LP16)}
va a 0 pwl(0 0 {period / 4} {peak} {3 * period / 4} {-peak} {period} 0)
x1 a 0 s t q rram_dynamic s0={s0}
.options reltol=1e-5
.tran {period / 1000} {period} 0 {period / 2000} uic
.end
"""
    found = batch.simulate(netlist, ["time", "v(a)", "i(va)", "v(s)"])
    return found["time"], found["v(a)"], -found["i(va)"], found["v(s)"]


def stanford_rates(t, y, m):
    """Return the rates [nm/s] and [K/s] of gap [nm] and temperature [K]."""
    gap, heat = y
    v = float(triangle(t, SKY130))
    kt = BOLTZMANN / ELEMENTARY_CHARGE * (300.15 + heat)
    i = m.i_k1_a * np.exp(-gap / ((m.tox_m - m.tfilament_ref_m) * 1e9)) * np.sinh(v / m.v_ref_v)
    x = (m.gamma_k0 + m.gamma_k1 * gap**3) * m.a0_m / m.tox_m * v
    growth = np.exp((x - m.eact_generation_ev) / kt) - np.exp((-x - m.eact_recombination_ev) / kt)
    rate = -m.velocity_k1_m_per_s * growth
    window = (1.7 - gap) / 0.02 if rate > 0 else (gap - 0.1) / 0.02
    rate = np.clip(rate, -100, 100) * np.clip(window, 0, 1)
    return [rate * 1e9, abs(v * i) / m.c_thermal_j_per_k - heat / m.tau_thermal_s]


def vteam_rate(t, y, m):
    """Return the rate [nm/s] of w [nm]."""
    v = float(triangle(t, VTEAM))
    rate = 0.0
    if v > m.v_off_v:
        rate = m.k_off_m_per_s * (v / m.v_off_v - 1) ** m.a_off
    elif v < m.v_on_v:
        rate = m.k_on_m_per_s * (v / m.v_on_v - 1) ** m.a_on
    window = (3.0 - y[0]) / 0.01 if rate > 0 else y[0] / 0.01
    return [rate * 1e9 * np.clip(window, 0, 1)]


@pytest.mark.ngspice
def test_gap_follows_the_published_equations():
    """Set and reset within one sweep. Runaway makes the set steep: 0.5 % of time, else 0.01 nm."""
    time, _, _, gap = sweep(SKY130, 1.2)
    found = solve_ivp(
        stanford_rates, (0, 1e-6), [1.2, 0.0], "LSODA", args=(SKY130.stanford,),
        rtol=1e-7, atol=[1e-7, 1e-4], max_step=5e-10, dense_output=True,
    )  # fmt: skip
    expected = np.array([found.sol(time + shift)[0] for shift in (-5e-9, 0.0, 5e-9)])
    assert np.ptp(gap) > 1.0
    assert (gap < expected.max(axis=0) + 0.01).all()
    assert (gap > expected.min(axis=0) - 0.01).all()


@pytest.mark.ngspice
def test_vteam_follows_the_published_equations():
    """Within 0.5 % of the state's range, 3 nm."""
    time, _, _, w = sweep(VTEAM, 1.0)
    found = solve_ivp(
        vteam_rate, (0, 2e-6), [1.0], "LSODA", time, args=(VTEAM.vteam,),
        rtol=1e-7, atol=1e-8, max_step=1e-9,
    )  # fmt: skip
    assert np.ptp(w) > 1.0
    assert np.abs(w - found.y[0]).max() < 0.015


@pytest.mark.ngspice
@pytest.mark.parametrize(("device", "s0"), [(SKY130, 1.2), (VTEAM, 1.0)])
def test_hysteresis_loop_is_pinched_at_the_origin(device, s0):
    """No current at no voltage, whatever the state; two branches 10 % apart and more elsewhere."""
    time, v, i, _ = sweep(device, s0)
    zero = np.interp(PERIOD[device.name] / 2, time, i)
    assert abs(zero) < 2e-3 * np.abs(i).max()
    level = PEAK[device.name] / 2
    turn = np.argmax(v)
    up = np.interp(level, v[:turn], i[:turn])
    fall = slice(turn, np.argmin(v))
    down = np.interp(level, v[fall][::-1], i[fall][::-1])
    assert abs(np.log(up / down)) > 0.1


@pytest.mark.parametrize("device", [SKY130, VTEAM])
def test_limits_of_the_state_are_the_range_of_the_card(device):
    """Both from the same source; the cards carry three digits."""
    model = device.dynamics
    high, low = model.conductance(np.array(model.limits))
    assert (low, high) == pytest.approx((device.g_min_s, device.g_max_s), rel=2e-3)
    g = np.geomspace(low, high, 5)
    assert model.conductance(model.state(g)) == pytest.approx(g, rel=1e-12)


def test_read_law_of_sky130_is_that_of_its_dynamic_model():
    assert SKY130.v_sinh_v == SKY130.stanford.v_ref_v


def test_a_card_without_a_model_says_which_have_one():
    with pytest.raises(ParameterError, match=r"'taox' has no dynamic model.*sky130"):
        _ = Device.from_toml("taox").dynamics


def test_both_models_in_one_card_are_refused():
    both = replace(SKY130, vteam=VTEAM.vteam)
    with pytest.raises(ParameterError, match="not both"):
        Device.from_text(both.to_toml())


def test_a_missing_section_cannot_be_overridden():
    with pytest.raises(ParameterError, match=r"no section \[stanford\]"):
        load_parameters("taox", "lp16", ["stanford.gamma_k0=20"])


def test_sections_survive_writing_and_reading():
    assert Device.from_text(SKY130.to_toml()) == SKY130
    assert isinstance(Technology.from_toml("lp16"), Technology)

"""The transistor-level amplifier: hand calculation, other analyses of ngspice, properties."""

import math
import re
import subprocess

import numpy as np
import pytest

from circuits import amplifier, crossbar, plan, readout, readout_bench
from circuits.errors import ParameterError
from circuits.parameters import Amplifier, Technology, apply_overrides, load_parameters
from circuits.plan import RunLog

DEVICE, MODEL = load_parameters("taox", "lp16")
_, TWO_STAGE = apply_overrides(DEVICE, MODEL, ["readout.amplifier=two-stage"])
LSB_V = (MODEL.readout.v_dl_hi_v - MODEL.readout.v_dl_lo_v) / 256


@pytest.fixture(scope="module")
def data(spice_cache):
    return readout.characterize(DEVICE, TWO_STAGE, cache=spice_cache)


@pytest.mark.ngspice
def test_every_measurement_succeeds(data):
    assert not data.amplifier_status.any()
    assert not data.status.any()


@pytest.mark.ngspice
def test_gain_of_the_ac_analysis_is_the_slope_of_an_open_loop_dc_sweep(data, spice_cache):
    """2 %: one microvolt at the input is 0.6 mV at the output, not infinitely small."""
    rest = data.amplifier_offset_v[0]
    lines = f"xa cm g o amplifier\nxl o stage_load\nvg g cm {float(rest)!r}"
    sweep = f".dc vg {rest - 1e-6} {rest + 1.1e-6} 1e-6"
    job = readout_bench.bench_job(TWO_STAGE, "slope", lines, sweep, ("v(o)",))
    v = plan.run([job], workers=1, cache=spice_cache)[0].vectors["v(o)"]
    assert v[1] == pytest.approx(0.3, abs=0.05)
    assert data.amplifier_gain[0] == pytest.approx((v[0] - v[2]) / 2e-6, rel=0.02)


@pytest.mark.ngspice
def test_unity_gain_frequency_is_that_of_the_hand_calculation(data):
    """``gm / (2 pi C)``; 30 %: the second stage's gain into 500 ohm is 3, not infinite."""
    hand = readout_bench.gbw_hz(TWO_STAGE)
    assert data.unity_gain_hz[0] == pytest.approx(hand, rel=0.3)


@pytest.mark.ngspice
def test_both_loops_are_stable(data):
    assert (data.phase_margin_deg > 45).all()
    assert (data.phase_margin_deg < 90).all()


@pytest.mark.ngspice
def test_crossover_of_the_summing_loop_is_unity_gain_over_its_noise_gain(data):
    """Noise gain 1 + s (1 + 1/k) = 3.29; 10 %: poles of input node and output."""
    noise_gain = 1 + 2.25 * (1 + 1 / 64)
    expected = data.unity_gain_hz[1] / noise_gain
    assert data.loop_crossover_hz[1] == pytest.approx(expected, rel=0.1)


@pytest.mark.ngspice
def test_input_resistance_follows_from_the_gain(data):
    """``(R_f + R_o) / (1 + A)``; R_o, of two transistors at 0.5 mA, lies between 0.5 and 2 kohm."""
    low, high = (500 + np.array([500, 2000])) / (1 + data.amplifier_gain[0])
    assert low < data.r_input_ohm < high


@pytest.mark.ngspice
def test_outputs_reach_what_full_scale_asks_for(data):
    """Half a full scale of current moves a stage's output by 0.12 V to both sides of 0.3 V."""
    assert data.output_lo_v[0] <= 0.3 - 0.12 + 0.001
    assert data.output_hi_v[0] >= 0.3 + 0.12
    assert data.output_lo_v[1] < MODEL.readout.v_dl_lo_v
    assert data.output_hi_v[1] > MODEL.readout.v_dl_hi_v


@pytest.mark.ngspice
def test_transfer_is_straight_to_half_an_lsb_and_has_the_nominal_gain(data):
    """Gain 1 %: (1 + noise gain / A2) (1 + 1 / A1) with the smallest gains in use."""
    assert data.nonlinearity_v < LSB_V / 2
    np.testing.assert_allclose(data.gain_v_per_a, data.gain_nominal_v_per_a, rtol=0.01)


@pytest.mark.ngspice
def test_noise_exceeds_that_of_the_summing_resistors(data):
    """4 k T R of its six resistors at the data line, over the -3 dB band times pi / 2 (one pole).

    Amplifiers at most double the density (x 2) and the second pole narrows the band (x 0.8).
    """
    s, r, k = 2.25, 10e3, 64
    density = 4 * 1.380649e-23 * 300.15 * r * (2 * s**2 * (1 + 1 / k) + 2 * s)
    resistors = math.sqrt(density * data.bandwidth_hz * math.pi / 2)
    assert 0.8 * resistors < data.noise_v < 2 * resistors
    assert data.noise_a == pytest.approx(data.noise_v / data.gain_v_per_a[0], rel=0.01)


@pytest.mark.ngspice
def test_random_offset_is_proportional_to_the_mismatch(data, spice_cache):
    """2 %: the cascodes make it slightly non-linear."""
    _, other = apply_overrides(DEVICE, TWO_STAGE, ["process.a_vt_v_m=0.625n"])
    half = readout.characterize(DEVICE, other, cache=spice_cache)
    assert half.amplifier_offset_sigma_v == pytest.approx(
        data.amplifier_offset_sigma_v / 2, rel=0.02
    )
    sized = TWO_STAGE.amplifier
    pair = 1.25e-9 * math.sqrt(2 / (sized.w_pair_m * sized.l_signal_m))
    assert data.amplifier_offset_sigma_v > pair


@pytest.mark.ngspice
def test_drawn_amplifiers_spread_as_the_first_order_says(data, spice_cache):
    """150 draws know their standard deviation to 5.8 %; three sigma of that. Mean: a twelfth."""
    log, cache = RunLog(), {"cache": spice_cache}
    found = amplifier._monte_carlo(TWO_STAGE, 150, log, cache)
    sigma = data.amplifier_offset_sigma_v
    assert found.std() == pytest.approx(sigma, rel=0.18)
    assert abs(found.mean()) < sigma / 4
    assert np.array_equal(found[:100], amplifier._monte_carlo(TWO_STAGE, 150, log, cache)[:100])
    assert amplifier._monte_carlo(TWO_STAGE, 0, log, cache).size == 0


@pytest.mark.ngspice
def test_settling_and_energy_rise_with_the_load(data):
    assert (np.diff(data.load_settle_s) > 0).all()
    assert (np.diff(data.load_energy_j) > 0).all()
    assert data.load_settle_s[1] == data.settle_s


@pytest.mark.ngspice
@pytest.mark.parametrize("k", range(len(amplifier.LOADS)))
def test_energy_is_the_integral_of_the_supply_power(data, k):
    """Another program and integrator: .measure of ``ngspice -b``, at half the time step. 1 %."""
    job = readout_bench.step_job(TWO_STAGE, data.load_f[k])
    line = next(x for x in job.netlist.splitlines() if x.startswith(".tran"))
    step, length = (float(x) for x in line.split()[1:3])
    start, settle = length / 50, data.load_settle_s[k]
    text = job.netlist.replace(line, f".tran {step / 2} {length} 0 {step / 2}")
    text = (
        text.removesuffix(".end")
        + f".meas tran charge integ i(vdda) from={start} to={start + settle}\n.end\n"
    )
    out = subprocess.run(["ngspice", "-b"], input=text, capture_output=True, text=True, check=False)
    found = re.search(r"charge\s*=\s*(\S+)", out.stdout)
    assert found is not None
    energy = -TWO_STAGE.amplifier.v_supply_v * float(found[1])
    assert data.load_energy_j[k] == pytest.approx(energy, rel=0.01)


@pytest.mark.ngspice
def test_class_a_takes_the_same_power_at_work_as_at_rest(data):
    """5 %: channel-length modulation of the output sources, whose drain moves."""
    stage, summing, bias = data.amplifier_power_w
    at_rest = (4 * stage + summing + bias) * data.load_settle_s
    assert (data.amplifier_power_w > 0).all()
    np.testing.assert_allclose(data.load_energy_j, at_rest, rtol=0.05)


@pytest.mark.ngspice
def test_a_column_rests_at_the_measured_virtual_ground(data, spice_cache):
    """Rows at v_cm: offset times total conductance; 3 %: transistors in series with the cells."""
    _, short = apply_overrides(DEVICE, TWO_STAGE, ["column.r_wire_ohm_per_cell=1m"])
    g = np.full((1, 256), 10e-6)
    i = crossbar.replay(DEVICE, short, g, np.zeros((1, 256)), cache=spice_cache, workers=1)
    expected = -data.amplifier_offset_v[0] * g.sum()
    assert i[0, 0] == pytest.approx(expected, rel=0.03)


def test_the_model_has_no_measured_amplifier():
    jobs = []
    data = readout.characterize(DEVICE, MODEL, record=jobs)
    assert data.amplifier_gain.size == 0
    assert math.isnan(data.noise_v)
    assert not any("amplifier" in job.name for job in jobs)


def test_an_unknown_amplifier_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match=r"'three-stage'.*model, two-stage"):
        apply_overrides(DEVICE, MODEL, ["readout.amplifier=three-stage"])


def test_the_section_may_be_left_out_and_its_defaults_are_those_of_lp16():
    text = MODEL.to_toml()
    without = text[: text.index("\n[amplifier]")]
    assert Technology.from_text(without).amplifier == Amplifier() == MODEL.amplifier

"""Fits of noise and I-V laws: known laws come back, and scipy agrees where it can answer."""

import numpy as np
import pytest
from scipy import optimize, stats

from behavioral.fitting import fit_device, fit_iv, fit_law
from behavioral.measurements import Measurements
from behavioral.noise import NoiseLaw
from circuits.errors import DataError
from circuits.parameters import Device

TAOX = Device.from_toml("taox")


def measure(seed, states=400, reads=10, stuck=0):
    """Draw a measurement from the laws of the TaOx card."""
    rng = np.random.default_rng(seed)
    target = np.exp(rng.uniform(np.log(TAOX.g_min_s), np.log(TAOX.g_max_s), states))
    g = target + rng.normal(size=states) * NoiseLaw.write(TAOX).sigma(target)
    sigma = NoiseLaw.read(TAOX).sigma(g)[:, None]
    measured = g[:, None] + rng.normal(size=(states, reads)) * sigma
    measured[:stuck] = 0.0
    return conductances(target, measured)


def conductances(target, measured):
    reads = np.size(measured) // len(target)
    none = np.full(np.size(measured), np.nan)
    cell = np.repeat(np.arange(len(target)), reads)
    return Measurements(np.repeat(target, reads), np.ravel(measured), none, none, cell)


def curves(v, current, target):
    cell = np.repeat(np.arange(len(target)), len(v))
    none = np.full(cell.size, np.nan)
    return Measurements(np.asarray(target)[cell], none, np.tile(v, len(target)), current, cell)


@pytest.mark.parametrize("seed", range(5))
def test_known_noise_laws_come_back_within_their_standard_errors(seed):
    """The errors are those of the Fisher information; 4.5 of them: 1 in 5000 for 30 figures."""
    found = fit_device(measure(seed))
    for fit, law in ((found.write, NoiseLaw.write(TAOX)), (found.read, NoiseLaw.read(TAOX))):
        assert abs(fit.law.exponent - law.exponent) < 4.5 * fit.exponent_error
        assert abs(fit.law.log_scale - law.log_scale) < 4.5 * fit.log_scale_error
        assert abs(np.log(fit.law.clip_s / law.clip_s)) < 4.5 * fit.clip_error
        assert fit.misfit < 2 * fit.counting


def test_standard_errors_have_the_size_of_the_scatter():
    """Over 24 data sets, scatter / stated error has a spread of 1 / sqrt(48) = 0.14: 4 of them."""
    law = NoiseLaw(0.7, -2.0, 1e-15, 1.0)
    rng = np.random.default_rng(1)
    g = np.geomspace(1e-8, 1e-4, 200)
    fits = [fit_law(g, (rng.normal(size=200) * law.sigma(g)) ** 2, np.ones(200)) for _ in range(24)]
    plain = [fit for fit in fits if not fit.clip_error]
    assert len(plain) > 18
    pulls = [(fit.law.exponent - 0.7) / fit.exponent_error for fit in plain]
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.58)


def test_two_targets_give_the_spreads_that_scipy_finds():
    """Reference: scipy.stats.norm.fit; a law with two constants passes through two spreads."""
    rng = np.random.default_rng(2)
    target = np.repeat([1e-6, 3e-5], 50)
    deviation = rng.normal(size=100) * np.repeat([1e-7, 4e-7], 50)
    fit = fit_law(target, deviation**2, np.ones(100))
    for k, g in enumerate((1e-6, 3e-5)):
        _, sigma = stats.norm.fit(deviation[50 * k : 50 * k + 50], floc=0)
        assert fit.law.sigma(g) == pytest.approx(sigma, rel=1e-4)


def test_read_noise_is_taken_out_of_programming_noise():
    """Programming exact, every state read 4 times: the mean still scatters by half a read."""
    rng = np.random.default_rng(3)
    target = np.geomspace(1e-7, 1e-4, 300)
    measured = target[:, None] * (1 + 0.05 * rng.normal(size=(300, 4)))
    found = fit_device(conductances(target, measured))
    ratio = found.write.law.sigma(target) / target
    assert np.median(ratio) < 0.3 * 0.025
    assert found.read.law.sigma(1e-5) == pytest.approx(0.05 * 1e-5, rel=0.2)


def test_exact_devices_have_no_noise():
    target = np.geomspace(1e-8, 1e-4, 40)
    found = fit_device(conductances(target, np.repeat(target, 3).reshape(40, 3)))
    assert (found.write.law.log_scale, found.read.law.log_scale) == (-np.inf, -np.inf)


def test_stuck_cells_are_counted_and_left_out():
    found = fit_device(measure(4, stuck=12))
    assert found.stuck == 12
    law = NoiseLaw.write(TAOX)
    assert abs(found.write.law.log_scale - law.log_scale) < 4.5 * found.write.log_scale_error


def test_the_voltage_of_the_sinh_law_is_that_of_scipy():
    """Reference: scipy.optimize.curve_fit of ln I with a conductance for each curve."""
    rng = np.random.default_rng(5)
    v = np.linspace(0.02, 0.4, 15)
    g = np.array([1e-6, 1e-5, 1e-4])
    i = g[:, None] * 0.4 * np.sinh(v / 0.4) * (1 + 0.01 * rng.normal(size=(3, 15)))

    def law(x, v_sinh, *log_g):
        return np.repeat(log_g, 15) + np.log(v_sinh * np.sinh(x / v_sinh))

    start = [0.3, *np.log(g)]
    best, covariance = optimize.curve_fit(law, np.tile(v, 3), np.log(i).ravel(), start)
    fit = fit_iv(curves(v, i.ravel(), g))
    assert fit.v_sinh_v == pytest.approx(best[0], rel=1e-5)
    assert fit.v_sinh_error_v == pytest.approx(np.sqrt(covariance[0, 0]), rel=0.01)
    assert abs(fit.v_sinh_v - 0.4) < 4.5 * fit.v_sinh_error_v


def test_straight_curves_are_called_linear():
    v = np.linspace(-0.4, 0.4, 21)
    i = np.outer([1e-6, 1e-4], v) * (1 + 0.01 * np.random.default_rng(6).normal(size=(2, 21)))
    assert fit_iv(curves(v, i.ravel(), [1e-6, 1e-4])).v_sinh_v == np.inf


@pytest.mark.parametrize(
    ("target", "measured", "message"),
    [
        (np.geomspace(1e-6, 1e-5, 5), np.geomspace(1e-6, 1e-5, 5), "5 measured deviations are too"),
        (np.full(50, 1e-6), np.linspace(0.9e-6, 1.1e-6, 50), "exponent cannot be fitted"),
        (np.geomspace(1e-6, 1e-5, 50), np.geomspace(1, 10, 50) * 1e-12, "both in siemens"),
    ],
)
def test_data_that_do_not_determine_a_law_are_refused(target, measured, message):
    with pytest.raises(DataError, match=message):
        fit_device(conductances(target, measured))


def test_a_single_voltage_does_not_determine_the_law():
    with pytest.raises(DataError, match="do not determine v_sinh"):
        fit_iv(curves(np.array([0.2, -0.2]), np.array([1e-6, -1e-6, 1e-5, -1e-5]), [5e-6, 5e-5]))

"""The sense amplifier of a match line, on lines that just trip."""

import numpy as np
import pytest

from circuits import acam, sense
from circuits.parameters import load_parameters
from circuits.search import HALVES

pytestmark = pytest.mark.ngspice

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
G = np.array([12e-6])


@pytest.fixture(scope="module")
def found(spice_cache):
    known = acam.Thresholds(acam.SearchBench(DEVICE, TECHNOLOGY, {"cache": spice_cache}))
    bounds = (
        acam._measure_bound(known, half, G, np.empty(0), False)[f"{half}_v"] for half in HALVES
    )
    return sense.measure(DEVICE, TECHNOLOGY, G, *bounds, cache=spice_cache)


def test_shipped_reference_agrees_with_the_characterised_thresholds(found):
    """Within 0.6 LSB.

    The strobe's kick is larger where a divider of low conductance lets it be, and at 150 uS the
    match line moves little for the data line.
    """
    readout = TECHNOLOGY.readout
    error = found.data_line_error(TECHNOLOGY.unit.v_reference_v)
    assert np.abs(error).max() < 0.6 * (readout.v_dl_hi_v - readout.v_dl_lo_v) / 256


def test_decision_is_faster_with_more_overdrive(found):
    assert np.isfinite(found.delay_s).all()
    assert (np.diff(found.delay_s) <= 0).all()
    assert found.delay_s[-1] < found.delay_s[0] < TECHNOLOGY.unit.t_or_s


def test_noise_is_above_that_of_an_ideal_pair_and_small(found):
    """Between 0.5 mV, 4kT / gm over 80 ps at 1 mS, and 5 mV, which would be an LSB."""
    assert 0.5e-3 < found.noise_v < 5e-3
    assert 0.5e-15 < found.energy_j < 5e-15  # 1 to 2 fF of nodes at 1.4 V

"""Match lines of many cells, and data lines that have just moved."""

import numpy as np
import pytest

from circuits import acam, match_line
from circuits.parameters import load_parameters

pytestmark = pytest.mark.ngspice

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
LSB = (TECHNOLOGY.readout.v_dl_hi_v - TECHNOLOGY.readout.v_dl_lo_v) / 256


@pytest.fixture(scope="module")
def cell(spice_cache):
    return acam.characterize(DEVICE, TECHNOLOGY, quick=True, cache=spice_cache)


def test_history_of_the_data_line_collapses_the_low_bound(cell, spice_cache):
    """At 0.1 uS the divider's node takes nanoseconds to rise: C / G is 3 ns with 0.3 fF."""
    at = [8, 18]
    found = match_line.measure_history(
        DEVICE, TECHNOLOGY, cell.g[at], cell.lower_v[at], cell.upper_v[at],
        settle_s=(0.0, 1e-10, 1e-8), cache=spice_cache,
    )  # fmt: skip
    lower = found.shift_v[0]
    assert np.isnan(lower[0, 0])  # gone: it answers as for the old voltage
    assert lower[1, 0] < -1e-3  # 12 uS: milliseconds of a volt
    assert np.abs(lower[:, 2]).max() < 0.25 * LSB
    assert found.needed_s(0.25 * LSB)[0].tolist() == [1e-8, 1e-10]


def test_long_match_lines_lower_the_bound_and_slow_the_decision(cell, spice_cache):
    at = [18]
    found = match_line.measure_lines(
        DEVICE, TECHNOLOGY, cell.g[at], cell.lower_v[at], cells=(1, 4, 64), cache=spice_cache
    )
    assert found.threshold_v[0, 0] == pytest.approx(
        cell.lower_v[18], abs=2e-4
    )  # one cell: the same
    assert found.threshold_v[1, 0] < found.threshold_v[0, 0] - 5e-3
    assert np.isnan(found.threshold_v[2, 0])  # 13 fF in 300 ps are beyond one pull-down
    assert (np.diff(found.delay_s[:2, 0, -1]) > 0).all()
    assert (found.droop_v > 0).all()
    assert found.droop_v.max() < 1e-3

"""Transfer of row drivers: against the sweep of codes, the transient of a pulse, Ohm's law."""

import numpy as np
import pytest

from behavioral.library import Library
from circuits import row_transfer
from circuits.errors import ParameterError
from circuits.parameters import load_parameters
from circuits.plan import Result
from circuits.row_driver import CODES, DriverBench, measure_pulses

pytestmark = pytest.mark.ngspice


def cards(circuit, *settings):
    return load_parameters("taox", "lp16", [f"driver.circuit={circuit}", *settings])


def measure(circuit, cache, *settings):
    return row_transfer.characterize(*cards(circuit, *settings), quick=True, cache=cache)


def test_levels_of_a_string_are_those_of_its_codes(spice_cache):
    """A netlist of its own, with the string's references; 1 uV of a step of 1.56 mV."""
    data = measure("string", spice_cache)
    bench = DriverBench(cards("string")[1], {"cache": spice_cache})
    load = 5
    (codes,) = bench.run([bench.sweep(data.load_s[load])])
    row = codes.vectors["v(row)"] - bench.technology.column.v_cm_v
    asked = np.linspace(-1, 1, CODES + 1)[:-1] * bench.technology.column.v_read_v
    found = np.interp(data.ideal_v[:-1], asked, row)
    np.testing.assert_allclose(data.row_v[load, :-1], found, atol=1e-6)
    assert (np.diff(data.row_v[:, -1]) < 0).all()  # a heavier row falls


def test_a_pulse_stands_where_its_transient_ends(spice_cache):
    """Within 0.1 mV: the transient of a bit has settled to half a step, 0.4 mV, at least."""
    data = measure("pulses", spice_cache)
    technology = cards("pulses", f"driver.g_row_s={float(data.load_s[3])!r}")[1]
    level = measure_pulses(technology, cache=spice_cache).level_v
    assert data.row_v[3, -1] == pytest.approx(level, abs=1e-4)
    middle = data.ideal_v.size // 2
    np.testing.assert_allclose(data.row_v[:, middle], 0.0, atol=1e-8)
    slopes = data.row_v[:, middle:] / np.maximum(data.ideal_v[middle:], 1e-12)
    np.testing.assert_allclose(slopes[:, 1:] / slopes[:, -1:], 1.0, rtol=1e-6)


def test_a_driver_that_cannot_be_simulated_makes_no_library(monkeypatch, spice_cache):
    def run(jobs, **_):
        return [Result(job.name, 2, {}, "no") for job in jobs]

    monkeypatch.setattr(row_transfer.plan, "run", run)
    data = measure("string", spice_cache)
    assert np.isnan(data.row_v).all()
    assert set(data.status) == {2}
    assert data.provenance.failed == data.provenance.jobs == 33


def test_an_unknown_driver_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="ideal, string, pulses"):
        cards("ladder")


def test_a_default_card_says_nothing_of_drivers():
    """So that libraries with ideal drivers keep their bytes."""
    assert "[driver]" not in load_parameters("taox", "lp16")[1].to_toml()
    assert 'circuit = "pulses"' in cards("pulses")[1].to_toml()
    assert Library.from_tables.__kwdefaults__["row_transfer"] is None

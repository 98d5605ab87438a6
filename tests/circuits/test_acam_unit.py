"""The ACAM unit at transistor level: decoder, OR lines, cells, against plain logic."""

from dataclasses import replace

import numpy as np
import pytest

from circuits import acam, acam_unit, search
from circuits.acam_unit import Rows
from circuits.errors import ParameterError
from circuits.parameters import load_parameters

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
G_MIN, G_MAX = DEVICE.g_min_s, DEVICE.g_max_s


def constant_rows(word, bits, gray=True):
    """Return a row for each bit that matches everywhere (bit set) or nowhere, at 0.75 V."""
    on = np.array([bool(word >> k & 1) for k in range(bits)])
    g_lo = np.where(on, G_MIN, G_MAX)  # a lower bound of 1.06 V never matches
    return Rows(g_lo, np.full(bits, G_MAX), np.arange(bits), bits, gray)


@pytest.mark.ngspice
@pytest.mark.parametrize("word", range(8))
def test_decoder_turns_every_gray_word_into_its_number(word, spice_cache):
    rows = constant_rows(word, 3)
    found = acam_unit.convert(DEVICE, TECHNOLOGY, rows, 0.75, cache=spice_cache)
    number = word ^ (word >> 1) ^ (word >> 2)
    assert found.codes.tolist() == [number]
    assert found.margin_v[0] > 0.6  # of 0.7 V: the outputs stand at their rails


@pytest.mark.ngspice
def test_row_on_one_match_line_needs_both_bounds(spice_cache):
    shared = replace(TECHNOLOGY, acam=replace(TECHNOLOGY.acam, match_lines=1))
    g = np.array([G_MIN, G_MAX, G_MIN]), np.array([G_MAX, G_MAX, G_MIN])
    rows = Rows(*g, np.arange(3), 3, gray=False)
    found = acam_unit.convert(DEVICE, shared, rows, 0.75, cache=spice_cache)
    assert found.codes.tolist() == [0b001]  # open; below the lower bound; above the upper


@pytest.mark.ngspice
def test_long_or_is_the_or_of_its_parts(spice_cache):
    """3 rows of one bit are two OR lines and one that joins them; only the last row matches."""
    short = replace(TECHNOLOGY, unit=replace(TECHNOLOGY.unit, rows_per_or_line=2))
    g_lo = np.full(3, G_MAX)
    g_lo[-1] = G_MIN
    rows = Rows(g_lo, np.full(3, G_MAX), np.zeros(3, np.int64), 1)
    none = replace(rows, g_lo=np.full(3, G_MAX))
    codes = [
        acam_unit.convert(DEVICE, short, r, 0.75, cache=spice_cache).codes[0] for r in (rows, none)
    ]
    assert codes == [1, 0]


@pytest.mark.ngspice
def test_cells_take_the_characterised_energy(spice_cache):
    """A unit's cells draw for its cycle what `SearchBench.energy` measures for a search.

    10 %: the dividers' static current dominates, and the inverters' share changes with the phases.
    """
    g = np.full(1, 20e-6)
    unit = acam_unit.convert(
        DEVICE, TECHNOLOGY, Rows(g, g, np.zeros(1, np.int64), 1), 0.9, cache=spice_cache
    )
    bench = acam.SearchBench(DEVICE, TECHNOLOGY, {"cache": spice_cache})
    energy = sum(bench.energy(half, g, np.array([0.9]))[0][0] for half in search.HALVES)
    times = TECHNOLOGY.acam.t_sense_s + TECHNOLOGY.acam.t_precharge_s
    expected = energy * acam_unit.cycle_time(TECHNOLOGY) / times
    assert unit.energy_j[0, 0] == pytest.approx(expected, rel=0.1)
    # the clock of the OR lines pushes charge into their supply: it may get more than it gives
    assert (unit.energy_j[0, [0, 1, 2, 4]] > 0).all()


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ParameterError, match="one value for each row"):
        Rows(np.ones(2), np.ones(3), np.zeros(2, np.int64), 1)


def test_gate_larger_than_the_sense_input_is_refused():
    wrong = replace(TECHNOLOGY, unit=replace(TECHNOLOGY.unit, c_input_f=1e-15))
    with pytest.raises(ParameterError, match=r"unit\.c_input_f"):
        acam_unit.unit_models(DEVICE, wrong)

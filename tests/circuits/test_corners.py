"""Corners: their names, what they do to a technology and its cards."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits import batch, crossbar
from circuits.corners import ALL, Corner, read_corners
from circuits.errors import ParameterError
from circuits.netlist import cards_text
from circuits.parameters import CORNERS, Technology, apply_overrides, load_parameters

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
TEMPERATURES = st.none() | st.integers(-55, 175).map(float)
SCALES = st.integers(50, 150).map(lambda percent: percent / 100)


@given(st.builds(Corner, st.sampled_from(CORNERS), TEMPERATURES, SCALES))
def test_a_name_says_all_of_a_corner(corner):
    assert Corner.from_name(corner.name) == corner


@given(st.text(max_size=12))
def test_any_other_name_is_refused(name):
    with pytest.raises(ParameterError, match=r"write PROCESS, PROCESS_TEMPERATUREc"):
        Corner.from_name(name + "?")


@pytest.mark.parametrize("name", ["", "fff", "ff_", "ff_125", "tt_2vdd", "ff,ss_c"])
def test_wrong_lists_are_refused(name):
    with pytest.raises(ParameterError, match=r"corner|supply scale"):
        read_corners(name)


def test_all_are_every_process_at_three_temperatures_and_two_supplies():
    assert len(set(ALL)) == len(ALL) == 16
    assert read_corners("all") == ALL
    assert read_corners("ff, ss_125c,ff") == (Corner("ff"), Corner("ss", 125.0))


def test_the_supply_moves_what_follows_it_and_no_reference():
    low = Corner(supply_scale=0.9).apply(TECHNOLOGY)
    assert low.vdd_v == 0.9 * TECHNOLOGY.vdd_v
    assert low.acam.v_sense_v == 0.9 * TECHNOLOGY.acam.v_sense_v
    assert low.amplifier.v_supply_v == 0.9 * TECHNOLOGY.amplifier.v_supply_v
    assert low.column == TECHNOLOGY.column
    assert low.readout == TECHNOLOGY.readout
    assert low.acam.v_sl_hi_v == TECHNOLOGY.acam.v_sl_hi_v


def test_an_impossible_temperature_is_refused():
    with pytest.raises(ParameterError, match="temperature_c = 400 is out of range"):
        Corner("tt", 400.0).apply(TECHNOLOGY)


def values(technology, key):
    """Return a key of the n and of the p card."""
    return [float(x) for x in re.findall(rf"\b{key}=(\S+)", cards_text(technology))]


@pytest.mark.parametrize(("corner", "n", "p"), [("ff", 1, 1), ("ss", -1, -1), ("fs", 1, -1)])
def test_the_corner_moves_threshold_and_mobility_of_both_cards(corner, n, p):
    moved = Corner(corner).apply(TECHNOLOGY)
    shift = np.subtract(values(moved, "vth0"), values(TECHNOLOGY, "vth0"))
    assert shift == pytest.approx([-0.025 * n, 0.025 * p])  # a fast p device: nearer to zero
    assert values(moved, "u0")[0] == pytest.approx(0.0282 * (1 + 0.1 * n))


def test_typical_cards_are_the_file_as_it_is():
    assert cards_text(TECHNOLOGY) == TECHNOLOGY.cards_path().read_text().strip()


@pytest.mark.ngspice
def test_currents_of_the_cards_are_ordered(spice_cache):
    """Slow, typical, fast; fs as fast as ff, because only n devices stand in a column."""
    found = {
        corner: crossbar.replay(
            DEVICE, Corner(corner).apply(TECHNOLOGY), [[1.5e-4] * 2], [[0.2] * 2], cache=spice_cache
        )[0, 0]
        for corner in CORNERS
    }
    assert found["ss"] < found["tt"] < found["ff"]
    assert (found["fs"], found["sf"]) == (found["ff"], found["ss"])


@pytest.mark.ngspice
@pytest.mark.parametrize(("corner", "sign"), [("ff", -1), ("ss", 1)])
def test_the_threshold_of_a_transistor_moves_by_the_shift(corner, sign):
    """At a constant current, 300 nA W/L: 25 mV, and up to 10 mV more from the mobility.

    10 % of mobility are ln(1.1) = 0.095 times n kT/q = 40 mV: 3.8 mV in weak inversion, about twice
    that at the criterion; and BSIM4's mobility falls with the threshold itself: 2 mV.
    """
    found = []
    for name in ("tt", corner):
        netlist = f"""transfer
{cards_text(Corner(name).apply(TECHNOLOGY))}
vd d 0 0.05
vg g 0 0
m1 d g 0 0 n16lp w=1u l=16n
.dc vg 0 1 0.002
.end
"""
        v = batch.simulate(netlist, ["v(g)", "i(vd)"])
        found.append(np.interp(np.log(300e-9 * 1e-6 / 16e-9), np.log(-v["i(vd)"]), v["v(g)"]))
    assert 0.025 <= sign * (found[1] - found[0]) <= 0.035


def with_cards(folder, text, **sections):
    (folder / "own.lib").write_text(text)
    cards = dataclasses.replace(TECHNOLOGY.cards, file=str(folder / "own.lib"), **sections)
    return dataclasses.replace(TECHNOLOGY, cards=cards)


def test_a_library_with_sections_has_one_for_each_corner(tmp_path):
    text = ".lib tt\n.endl tt\n.lib ff\n.endl ff\n"
    own = with_cards(tmp_path, text, section="tt", section_ff="ff")
    assert cards_text(Corner("ff").apply(own)).endswith("own.lib' ff")
    with pytest.raises(ParameterError, match=r"corner ss; set cards\.section_ss"):
        cards_text(Corner("ss").apply(own))


def test_cards_that_a_corner_cannot_move_are_refused(tmp_path):
    text = TECHNOLOGY.cards_path().read_text()
    own = with_cards(tmp_path, text.replace("u0=0.0282", ""))
    with pytest.raises(ParameterError, match="card n16lp: the corner needs u0"):
        cards_text(Corner("ff").apply(own))
    own = with_cards(tmp_path, ".include other.inc\n")
    with pytest.raises(ParameterError, match="cannot be moved to the corner ff"):
        cards_text(Corner("ff").apply(own))


def test_a_former_key_of_older_files_is_read():
    """``amplifier.pelgrom_v_m`` became ``process.a_vt_v_m``; libraries of before hold it."""
    text = TECHNOLOGY.to_toml()
    older = text.replace("a_vt_v_m = 1.25e-09\n", "") + "pelgrom_v_m = 2e-09\n"
    assert older.rstrip().rpartition("[")[2].startswith("amplifier]")
    assert Technology.from_text(older).process.a_vt_v_m == 2e-9


@pytest.mark.ngspice
def test_a_conductance_follows_its_temperature_coefficient(spice_cache):
    """60 K at 1e-3 per K: 6 % more current at 1 uS, where the transistor takes 0.1 %."""
    currents = []
    for tc in ("0", "1e-3"):
        parameters = apply_overrides(
            DEVICE, TECHNOLOGY, [f"g_temperature_per_k={tc}", "temperature_c=87", "rows=2"]
        )
        currents.append(
            crossbar.replay(*parameters, [[1e-6] * 2], [[0.2] * 2], cache=spice_cache)[0, 0]
        )
    rest = crossbar.replay(*parameters, [[1e-6] * 2], [[0.0] * 2], cache=spice_cache)[0, 0]
    assert (currents[1] - rest) / (currents[0] - rest) == pytest.approx(1.06, abs=0.002)

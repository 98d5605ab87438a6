"""The 45 nm and 180 nm cards against published behaviour.

Targets of ``lp45``: the PTM 45 nm LP cards (Zhao and Cao, TED 2006; 1.1 V) with all their values in
ngspice 39, at 1 um / 45 nm. Targets of ``cmos180``: measured silicon, lot averages of
MOSIS run T16X (TSMC, SCN018) at 20 um / 0.18 um; thresholds by linear extrapolation.
Tolerances: round values in place of the full card cost up to 2 % in current (``lp45``); the report
gives three digits of a current and two of a threshold (``cmos180``).
"""

import numpy as np
import pytest

from circuits import acam, batch
from circuits.corners import Corner
from circuits.netlist import cards_text
from circuits.parameters import Technology, load_parameters

pytestmark = pytest.mark.ngspice

SIZES = {"lp45": (1e-6, 45e-9), "cmos180": (20e-6, 180e-9)}
NAMES = ("lp45", "cmos180")


def transfer(technology, polarity, v_drain, size=None):
    """Return gate voltage [V] and drain current per metre of width [A/m], both positive."""
    width, length = size or SIZES[technology.name]
    sign = 1 if polarity == "n" else -1
    model = technology.cards.nmos if polarity == "n" else technology.cards.pmos
    netlist = f"""transfer
{cards_text(technology)}
vd d 0 {sign * v_drain}
vg g 0 0
m1 d g 0 0 {model} w={width} l={length}
.options gmin=1e-15
.dc vg 0 {sign * technology.vdd_v} {sign * 0.005}
.end
"""
    found = batch.simulate(netlist, ["v(g)", "i(vd)"])
    return np.abs(found["v(g)"]), np.abs(found["i(vd)"]) / width


def extrapolated_threshold(technology, polarity, size=None):
    """Return where the steepest tangent at 50 mV of drain voltage meets zero, less half of it."""
    v, i = transfer(technology, polarity, 0.05, size)
    slope = np.gradient(i, v)
    k = slope.argmax()
    return v[k] - i[k] / slope[k] - 0.025


@pytest.mark.parametrize(
    ("name", "polarity", "on", "off", "tolerance"),
    [
        ("lp45", "n", 517, 26.4e-12, 0.02),
        ("lp45", "p", 305, 22.2e-12, 0.02),
        ("cmos180", "n", 577, 21.1e-12, 0.02),
        ("cmos180", "p", 278, 9.2e-12, 0.02),
    ],
)
def test_on_and_off_current_at_the_supply(name, polarity, on, off, tolerance):
    """Per um: on in uA, off in A."""
    technology = Technology.from_toml(name)
    _, i = transfer(technology, polarity, technology.vdd_v)
    assert i[-1] == pytest.approx(on, rel=tolerance)  # 1 uA/um is 1 A/m
    assert i[0] * 1e-6 == pytest.approx(off, rel=tolerance)


@pytest.mark.parametrize(("polarity", "linear", "saturated"), [("n", 590, 505), ("p", 635, 521)])
def test_thresholds_of_the_45_nm_cards(polarity, linear, saturated):
    """Criterion of 300 nA W/L, in mV, 3 mV: hence also the drain effect of the full cards."""
    technology = Technology.from_toml("lp45")
    criterion = np.log(300e-9 / SIZES["lp45"][1])
    for v_drain, target in ((0.05, linear), (technology.vdd_v, saturated)):
        v, i = transfer(technology, polarity, v_drain)
        assert np.interp(criterion, np.log(i), v) == pytest.approx(target * 1e-3, abs=3e-3)


@pytest.mark.parametrize(("polarity", "short", "large"), [("n", 0.52, 0.43), ("p", 0.55, 0.43)])
def test_thresholds_of_the_180_nm_cards(polarity, short, large):
    """20 um / 0.18 um and 50 um / 50 um: 10 mV, the digit of the report."""
    technology = Technology.from_toml("cmos180")
    assert extrapolated_threshold(technology, polarity) == pytest.approx(short, abs=0.01)
    found = extrapolated_threshold(technology, polarity, (50e-6, 50e-6))
    assert found == pytest.approx(large, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("polarity", ["n", "p"])
def test_corners_lie_on_both_sides_of_the_typical_card(name, polarity):
    """A fast device carries more, on and off.

    The off-current moves by a decade in 90 mV (30 % for what slope and mobility add).
    """
    technology = Technology.from_toml(name)
    slow, typical, fast = (
        transfer(Corner(c).apply(technology), polarity, technology.vdd_v)[1]
        for c in ("ss", "tt", "ff")
    )
    assert slow[-1] < 0.97 * typical[-1]
    assert typical[-1] < 0.97 * fast[-1]
    shift = technology.process.vth_shift_n_v
    assert np.log10(fast[0] / slow[0]) == pytest.approx(2 * shift / 0.09, rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_both_bounds_of_the_cell_cover_the_data_line(name, spice_cache):
    """A lower half pulls below its bound, an upper half above: tried with the extreme states."""
    device, technology = load_parameters("taox", name)
    bench = acam.SearchBench(device, technology, {"cache": spice_cache})
    ends = technology.readout.v_dl_lo_v, technology.readout.v_dl_hi_v
    for half, high in (("lower", [True, False]), ("upper", [False, True])):
        cells = zip((device.g_min_s, device.g_max_s), ends, strict=True)
        v_ml, _ = bench.search([bench.half(half, g, v) for g, v in cells], "ends")
        assert acam.is_match(technology, v_ml).tolist() == high

"""Rows that are not searched, against netlists written by hand."""

import numpy as np
import pytest

from circuits import batch, idle_rows
from circuits.netlist import cards_text
from circuits.parameters import load_parameters

pytestmark = pytest.mark.ngspice

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")


def by_hand(v_hi, v_lo):
    """Return power of the supplies and current of the line, upper half of 10 uS, 9 data lines."""
    netlist = f"""upper half by hand
{cards_text(TECHNOLOGY)}
vhi hi 0 {v_hi}
vlo lo 0 {v_lo}
vdd vdd 0 0.9
vm ml 0 0.9
vdl dl 0 0
b1 hi n i=1e-5*0.4*sinh((v(hi)-v(n))/0.4)
m3 n dl lo 0 n16lp w=100n l=16n
m4 inv n vdd vdd p16lp w=384n l=16n
m5 inv n 0 0 n16lp w=128n l=16n
m6 ml inv 0 0 n16lp w=128n l=16n
.options gmin=1e-15
.dc vdl 0.5 1.0401 0.0675
.end
"""
    found = batch.simulate(netlist, ["i(vhi)", "i(vlo)", "i(vdd)", "i(vm)"])
    power = -(v_hi * found["i(vhi)"] + v_lo * found["i(vlo)"] + 0.9 * found["i(vdd)"]).mean()
    return power, -found["i(vm)"]


def test_idle_halves_take_what_a_netlist_by_hand_takes(spice_cache):
    """1 % of the currents; at ground the upper half pulls its line down with all it has."""
    rows = idle_rows.measure(DEVICE, TECHNOLOGY, np.array([1e-5]), cache=spice_cache)
    acam = TECHNOLOGY.acam
    power, line = by_hand(acam.v_sl_hi_v, acam.v_sl_lo_v)
    assert rows.power_w[0, 1, 0] == pytest.approx(power, rel=0.01)
    assert rows.line_a[0, 1, 0] == pytest.approx(line[0], rel=0.01)
    power, line = by_hand(0.0, 0.0)
    assert rows.power_w[1, 1, 0] == pytest.approx(power, rel=0.01)
    assert rows.line_a[1, 1, 0] == pytest.approx(line.max(), rel=0.01)
    assert rows.line_a[1, 1, 0] > 1e6 * rows.line_a[1, 0, 0] > 0

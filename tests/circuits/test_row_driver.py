"""Row drivers at transistor level, against sums by hand and each other."""

from dataclasses import replace

import numpy as np
import pytest

from circuits import row_driver
from circuits.parameters import load_parameters
from circuits.row_driver import CODES, DriverBench, PulseData, nonlinearity
from system.commands.main import main

_, TECHNOLOGY = load_parameters("taox", "lp16")
STEP_V = TECHNOLOGY.column.v_read_v / 128


def test_nonlinearity_of_one_displaced_code():
    """By hand: code 100 a quarter step high moves its INL, and both DNL beside it."""
    volts = 0.1 + 1e-3 * np.arange(256.0)
    volts[100] += 0.25e-3
    inl, dnl = nonlinearity(volts)
    assert inl[100] == pytest.approx(0.25)
    assert np.abs(np.delete(inl, 100)).max() < 1e-9
    assert dnl[[99, 100]] == pytest.approx([0.25, -0.25])


def test_mismatch_of_a_string_follows_its_resistors():
    """By theory: largest DNL of 255 codes 2.98 sigma in the mean, INL at the middle 8 sigma rms."""
    inl, dnl = row_driver.string_mismatch(1e-3)
    assert dnl[0] == pytest.approx(2.98e-3, rel=0.1)
    assert 8e-3 < inl[0] < 1.8 * 8e-3
    assert inl[1] > inl[0]
    np.testing.assert_allclose(
        row_driver.string_mismatch(2e-3), 2 * np.array([inl, dnl]), rtol=0.02
    )


def test_pulses_that_are_ideal_are_linear():
    area = np.array([[0.0, 1e-10], [0.0, 1e-10]])
    data = PulseData(area, area * 1e9, 0, 0, 0.1, 0.1, 0, area, 0, 1e-9)
    for sampled in (False, True):
        np.testing.assert_allclose(data.row_v(sampled=sampled), 0.1 * np.arange(CODES) / 255)


def test_settling_is_the_last_time_outside():
    volts = np.array([0.0, 1.2, 0.9, 1.05, 1.0, 1.0, 1.0])
    assert row_driver.settling(np.arange(7.0), volts, 0.07) == 3.0
    assert row_driver.settling(np.arange(7.0), np.arange(7.0), 0.07) == np.inf


@pytest.mark.ngspice
def test_tree_and_buffer_settle_on_what_the_sweep_gives(spice_cache, monkeypatch):
    """The tree carries no current, so only the end of the transient is left: 0.02 steps."""
    monkeypatch.setattr(row_driver, "SETTLE_S", 4e-9)
    bench = DriverBench(TECHNOLOGY, {"cache": spice_cache})
    sweep, step = bench.run([bench.sweep(TECHNOLOGY.driver.g_row_s), bench.step(127, 129)])
    row = sweep.vectors["v(row)"]
    assert step.vectors["v(row)"][[0, -1]] == pytest.approx(row[[127, 129]], abs=0.02 * STEP_V)
    assert (np.diff(row) > 0).all()
    assert sweep.vectors["v(tap)"][128] == pytest.approx(TECHNOLOGY.column.v_cm_v)


@pytest.mark.ngspice
def test_a_pulse_is_divided_between_switch_and_row(spice_cache):
    """Charge by hand: cells for the slot, and the line once; edges of 35 ps: 5 %."""
    sized = replace(TECHNOLOGY, driver=replace(TECHNOLOGY.driver, g_row_s=2e-3))
    light, heavy = (row_driver.measure_pulses(t, cache=spice_cache) for t in (sized, TECHNOLOGY))
    assert heavy.level_v < light.level_v < heavy.ideal_v
    assert heavy.r_on_ohm == pytest.approx(light.r_on_ohm, rel=0.1)
    driver, column = TECHNOLOGY.driver, TECHNOLOGY.column
    charge = heavy.level_v * driver.g_row_s * driver.t_bit_s
    charge += heavy.level_v * driver.cells * column.c_wire_f_per_cell
    assert heavy.read_j == pytest.approx((column.v_cm_v + column.v_read_v) * charge, rel=0.05)
    assert np.abs(nonlinearity(heavy.row_v(sampled=True))[0]).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--library", "none.h5"], "there is no library"),
        (["--plot", "driver.doc"], "--plot"),
    ],
)
def test_bad_input_ends_in_a_message(arguments, told, capsys):
    assert main(["driver", "pulses", *arguments]) == 1
    assert told in capsys.readouterr().err

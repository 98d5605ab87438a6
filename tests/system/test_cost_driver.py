"""Row drivers in the cost model: energy, time and area of the circuit that the library chooses."""

import dataclasses
import re
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

from circuits import row_driver
from circuits.errors import SimulationError
from system.cost import driver, report
from system.cost.components import Components
from system.cost.driver import MeasuredDriver, measured_driver, pulse_drives
from system.cost.measure import Meter
from system.cost.spice import CellPower
from system.quantization import Mapping
from tests.behavioral.standin import make_library
from tests.system.test_cost_model import study

PARTS = Components.from_toml()
LIBRARY = make_library()
STRING = row_driver.StringData(
    *(np.zeros(0),) * 3, np.array([4e-9, 1e-9]), np.array([9e-12, 5e-12]), 4e-3, 25e-6, np.zeros(0)
)
PULSES = row_driver.PulseData(
    *(np.zeros(0),) * 2, 0.0, 0.0, 0.18, 0.2, 18.0, 4 * np.eye(2) * 1e-14, 0.0, 1e-9
)


def row(data, rows=256, arrays=4, bits=8):
    return MeasuredDriver(data, LIBRARY.technology).of(PARTS, rows, arrays, bits)


def test_a_string_waits_for_its_slowest_step_and_burns_power_all_the_time():
    """Steps of 9 pJ in 4 ns, and of 5 pJ in 1 ns and 3 ns more at 4 mW; a 256th of the string."""
    found = row(STRING)
    assert found.conversion_j == pytest.approx(4 * (9 + 5 + 12) / 2 * 1e-12 + 25e-6 / 256 * 4e-9)
    assert found.power_w == pytest.approx(4 * 4e-3 + 25e-6 / 256)
    assert (found.settle_s, found.reads) == (4e-9, 1)


def test_pulses_take_the_gates_of_random_bits_and_as_many_reads_as_bits():
    found = row(PULSES, bits=10)
    assert found.conversion_j == pytest.approx(4 * 10 * 2e-14)
    assert (found.power_w, found.settle_s, found.reads, found.slot_s) == (0.0, 0.0, 10, 1e-9)


def gates(*names):
    """Add up w times l of all devices of sub-circuits of the netlist of row drivers."""
    text = (files("netlists") / "row_driver.cir").read_text()
    sizes, total = LIBRARY.technology.driver, 0.0
    for name in names:
        body = re.search(rf"\.subckt {name} .*?\.ends", text, re.S)[0]
        for width in re.findall(r"^m\w+ .* w={d_(\w+)} l={d_l}", body, re.M):
            total += getattr(sizes, f"w_{width}_m") * sizes.l_m
    return total


def test_areas_are_those_of_the_netlists_devices():
    """A tree of 510 switches, 8 bit lines, 4 buffers of 75 fF; or a switch and one bit line."""
    assert row(PULSES).area_m2 == pytest.approx(4 * gates("row_switch", "bit_lines"), rel=1e-12)
    sizes = LIBRARY.technology.driver
    amplifier = dataclasses.replace(LIBRARY.technology.amplifier, w_sink_m=sizes.w_sink_m)
    buffer = sum(amplifier.gate_areas_m2()) + 75e-15 / 2e-3
    array = 510 * gates("tap_switch") + 8 * gates("bit_lines") + 4 * buffer
    assert row(STRING).area_m2 == pytest.approx(4 * array, rel=1e-12)
    assert row(STRING, bits=9).area_m2 - row(STRING).area_m2 == pytest.approx(
        4 * (512 * gates("tap_switch") + gates("bit_lines")), rel=1e-9
    )


@pytest.mark.parametrize("data", [STRING, PULSES])
def test_a_driver_takes_the_place_of_the_dac_in_front_of_crossbars_only(data):
    """By hand for the first layer: energy, and the time of its vectors on one core."""
    measured = MeasuredDriver(data, LIBRARY.technology)
    before, after = study(LIBRARY, PARTS), study(LIBRARY, PARTS, driver=measured)
    one = row(data)
    for a, b in zip(before.ours, after.ours, strict=True):
        for x, y in zip(a.layers, b.layers, strict=True):
            moved = x.kind == "linear"
            assert ("row driver" in y.energy_j) == moved
            assert (x.energy_j == y.energy_j) != moved
    machine, layer = after.machine, after.workloads[0].layers[0]
    read = machine.read_time(machine.figures.layers[layer.name], one)
    found = after.ours[0].layers[0].energy_j["row driver"]
    assert found == pytest.approx(
        layer.inputs * layer.vectors * (one.conversion_j + one.power_w * read), rel=1e-12
    )
    assert after.ours[0].layers[0].stage_s > before.ours[0].layers[0].stage_s
    assert after.machine.chip.core_areas()["row driver"] == pytest.approx(256 * one.area_m2)


def test_every_bit_waits_for_the_column():
    """The made-up layer settles in 1 ns, the stand-in's read-out in 1 ns; slots have 1 ns."""
    machine = study(LIBRARY, PARTS).machine
    layer = machine.figures.layers["conv1"]
    level, bits = machine.read_time(layer, row(STRING)), machine.read_time(layer, row(PULSES))
    assert bits - level == pytest.approx(7 * 2e-9)
    longer = dataclasses.replace(row(PULSES), slot_s=5e-9)
    assert machine.read_time(layer, longer) - level == pytest.approx(40e-9 - 2e-9)


def test_pulses_add_up_to_the_code():
    drive = np.array([[0.0, 1.0, -1.0, 100 / 255, -3 / 255]])
    pulses = pulse_drives(drive, 8)
    assert np.abs(np.array(pulses)).max() == 1.0
    assert sum(2**k * p for k, p in enumerate(pulses)) / 255 == pytest.approx(drive, abs=1e-12)


def test_cells_of_pulsed_rows_take_the_mean_over_the_bits():
    """Code 5 has two ones among eight bits: a quarter of the power at full swing."""
    array = SimpleNamespace(devices=np.full((2, 1, 3), 1e-5, np.float32))
    layer = SimpleNamespace(tiles=[slice(0, 1)], arrays=[array], spec=SimpleNamespace(name="x"))
    power = []
    for pulses, x in ((True, 5 / 255), (False, 1.0)):
        meter = object.__new__(Meter)
        meter.pulses, meter.mapping, meter.v_read = pulses, Mapping(), 0.2
        meter.cells = CellPower(LIBRARY)
        power.append(meter.cell_power(layer, np.array([[x]], np.float32))[0])
    assert power[0] == pytest.approx(power[1] / 4, rel=1e-12)


def test_ideal_rows_are_not_simulated(monkeypatch):
    monkeypatch.setattr(driver, "measure_string", None)
    assert measured_driver(LIBRARY) == (None, "")


def test_a_driver_that_cannot_be_measured_is_named(monkeypatch):
    def fails(*_, **__):
        raise SimulationError("no ngspice here")

    monkeypatch.setattr(driver, "measure_pulses", fails)
    technology = LIBRARY.technology.override({"driver.circuit": "pulses"})
    chosen = dataclasses.replace(LIBRARY, technology=technology)
    found, why = measured_driver(chosen)
    assert found is None
    text = report.to_text(study(LIBRARY, PARTS, driver_missing=why))
    assert "the chosen row driver, whose place a DAC takes (no ngspice here)" in text


@pytest.mark.ngspice
def test_pulses_are_measured_from_the_library_s_own_technology(tmp_path, monkeypatch):
    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path))
    technology = LIBRARY.technology.override({"driver.circuit": "pulses"})
    found, why = measured_driver(dataclasses.replace(LIBRARY, technology=technology))
    assert why == ""
    assert 3e-14 < found.data.toggle_j.mean() < 1e-13

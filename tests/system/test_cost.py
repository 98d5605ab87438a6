"""Energies from SPICE tables against loops over every cell, and the command."""

import json

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from behavioral.library import Library
from circuits.errors import SimulationError
from system.commands.main import main
from system.cost.measure import Meter, StimulusOps, program
from system.cost.spice import CellPower, settle_time, shares
from system.hardware import Chip, Hardware
from system.networks import load_network
from tests.system.test_conversion_energy import UNIT

LENET = "lenet-mnist-float"


@pytest.fixture(autouse=True)
def unit_without_ngspice(monkeypatch):
    """Spare the commands ten seconds of ngspice; `test_unit.py` holds the terms against it."""
    monkeypatch.setattr("circuits.unit_energy.measure", lambda *_, **__: UNIT)


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.fixture(scope="module")
def measured(library):
    """A programmed layer of LeNet, five recorded inputs, and a meter."""
    network = load_network(LENET, tile_rows=256)
    ops = StimulusOps(network.model.tensors, 256)
    network.score(ops, network.samples(5))
    hardware = Hardware(library, network.mapping, keep_devices=True)
    layer = program(ops, network.ranges, hardware, Chip(0, 0, "frozen"), "fc2")
    return layer, ops.inputs["fc2"], Meter(library, hardware)


def naive_cell_power(library, g: float, v: float) -> float:
    """Power [W] of one cell: row voltage times current, from the table by hand."""
    data = library.crossbar
    middle = int(np.argmin(np.abs(data.v_bl)))
    at = [
        g * np.interp(np.log(g), np.log(data.g), row * data.current[:, k, middle] / data.g)
        for k, row in enumerate(data.v_row)
    ]
    return float(np.interp(v * abs(v), data.v_row * np.abs(data.v_row), at))


@pytest.mark.ngspice
def test_the_cells_of_a_layer_dissipate_what_a_loop_over_all_of_them_gives(library, measured):
    """Over recorded inputs, rows, columns and the four arrays; sums in another order: 1e-9."""
    layer, x, meter = measured
    drive = layer.drive(x)[:2]
    devices, v_read = layer.arrays[0].devices, library.technology.column.v_read_v
    columns = slice(0, 6)
    expected = [
        sum(
            naive_cell_power(library, float(g), float(level) * v_read)
            for row, level in enumerate(vector)
            for g in devices[:, row, columns].ravel()
        )
        for vector in drive.astype(float)
    ]
    g = np.concatenate(list(devices[:, :, columns]), axis=1)
    found = meter.cells.total(g, drive.astype(float) * v_read)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.ngspice
def test_cells_dissipate_about_v_squared_g(library):
    """The access transistor (13 % of 1 / g_max) and the sinh law bend it: 16 % at g_max."""
    power = CellPower(library)
    for g, tolerance in ((1e-6, 0.05), (1.5e-4, 0.16)):
        found = power.total(np.array([[g, g]]), np.array([[0.2], [-0.1]]))
        assert found == pytest.approx([2 * g * 0.04, 2 * g * 0.01], rel=tolerance)


@pytest.mark.ngspice
def test_the_cells_power_is_what_ngspice_dissipates_in_a_lightly_loaded_column(library):
    """A transient of 256 cells: the same energy within 5 %; the bit line rises only slightly."""
    data = library.crossbar
    g = np.full((256, 1), data.settle_g[0])
    power = CellPower(library).total(g, np.full((1, 256), 0.2))[0]
    assert power * data.settle_s[0] == pytest.approx(data.settle_energy_j[0], rel=0.05)


@pytest.mark.ngspice
def test_a_search_costs_what_a_loop_over_its_rows_gives(library, measured):
    """Each half by bilinear interpolation, each match line by what it decides; 1e-6: float32."""
    layer, _, meter = measured
    unit, data, g_max = layer.units[0], library.acam, library.device.g_max_s
    axes, line = (np.log(data.energy_g), data.energy_v_dl), data.energy_match_line_j
    lower, upper = (
        RegularGridInterpolator(axes, table) for table in (data.energy_lower_j, data.energy_upper_j)
    )
    for u in (0.0, 0.31, 0.77):
        volts, expected = float(layer.hardware.acam.voltage(u)), 0.0
        for row in range(unit.lo.shape[1]):
            halves = (
                (unit.g_lo[3, row], lower, unit.lo[3, row] >= u),
                (unit.g_hi[3, row], upper, unit.hi[3, row] <= u),
            )
            for g, table, falls in halves:
                expected += line[1] if falls else line[0]
                # nothing switches a half off: the end of the device's range
                end = library.device.g_min_s if table is lower else g_max
                held = float(g) if g > 0 else end
                expected += table((np.log(held), volts)).item()
        found = meter.energy.column(unit, 3, np.array([u]))[0]
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.ngspice
def test_energy_depends_on_the_data(measured):
    """No input, no power in the cells; a larger one, more."""
    layer, x, meter = measured
    drive = layer.drive(x)
    power = meter.cell_power(layer, np.stack([0 * drive[0], 0.5 * drive[0], drive[0]]))
    assert power[0] == 0.0
    assert power[2] > 3.9 * power[1] > 0.0
    searches = meter.searches(layer, drive)[0][0].sum(axis=-1)
    assert searches.std() > 0.01 * searches.mean()


def test_shares_interpolate_like_numpy():
    axis, values = np.array([0.0, 1.0, 3.0, 7.0]), np.array([[0.0, 0.5, 2.0], [7.0, 6.0, 3.0]])
    table = np.array([2.0, -1.0, 4.0, 8.0])
    expected = np.interp(values, axis, table).sum(axis=1)
    assert shares(axis, values) @ table == pytest.approx(expected, rel=1e-12)


@pytest.mark.ngspice
def test_a_column_that_does_not_settle_is_refused(library):
    import dataclasses

    broken = dataclasses.replace(library.crossbar, settle_s=np.array([1e-9, np.inf]))
    with pytest.raises(SimulationError, match=r"does not settle.*opamp_gbw_hz"):
        settle_time(dataclasses.replace(library, crossbar=broken), np.array([1e-3]))


@pytest.mark.ngspice
def test_the_command_writes_text_json_csv_and_plot(quick_library, tmp_path, capsys):
    out, table, plot = (tmp_path / name for name in ("c.json", "c.csv", "c.png"))
    arguments = ["--json", out, "--csv", table, "--plot", plot, "--batch", 4]
    assert main([str(a) for a in ["cost", LENET, "--library", quick_library, *arguments]]) == 0
    assert "one image, batch 4" in capsys.readouterr().out
    found = json.loads(out.read_text())
    ours = found["workloads"][0]["machines"][0]
    assert ours["energy_j"] == pytest.approx(sum(ours["components_j"].values()))
    assert found["origin"]["acam"] == found["origin"]["cells"] == "SPICE"
    assert table.read_text().startswith("machine,workload,batch,layer")
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.ngspice
def test_language_models_are_costed_per_token_and_per_prompt(quick_library, tmp_path, monkeypatch):
    """A model known by its shape alone takes its figures from the small Llama (a part of it)."""
    monkeypatch.setattr("system.cost.measure.PART_FROM", 0)
    monkeypatch.setattr("system.cost.measure.PART", 16)
    out = tmp_path / "c.json"
    arguments = ["--library", quick_library, "--sequence", 64, "--json", out]
    assert main([str(a) for a in ["cost", "llama-3.2-1b", *arguments]]) == 0
    found = json.loads(out.read_text())
    token, prompt = (w["machines"][0] for w in found["workloads"])
    assert found["figures_of"] == "llama-austen"
    assert token["energy_j"] < prompt["energy_j"] < 64 * token["energy_j"]
    assert token["components_j"]["link"] > 0
    assert {c["what"] for c in found["claims"]} >= {"chips"}


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sequence", "513"], "--sequence 513 is longer than the context of llama-austen"),
        (["--components", "nowhere.toml"], "cannot read the component table"),
        (["--plot", "plot.txt"], "permitted endings"),
    ],
)
def test_bad_arguments_end_in_a_message(arguments, message, quick_library, capsys):
    assert main(["cost", "llama-austen", "--library", str(quick_library), *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.ngspice
def test_a_part_of_the_columns_stands_for_the_layer(library, measured, monkeypatch):
    """Every fourth column of fc1: the cells' mean within 10 %, conversions within 5 %."""
    layer, _, meter = measured
    network = load_network(LENET, tile_rows=256)
    ops = StimulusOps(network.model.tensors, 256)
    network.score(ops, network.samples(5))
    monkeypatch.setattr("system.cost.measure.PART", 30)
    whole, part = (
        meter.layer(
            program(ops, network.ranges, layer.hardware, Chip(0, 0, "frozen"), "fc1", some),
            ops.inputs["fc1"],
        )
        for some in (False, True)
    )
    assert (whole.columns, part.columns) == (120, 30)
    assert part.cell_power_w == pytest.approx(whole.cell_power_w, rel=0.1)
    assert part.search_j == pytest.approx(whole.search_j, rel=0.05)


@pytest.mark.ngspice
def test_figures_are_the_same_every_time(measured):
    layer, x, meter = measured
    assert meter.layer(layer, x) == meter.layer(layer, x)

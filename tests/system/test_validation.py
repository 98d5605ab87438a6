"""The replay in ngspice: what is chosen, what it would find, and each point once more alone."""

import dataclasses
import json
import re
import shlex
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavioral.acam_unit import AcamUnit
from behavioral.library import Library
from circuits.errors import ParameterError, SimulationError
from system import validation
from system.commands.main import main
from system.engine import AnalogOps
from system.hardware import Chip
from system.networks import load_network
from system.validation.agreement import LayerReport, totals, worst_table
from system.validation.bracket import row_matches
from system.validation.replay import (
    decode_rows,
    is_inside,
    places,
    replay_columns,
    replay_searches,
    search_codes,
)
from system.validation.sampling import (
    Sampling,
    choose_conversions,
    choose_stimuli,
    edge_distance,
    hardware_of,
    layer_generator,
    record,
    spread,
)
from tests.system.replayed import code_errors, column_errors

LENET = "lenet-mnist-float"
FEW = Sampling(tiles=1, columns=2, stimuli=8, searches=2)


@pytest.fixture(scope="module")
def recorded(quick_library):
    library = Library.from_hdf5(quick_library)
    network = load_network(LENET, tile_rows=256)
    return network, library, record(network, library, 4, Chip(0, 0, "frozen"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@given(st.integers(0, 255))
def test_rows_decode_to_the_code_whose_gray_word_they_are(code):
    """Gray word: code ^ code >> 1, bit by bit one row."""
    word = code ^ (code >> 1)
    match = np.array([[bool(word >> b & 1) for b in range(8)]])
    assert decode_rows(match, np.arange(8), 8, gray=True) == [code]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.integers(1, 50))
def test_a_spread_choice_has_the_ends_and_one_of_each_part(values, count):
    key = np.array(values)
    chosen = spread(key, count, np.random.default_rng(1))
    assert len(chosen) == len(set(chosen.tolist())) == min(count, len(values))
    assert key[chosen].max() == key.max()
    if count >= 2:
        assert key[chosen].min() == key.min()
        inner = np.sort(key)[1:-1]
        parts = np.array_split(inner, max(1, count - 2)) if count < len(values) else []
        drawn = np.sort(key[chosen[2:]])
        assert all(p[0] <= v <= p[-1] for p, v in zip(parts, drawn, strict=False) if len(p))


def test_stimuli_hold_the_extremes_and_sample_the_rest_in_proportion(rng):
    drive = rng.random((400, 5)).astype(np.float32)
    outputs = rng.normal(size=(400, 3)).astype(np.float32)
    found = choose_stimuli(drive, outputs, Sampling(stimuli=24), rng)
    strength = drive.sum(axis=1)
    wanted = {strength.argmax(), strength.argmin()}
    wanted |= {np.unravel_index(outputs.argmax(), outputs.shape)[0]}
    wanted |= {np.unravel_index(outputs.argmin(), outputs.shape)[0]}
    assert wanted <= set(found.index.tolist())
    assert found.natural == 20
    ranks = np.argsort(np.argsort(strength))[found.index[:20]]
    assert (ranks // 20 == np.arange(20)).all()


@given(st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), min_size=1), st.floats(0, 1))
def test_the_distance_to_an_edge_is_that_of_the_slow_search(windows, u):
    lo, hi = np.array(windows, np.float32).T[:, None, :]
    unit = AcamUnit(
        1, 1, True, np.zeros((1, 4), np.uint8), np.zeros(lo.shape[1], int), lo=lo, hi=hi
    )
    u32 = np.array([u], np.float32)
    edges = [e for a, b in zip(lo[0], hi[0], strict=True) if a < b for e in (a, b) if 0 < e < 1]
    wanted = min((256 * abs(float(e) - float(u32[0])) for e in edges), default=256.0)
    assert edge_distance(unit, u32, np.array([0]))[0] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.ngspice
def test_half_of_the_conversions_are_natural_and_others_lie_at_an_edge(recorded, rng):
    layer, x = recorded[2].recorded("conv2"), recorded[2].inputs["conv2"]
    [u], [[unit]] = layer.data_lines(layer.drive(x)), layer.copies
    chosen = choose_conversions(unit, u, 24, rng)
    assert [int(np.sum(chosen.kind == k)) for k in ("natural", "end", "near")] == [12, 2, 10]
    assert (chosen.distance_lsb[chosen.kind == "near"] < 1 / 32).all()
    assert chosen.near[chosen.kind == "near"].all()
    assert 0 < chosen.near_share < 0.5
    np.testing.assert_array_equal(chosen.u, u[chosen.stimulus, chosen.column])


def test_choices_of_a_layer_do_not_depend_on_other_layers():
    a, b = (layer_generator(n, 3).integers(1 << 30) for n in ("fc1", "fc2"))
    assert a == layer_generator("fc1", 3).integers(1 << 30) != b


def test_conversions_at_edges_weigh_what_they_are_in_the_inference():
    """10 % of all lie near an edge, half of those differ: 5 %, though half of the sample did."""
    codes = code_errors(
        [5, 0, 0, 0, 0, 9], [0.01, 0.02, 1, 1, 1, 1], ["near"] * 2 + ["natural"] * 3 + ["end"], 0.1
    )
    report = LayerReport("a", [column_errors([1], [1], 1)], [codes])
    assert report.code_equal == pytest.approx(0.95)
    assert report.code_agreement == pytest.approx(0.95)
    assert [(b.searches, b.differ, b.largest) for b in report.boundaries()] == [
        (0, 0, 0), (2, 1, 5), (0, 0, 0), (0, 0, 0), (4, 1, 9),
    ]  # fmt: skip


def test_the_totals_weigh_columns_by_points_and_name_the_worst():
    codes = [code_errors([0], [1], ["natural"], 0.0)]
    a = LayerReport("a", [column_errors([[10.0, 251.0]], [[10.3, 250.0]])], codes)
    b = LayerReport("b", [column_errors([[7.0]], [[7.1]])], codes)
    figures = totals([a, b])
    assert figures["column_rms_lsb"] == pytest.approx(np.sqrt((0.09 + 1.0 + 0.01) / 3))
    assert (figures["column_max_lsb"], figures["code_agreement"]) == (1.0, 1.0)
    assert figures["line_max_lsb"] == pytest.approx(0.3)
    shown = worst_table([a, b], "nldpe validate m")
    assert "nldpe validate m --layer a --tile 0 --column 1 --stimulus 0" in shown
    assert validation.to_dict([a, b])["layers"][1]["name"] == "b"


@pytest.mark.ngspice
def test_columns_of_a_recorded_layer_agree_within_the_bars(recorded, rng):
    """0.1 LSB rms and 0.5 LSB at most, the design's bars."""
    ops = recorded[2]
    found = replay_columns(ops.layers["fc3"], ops.inputs["fc3"], FEW, rng)
    errors = np.concatenate([c.errors.ravel() for c in found])
    assert np.sqrt(np.mean(errors**2)) <= 0.1
    assert np.abs(errors).max() <= 0.5


@pytest.mark.ngspice
def test_a_recorded_layer_is_that_of_an_inference_with_spare_rows(quick_library):
    """5 % of the devices stuck, two spare rows a bit: the same rows took over."""
    library = Library.from_hdf5(quick_library)
    stuck = library.device.override({"stuck_off_rate": "0.05"})
    library = dataclasses.replace(library, device=stuck)
    network = load_network(LENET, tile_rows=256, overrides={"spare_rows": 2})
    recorded = record(network, library, 1, Chip(), ["fc2"])
    hardware = hardware_of(network, library)
    used = AnalogOps(network.model.tensors, network.ranges, hardware, Chip())
    tables = [ops.layer("fc2", "relu").units[0].table for ops in (recorded, used)]
    np.testing.assert_array_equal(*tables)


@pytest.mark.ngspice
def test_a_wrong_conductance_is_found(recorded, rng):
    """All devices of the positive main columns 20 % off: the error exceeds the bar."""
    ops = recorded[2]
    layer = ops.layers["fc2"]
    devices = layer.arrays[0].devices
    before = devices.copy()
    try:
        devices[0] *= 1.2
        found = replay_columns(layer, ops.inputs["fc2"], FEW, rng)
    finally:
        devices[...] = before
    assert max(np.abs(c.errors).max() for c in found) > 0.5


@pytest.fixture(scope="module")
def refined(quick_library):
    """A layer of LeNet with a second read-out range and two ACAM units on every data line."""
    mapping = {"output_fine": 2.5, "output_copies": 2}
    network = load_network(LENET, tile_rows=256, overrides=mapping)
    ops = record(network, Library.from_hdf5(quick_library), 4, Chip(0, 0, "frozen"), ["fc2"])
    return ops.recorded("fc2"), ops.inputs["fc2"]


@pytest.mark.ngspice
def test_every_copy_of_both_ranges_is_recorded_as_the_layer_uses_it(refined):
    """The codes of the copies, added, give the outputs of the layer, value for value."""
    layer, x = refined
    drive = layer.drive(x)
    coarse, fine = layer.data_lines(drive)
    values = []
    for u, copies, spec in zip(
        (coarse, fine), layer.copies, (layer.spec, layer.spec.fine), strict=True
    ):
        codes = sum(layer.hardware.acam.convert(c, u)[0].astype(int) for c in copies)
        values.append(spec.out_lo + (spec.out_hi - spec.out_lo) * (codes / (2 * 255)))
    low, high = layer.spec.fine.inside
    expected = np.where((values[0] > low) & (values[0] < high), values[1], values[0])
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-5, atol=1e-6)
    assert [(p.tile, p.fine) for p in places(layer)] == [(None, False), (None, True)]
    assert not np.array_equal(layer.copies[0][0].g_lo, layer.copies[0][1].g_lo)


@pytest.mark.ngspice
def test_searches_are_shared_among_copies_and_ranges(refined, rng):
    """Four units, one search each; those of the second range where its code is taken."""
    found = replay_searches(*refined, Sampling(searches=4), rng)
    assert [(c.fine, c.copy) for c in found] == [(f, c) for f in (False, True) for c in (0, 1)]
    assert all(is_inside(c.chosen.u).all() for c in found if c.fine)
    assert max(abs(c.differences).max() for c in found) <= 1


@pytest.mark.ngspice
def test_a_wrong_unit_of_the_second_range_is_found(refined, rng):
    """The second copy's lower bounds are all programmed as the least conductance."""
    layer, x = refined
    unit = layer.copies[1][1]
    before = unit.g_lo.copy()
    try:
        unit.g_lo[unit.g_lo > 0] = layer.hardware.library.device.g_min_s
        found = replay_searches(layer, x, Sampling(searches=4), rng)
    finally:
        unit.g_lo[...] = before
    wrong = {(c.fine, c.copy) for c in found if np.abs(c.differences).max() > 1}
    assert wrong == {(True, 1)}


@pytest.mark.ngspice
def test_column_errors_weigh_more_in_the_second_range(refined, rng):
    layer, x = refined
    [found] = replay_columns(layer, x, FEW, rng)
    assert (found.fine_gain >= 1.0).all()
    assert found.on_fine.any()
    largest = np.abs(found.errors).max() * found.fine_gain.max()
    assert 0.0 < np.abs(found.fine_errors).max() <= largest


@pytest.mark.ngspice
def test_bracketed_searches_give_the_codes_of_all_rows(recorded, tmp_path):
    """Six voltages of one column, row by row, and by halves where they change."""
    layer, x = recorded[2].recorded("conv1"), recorded[2].inputs["conv1"]
    u = layer.data_lines(layer.drive(x))[0][:, 3]
    u = np.append(np.unique(u)[:: len(np.unique(u)) // 4][:4], [0.0, 1.0]).astype(np.float32)
    at = layer.hardware, layer.copies[0][0], np.full(len(u), 3), u
    wanted = search_codes(*at, cache=tmp_path)
    jobs = []
    with pytest.raises(SimulationError):
        row_matches(*at, record=jobs)
    rows = layer.copies[0][0].bit.size
    assert sum(len(j.vectors) for j in jobs) <= 2 * 2 * rows  # of 2 * 6 * rows
    np.testing.assert_array_equal(search_codes(*at, bracketed=True, cache=tmp_path), wanted)


@pytest.mark.ngspice
def test_bracketing_finds_where_ngspice_differs_from_the_model(recorded, tmp_path, monkeypatch):
    """Halves that switch elsewhere than the model says, by up to all voltages of a column."""
    layer = recorded[2].recorded("fc3")
    u = np.linspace(0.0, 1.0, 9, dtype=np.float32)
    volts = layer.hardware.acam.voltage(u)
    truth = np.random.default_rng(1).uniform(volts[0] - 0.1, volts[-1] + 0.1, 3)

    def keeps(bench, half, g, v):
        edge = truth[(np.round(g * 1e9) % 3).astype(int)]
        return v >= edge if half == "lower" else v <= edge

    monkeypatch.setattr("system.validation.bracket._keeps_line", keeps)
    unit = layer.copies[0][0]
    found = row_matches(layer.hardware, unit, np.zeros(9, np.int64), u)
    device = layer.hardware.library.device
    g_lo = np.where(unit.g_lo[0] > 0, unit.g_lo[0], device.g_min_s).astype(float)
    g_hi = np.where(unit.g_hi[0] > 0, unit.g_hi[0], device.g_max_s).astype(float)
    wanted = [keeps(None, "lower", g_lo, v) & keeps(None, "upper", g_hi, v) for v in volts]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.ngspice
def test_an_unknown_layer_is_named_with_those_there_are(recorded):
    network, library, _ = recorded
    with pytest.raises(ParameterError, match="no layer 'fc9'; its layers: conv1, conv2, fc1"):
        validation.validate(network, library, samples=2, layers=["fc9"])


@pytest.mark.ngspice
def test_a_reported_point_replays_alone_to_the_same_values(
    recorded, quick_library, tmp_path, capsys
):
    """The netlist left behind, run by ngspice alone, gives the same output from its formula."""
    network, library, _ = recorded
    [report] = validation.validate(network, library, samples=4, layers=["fc3"], sampling=FEW)
    point = report.worst(1)[0]
    common = ["validate", LENET, "--library", str(quick_library), "--samples", "4"]
    out = tmp_path / "point.json"
    arguments = ["--netlists", str(tmp_path), "--json", str(out)]
    assert main([*common, *shlex.split(point.options), *arguments]) == 0
    shown = capsys.readouterr().out
    ours, spice = (float(v) for v in re.findall(r"(-?[\d.]+) LSB", shown)[:2])
    assert (ours, spice) == pytest.approx((point.ours, point.spice), abs=2e-4)
    [netlist] = tmp_path.glob("*.cir")
    assert json.loads(out.read_text())["netlists"] == [str(netlist)]
    done = subprocess.run(["ngspice", "-b", netlist], capture_output=True, text=True, check=True)
    first = re.findall(r"^0\t\S+\t(.*)$", done.stdout, re.M)[:2]  # four currents in two tables
    i = [float(v) for row in first for v in row.split()]
    k, step = (float(v) for v in re.findall(r"/ (\S+), and 1 LSB is (\S+) A", shown)[0])
    assert (i[0] - i[1] + (i[2] - i[3]) / k) / step == pytest.approx(spice, abs=2e-3)


def test_a_point_out_of_range_names_the_range(recorded, quick_library, capsys):
    common = ["validate", LENET, "--library", str(quick_library), "--samples", "2"]
    assert main([*common, "--layer", "fc3", "--column", "10", "--stimulus", "0"]) == 1
    assert "--column 10; fc3 has 0 to 9" in capsys.readouterr().err
    assert main([*common, "--column", "1"]) == 1
    assert "give --layer (once), --column and --stimulus" in capsys.readouterr().err
    point = ["--layer", "fc3", "--column", "1", "--stimulus", "0"]
    assert main([*common, *point, "--require", "points>1"]) == 1
    assert "without --propagate and --require" in capsys.readouterr().err

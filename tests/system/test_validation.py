"""The replay in ngspice: what is chosen, what it would find, and each point once more alone."""

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
from circuits.errors import ParameterError
from system import validation
from system.commands.main import main
from system.linear import Chip
from system.networks import load_network
from system.validation.agreement import LayerReport, totals, worst_table
from system.validation.replay import data_line, decode_rows, replay_columns
from system.validation.sampling import (
    NEAR_LSB,
    Sampling,
    choose_conversions,
    choose_stimuli,
    edge_distance,
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
    layer, x = recorded[2].layers["conv2"], recorded[2].inputs["conv2"]
    u = data_line(layer, layer.drive(x), 0)
    chosen = choose_conversions(layer.first_units[0], u, 24, rng)
    assert [int(np.sum(chosen.kind == k)) for k in ("natural", "end", "near")] == [12, 2, 10]
    assert (chosen.distance_lsb[chosen.kind == "near"] < NEAR_LSB).all()
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
        (0, 0, 0), (2, 1, 5), (0, 0, 0), (4, 1, 9),
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

"""acam.h5: written by training, read by inference, refused when it does not fit."""

import logging
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from behavioral.library import Library
from circuits.errors import CheckpointError
from system.commands.main import main
from system.engine import make_ops
from system.hardware import Chip
from system.inference import evaluate
from system.networks import load_network, shipped
from system.training import windows
from system.training.functions import problems
from system.training.pipeline import finetune
from system.training.recipes import Plan
from system.weights.acam_windows import TunedWindows, read_windows, write_windows
from system.weights.adapter import is_adapter
from system.weights.checkpoint import load_checkpoint

KEY = "fc3.acam.0"
TUNED = {"llama-austen", "bert-tiny-rt"}  # of those that ship
NAF = [
    name
    for name, place in shipped().items()
    if not is_adapter(place) and load_checkpoint(place).extra["provenance"].get("step") == "naf"
]


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.fixture(scope="module")
def tuned(library, tmp_path_factory):
    """LeNet as shipped, its windows tuned by one large step each: kept if it helps or not."""
    out = tmp_path_factory.mktemp("ck")
    folder = out / "lenet-mnist"
    folder.mkdir()
    for file in shipped()["lenet-mnist"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert finetune("lenet-mnist", ["acam"], Plan(out, library, acam_steps=1)) == [
        folder / "acam.h5"
    ]
    return folder


@pytest.fixture
def copy(tuned, tmp_path):
    """A copy whose last layer's bounds are moved by a tenth of its range."""
    folder = tmp_path / tuned.name
    folder.mkdir()
    for file in tuned.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    found, origin = read_windows(folder / "acam.h5")
    last = found[KEY]
    step = 0.1 * np.ptp(last.x_range)
    found[KEY] = replace(last, lo=last.lo + step, hi=last.hi + step)
    write_windows(folder / "acam.h5", found, origin)
    return folder


def test_windows_come_back_as_written(tmp_path):
    lo, hi = np.array([-np.inf, 0.5]), np.array([0.25, np.inf])
    wanted = TunedWindows(lo, hi, np.array([0, 3]), (-1.0, 2.0), (0.0, 2.0), 1.5, 1.25)
    for name in ("a", "b"):
        write_windows(tmp_path / name, {"x.acam.0": wanted}, {"seed": 7})
    found, origin = read_windows(tmp_path / "a")
    assert origin == {"seed": 7}
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found["x.acam.0"], name), value)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", NAF)
def test_a_shipped_checkpoint_is_complete_and_its_windows_are_exact_or_tuned(name):
    """Exact ones to the bit: inference computes the same with acam.h5 as without."""
    folder = shipped()[name]
    files = {"config.json", "model.safetensors", "acam.h5", "metrics.json", "provenance.json"}
    assert {file.name for file in folder.iterdir()} - {"tokenizer.json"} == files
    network = load_network(name, tile_rows=256)
    placed = [place for problem in problems(network, 256) for place in problem.placements]
    exact = {place.key: place.windows for place in placed}
    assert {key for key in network.ranges if ".acam." in f".{key}."} == {
        f"{key}{end}" for key in exact for end in ("", ".range")
    }
    tuned = read_windows(folder / "acam.h5")[0]
    for key, wanted in exact.items():
        rows = np.stack([wanted.lo, wanted.hi, wanted.bit])
        if name in TUNED:
            assert tuned[key].error_after < tuned[key].error_before
            np.testing.assert_array_equal(network.ranges[key][2], wanted.bit)
        else:
            np.testing.assert_array_equal(network.ranges[key], rows)
        ends = [*wanted.x_range, *wanted.y_range]
        np.testing.assert_array_equal(network.ranges[f"{key}.range"], ends)


def test_exact_windows_are_placed_anew_for_another_mapping_and_nothing_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        network = load_network("lenet-mnist", tile_rows=256, overrides={"line_start": 0.2})
    assert not [key for key in network.ranges if ".acam." in key]
    assert not caplog.text


def test_every_layer_has_windows_and_the_checkpoint_holds_them(tuned, library):
    analog = load_checkpoint(tuned).analog
    layers = ("conv1", "conv2", "fc1", "fc2", "fc3")
    assert {k for k in analog if ".acam." in k and "range" not in k} == {
        f"{name}.acam.0" for name in layers
    }
    found, origin = read_windows(tuned / "acam.h5")
    assert origin["library_sha256"] == library.sha256
    assert all(w.error_after <= w.error_before for w in found.values())
    assert not tuned.with_name(tuned.name + windows.PARTIAL).exists()


def test_inference_uses_the_windows(copy, library):
    """Every output of the last layer moves up by a tenth of its range, within two codes."""
    network = load_network(str(copy), tile_rows=256)
    plain = replace(network, ranges={k: v for k, v in network.ranges.items() if ".acam." not in k})
    image = network.calibration_inputs()[:8]
    outputs = [
        n.model.forward(image, make_ops(n, library, "ideal-analog", Chip(noise="none")))
        for n in (network, plain)
    ]
    low, high = read_windows(copy / "acam.h5")[0][KEY].y_range
    inner = (outputs[1] > low + 0.15 * (high - low)) & (outputs[1] < high - 0.15 * (high - low))
    moved = (outputs[0] - outputs[1])[inner] / (high - low)
    assert inner.sum() > 40
    np.testing.assert_allclose(moved, -0.1, rtol=0, atol=2 / 255)


def test_another_mapping_leaves_the_windows_out_and_says_so(copy, library, caplog):
    with caplog.at_level(logging.WARNING):
        network = load_network(str(copy), tile_rows=256, overrides={"line_start": 0.2})
    assert "fit another mapping" in caplog.text
    assert not [key for key in network.ranges if ".acam." in key]
    assert evaluate(network, library, mode="ideal-analog", samples=4).mean > 0.5
    assert load_network(str(copy), tile_rows=256, overrides={"slices": 1}).ranges.keys() >= {KEY}


def test_inference_reads_the_windows_without_torch(copy, quick_library, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    arguments = ["--library", str(quick_library), "--samples", "4"]
    assert main(["infer", str(copy), *arguments]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["truncated", "version", "missing", "nan", "shapes"])
def test_a_damaged_file_is_refused_with_the_command_that_makes_it(damage, copy, capsys):
    path = copy / "acam.h5"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with h5py.File(path, "r+") as file:
            if damage == "version":
                file.attrs["format_version"] = 9
            elif damage == "missing":
                del file[KEY]["hi"]
            elif damage == "nan":
                file[KEY]["lo"][3] = np.nan
            else:
                del file[KEY]["bit"]
                file[KEY]["bit"] = np.arange(3)
    assert main(["infer", str(copy), "--mode", "float", "--samples", "2"]) != 0
    shown = capsys.readouterr().err
    assert "acam.h5" in shown
    assert "--steps acam" in shown
    assert "Traceback" not in shown


def test_windows_of_another_layer_are_refused(copy, library):
    found, origin = read_windows(copy / "acam.h5")
    found[KEY] = replace(found[KEY], x_range=(-1.0, 3.0))
    write_windows(copy / "acam.h5", found, origin)
    network = load_network(str(copy), tile_rows=256)
    with pytest.raises(CheckpointError, match=r"fc3\.acam\.0 of acam\.h5.*--steps acam"):
        evaluate(network, library, mode="noisy", samples=2)


def test_an_interrupted_run_goes_on_where_it_was(tuned, copy, library, monkeypatch):
    """All but one set of windows are there already: one is tuned, and the file is the same."""
    finished = (tuned / "acam.h5").read_bytes()
    found, origin = read_windows(tuned / "acam.h5")
    some = {key: value for key, value in found.items() if key != KEY}
    write_windows(copy.with_name(copy.name + windows.PARTIAL), some, origin)
    asked, tune = [], windows.tune

    def counted(problem, *rest, **options):
        asked.append(problem.name)
        return tune(problem, *rest, **options)

    monkeypatch.setattr(windows, "tune", counted)
    network = load_network(str(copy), tile_rows=256)
    windows.make_windows(network, library, copy, command=origin["command"], steps=1, seed=1234)
    assert asked == [KEY]
    assert (copy / "acam.h5").read_bytes() == finished


def test_windows_are_tuned_as_if_spare_rows_stood_in_for_stuck_ones(library, tmp_path):
    """Codes of taox err by three; 1 % of stuck devices without spare rows make it fifteen."""
    network = load_network("lenet-mnist", tile_rows=256, overrides={"spare_rows": 2})
    stuck = replace(library, device=replace(library.device, stuck_off_rate=0.01))
    found = windows.make_windows(network, stuck, tmp_path / "w", command="", steps=1, seed=1)
    assert all(one.error_before < 5.0 for one in found.values())


def test_windows_without_weights_say_how_to_make_them(library, tmp_path):
    with pytest.raises(CheckpointError, match="nldpe finetune lenet-mnist --steps float,naf"):
        finetune("lenet-mnist", ["acam"], Plan(tmp_path, library))

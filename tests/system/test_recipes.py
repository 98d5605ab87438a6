"""Recipes: the checkpoints they write are the networks that inference reads."""

import json
from dataclasses import replace

import numpy as np
import pytest

from behavioral.library import Library
from circuits.errors import CheckpointError, ParameterError
from system.commands.main import main
from system.data import datasets
from system.inference import evaluate
from system.networks import load_network, shipped_folder
from system.training import metrics, naf, recipes
from system.training.pipeline import finetune
from system.training.recipes import Plan
from system.weights.acam_windows import read_windows
from system.weights.checkpoint import load_checkpoint


@pytest.fixture(autouse=True)
def few_inputs(monkeypatch):
    """Measure ranges and score on little: here only what is written matters."""
    monkeypatch.setattr(recipes, "CALIBRATION_IMAGES", 64)
    monkeypatch.setattr(recipes, "CALIBRATION_WINDOWS", 2)
    monkeypatch.setattr(metrics, "CHIPS", 2)


@pytest.fixture
def plan(quick_library, tmp_path):
    return Plan(tmp_path / "ck", Library.from_hdf5(quick_library), 5, 3, 2, acam_steps=1, samples=4)


def test_lenet_is_written_and_read_back(plan, quick_library, capsys):
    arguments = ["--float-steps", "3", "--naf-steps", "2", "--seed", "5", "--out", str(plan.out)]
    arguments += ["--samples", "4"]
    assert main(["finetune", "lenet-mnist", "--library", str(quick_library), *arguments]) == 0
    assert f"{plan.out}/lenet-mnist: written" in capsys.readouterr().out
    checkpoint = load_checkpoint(plan.out / "lenet-mnist")
    origin = checkpoint.extra["provenance"]
    assert (origin["step"], origin["steps"], origin["seed"]) == ("naf", 2, 5)
    assert origin["library_sha256"] == plan.library.sha256
    assert len(checkpoint.extra["metrics"]["noisy"]) == 2
    assert len(checkpoint.extra["metrics"]["loss"]) == 1
    for folder in (plan.out / "lenet-mnist-float", plan.out / "lenet-mnist"):
        windows, made_by = read_windows(folder / "acam.h5")
        assert len(windows) == 5
        assert made_by["step"] == "exact"
        assert made_by["command"] == load_checkpoint(folder).extra["provenance"]["command"]
    network = load_network(str(plan.out / "lenet-mnist"), tile_rows=256)
    for name, value in checkpoint.tensors.items():
        np.testing.assert_array_equal(network.model.tensors[name], value)
    assert network.ranges.keys() == checkpoint.analog.keys()
    assert 0 <= evaluate(network, plan.library, mode="noisy", samples=20).mean <= 1


def test_the_language_model_carries_its_tokenizer(plan, monkeypatch):
    monkeypatch.setattr(metrics, "write", lambda *_, **__: None)  # scored in the test of LeNet
    whole = datasets.austen()
    short = replace(whole, train=whole.train[:200_000])
    monkeypatch.setattr(datasets, "austen", lambda data: short)
    finetune("llama-austen", ["float"], Plan(plan.out, plan.library, 5, 1, 1, samples=1))
    network = load_network(str(plan.out / "llama-austen-float"), tile_rows=256)
    assert network.decode(network.encode("She was glad.")) == "She was glad."
    assert network.mapping.output_range == "column"


def test_fine_tuning_without_a_start_says_how_to_train_one(plan):
    with pytest.raises(CheckpointError, match="nldpe finetune lenet-mnist --steps float"):
        finetune("lenet-mnist", ["naf"], plan)


def test_fine_tuning_of_a_shipped_start_can_be_run_again(quick_library, tmp_path, capsys):
    words = ["lenet-mnist", "--steps", "naf,acam", "--naf-steps", "1", "--acam-steps", "1"]
    words += ["--samples", "4"]
    options = ["--library", str(quick_library), "--start", "shipped", "--run", str(tmp_path / "r")]
    assert main(["finetune", *words, *options]) == 0
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert "system: checkpoints/lenet-mnist-float" in record["hashes"]
    assert (tmp_path / "r" / "checkpoints" / "lenet-mnist" / "acam.h5").exists()
    assert main(["rerun", str(tmp_path / "r")]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out


def test_windows_of_another_folder_s_weights_are_written_here(plan):
    theirs = shipped_folder() / "lenet-mnist" / "acam.h5"
    before = theirs.read_bytes()
    written = finetune("lenet-mnist", ["acam"], replace(plan, start=shipped_folder()))
    assert written == [plan.out / "lenet-mnist" / "acam.h5"]
    assert read_windows(written[0])[1]["step"] == "acam"
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(("model", "steps"), [("vgg", ["float"]), ("lenet-mnist", ["half"])])
def test_unknown_names_are_refused_with_the_known_ones(model, steps, plan):
    with pytest.raises(ParameterError, match="known: "):
        finetune(model, steps, plan)


def test_every_step_runs_alone(plan):
    """From the shipped float network: crossbars' noise only, ranges only, trees only."""
    alone = replace(plan, start=shipped_folder(), mapping={"percentile": 99.0, "slices": 1})
    assert finetune("lenet-mnist", ["crossbar"], alone) == [plan.out / "lenet-mnist-crossbar"]
    assert finetune("lenet-mnist", ["quantize"], alone) == [plan.out / "lenet-mnist"]
    one, two = (load_network(str(f / "lenet-mnist"), tile_rows=256)
                for f in (shipped_folder(), plan.out))  # fmt: skip
    assert two.mapping.percentile == 99.0
    assert np.ptp(two.ranges["fc1.y"]) < 0.9 * np.ptp(one.ranges["fc1.y"])
    for name, value in one.model.tensors.items():
        np.testing.assert_array_equal(two.model.tensors[name], value)
    assert finetune("lenet-mnist", ["trees"], plan) == [plan.out / "lenet-mnist" / "acam.h5"]
    found, origin = read_windows(plan.out / "lenet-mnist" / "acam.h5")
    assert origin["step"] == "trees"
    assert len(found) == 5
    assert all(0.9 < w.error_after / w.error_before < 1.1 for w in found.values())


def test_crossbar_training_sees_exact_thresholds(plan, monkeypatch):
    seen = []
    monkeypatch.setattr(
        naf, "tune_lenet", lambda p, x, y, maker, **_: seen.append(maker.hardware.acam)
    )
    for step in ("crossbar", "naf"):
        finetune("lenet-mnist", [step], replace(plan, start=shipped_folder()))
    lo, hi = np.array([0.3]), np.array([0.6])
    spread = [np.std(model.program(lo, hi, np.array([0]), 1, columns=50).lo) for model in seen]
    assert spread[0] == pytest.approx(0.0, abs=1e-6)
    assert spread[1] > 1e-3


def test_choices_for_windows_alone_are_refused(plan):
    with pytest.raises(ParameterError, match="needs step quantize"):
        finetune("lenet-mnist", ["trees"], replace(plan, mapping={"slices": 1}))

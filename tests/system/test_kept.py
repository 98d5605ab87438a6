"""Trainings that were stopped: going on gives the bits of one that was not."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from circuits.errors import CheckpointError  # noqa: E402
from system.calibration import calibrate  # noqa: E402
from system.commands.main import main  # noqa: E402
from system.models.llama import Llama, LlamaConfig  # noqa: E402
from system.quantization import Mapping  # noqa: E402
from system.training import (  # noqa: E402
    convnets,
    metrics,
    naf,
    networks,
    photos,
    recipes,
)
from system.training.kept import KeptTraining  # noqa: E402
from tests.behavioral.standin import make_library  # noqa: E402
from tests.system.tiny_llama import CONFIG  # noqa: E402


class Stopped(KeptTraining):
    """Keeps every step, and stops the training as Ctrl-C does when so many are kept."""

    def __init__(self, place: Path, last: int) -> None:
        super().__init__(place, {"test": True}, every=1)
        self.last = last

    def save(self, done, state):
        """Write, then stop."""
        super().save(done, state)
        if done == self.last:
            raise KeyboardInterrupt


def stop_and_go_on(train, place: Path, last: int = 2):
    """Return what `train(kept)` gives in one go, and what it gives when it is stopped."""
    whole = train(None)
    with pytest.raises(KeyboardInterrupt):
        train(Stopped(place, last))
    return whole, train(Stopped(place, 0))


def equal(one: networks.Parameters, two: networks.Parameters) -> bool:
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_float_training_with_batch_normalisation_goes_on_to_the_same_bits(tmp_path):
    """Running moments are part of the state: the folded weights show them."""
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 256, (300, 28, 28)).astype(np.uint8)
    labels = rng.integers(0, 10, 300).astype(np.uint8)
    config = convnets.RESNET8 | {"widths": [4, 8, 8]}

    def train(state):
        return photos.pretrain(config, digits, labels, steps=4, seed=3, kept=state)

    assert equal(*stop_and_go_on(train, tmp_path / "state"))


@pytest.mark.parametrize("last", [2, 3])
def test_fine_tuning_goes_on_to_the_same_bits(last, tmp_path):
    """A chip serves two steps: stopped between two chips, and in the middle of one."""
    tokens = np.random.default_rng(1).integers(0, CONFIG.vocab_size, 400)
    config = CONFIG.to_dict()
    library, mapping = make_library(), Mapping(output_range="column")

    def measure(tensors):
        plain = {k: v for k, v in tensors.items() if k != "lm_head.weight"}
        model = Llama(LlamaConfig.from_dict(config), plain)
        return calibrate(
            model.tensors, lambda ops: model.forward(tokens[None, :20], ops), mapping, 256
        )

    def train(state):
        parameters = networks.initial_llama(config, 7)
        maker = naf.ChipMaker(parameters, measure, library, mapping, 7, refresh=2, remeasure=2)
        naf.tune_llama(
            parameters, config, tokens, maker, steps=5, batch=2, length=12, seed=7, kept=state
        )
        return parameters

    assert equal(*stop_and_go_on(train, tmp_path / "state", last))


@pytest.mark.ngspice
def test_finetune_goes_on_step_by_step(quick_library, tmp_path, monkeypatch, capsys):
    """Stopped in float, then in NAF, then whole: the files of a command never stopped."""

    def finetune(out, *more):
        words = ["--float-steps", "3", "--naf-steps", "3", "--samples", "4", *more]
        words += ["--out", str(tmp_path / out)]
        return main(["finetune", "lenet-mnist", "--library", str(quick_library), *words])

    monkeypatch.setattr(KeptTraining, "is_due", lambda *_: True)
    monkeypatch.setattr(recipes, "CALIBRATION_IMAGES", 64)
    monkeypatch.setattr(metrics, "CHIPS", 1)
    save, saved = KeptTraining.save, []

    def stopping(self, done, state):
        save(self, done, state)
        saved.append((self.place.name, done))
        if len(saved) in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(KeptTraining, "save", stopping)
    assert finetune("stopped") == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert finetune("stopped", "--seed", "1") == 1
    assert "another plan, library or data" in capsys.readouterr().err
    assert [finetune("stopped"), finetune("stopped"), finetune("whole")] == [130, 0, 0]
    names = ("lenet-mnist-float.training", "lenet-mnist.training")
    assert saved[:6] == [(name, done) for name in names for done in (1, 2, 3)]
    files = [sorted(p for p in (tmp_path / o).rglob("*.*")) for o in ("stopped", "whole")]
    assert [p.name for p in files[0]] == [p.name for p in files[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True) if a.is_file())


def test_a_damaged_state_says_what_to_do(tmp_path):
    (tmp_path / "state").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match="delete it to begin anew"):
        KeptTraining(tmp_path / "state", {}).load()

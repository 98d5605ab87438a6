"""A classifier from an encoder's pairs: what is trained, kept, written, and refused."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from circuits.errors import CheckpointError, ParameterError  # noqa: E402
from system.models.bert import Bert, BertConfig  # noqa: E402
from system.models.ops import FloatOps  # noqa: E402
from system.networks import load_network  # noqa: E402
from system.tokenizer import train_wordpiece  # noqa: E402
from system.training import classifiers, encoders, metrics, networks  # noqa: E402
from system.training.adapters import initial_pairs  # noqa: E402
from system.training.classifiers import PairedOps, finetune_classifier, merged  # noqa: E402
from system.training.kept import KeptTraining  # noqa: E402
from system.training.recipes import Plan  # noqa: E402
from system.weights.adapter import load_adapter  # noqa: E402
from system.weights.checkpoint import save_checkpoint  # noqa: E402
from tests.behavioral.standin import make_library  # noqa: E402

SHAPE = {
    "model_type": "bert", "vocab_size": 80, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 12,
}  # fmt: skip
ROWS = [f"film {i} was {'good' if i % 2 else 'bad, really bad'}" for i in range(40)]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A base of random weights, sentences, and batches as small as these."""
    tokenizer = train_wordpiece(ROWS, 79)
    tokenizer.add_special_tokens(["[MASK]"])
    rng = np.random.default_rng(2)
    tensors = {
        name: rng.normal(0, 0.3, size).astype(np.float32)
        for name, size in BertConfig.from_dict(SHAPE).shapes().items()
    }
    save_checkpoint(tmp_path / "base", SHAPE, tensors, tokenizer=tokenizer)
    lines = ["sentence\tlabel", *(f"{text}\t{i % 2}" for i, text in enumerate(ROWS))]
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text("\n".join(lines))
    monkeypatch.setattr(classifiers, "BASES", {"tiny-rt": str(tmp_path / "base")})
    monkeypatch.setattr(classifiers, "BATCH", 2)
    monkeypatch.setattr(classifiers, "REFRESH", 2)
    monkeypatch.setattr(metrics, "CHIPS", 1)
    return Plan(tmp_path / "out", make_library(), 5, 3, 3, data=tmp_path, samples=8)


def test_pairs_beside_weights_are_merged_weights(plan):
    """In both forms of BERT; float32 sums in other orders."""
    base = load_network(classifiers.BASES["tiny-rt"], tile_rows=None)
    pairs = initial_pairs(base, 3, 1, classifiers.TARGETS)
    assert len(pairs) == 6
    parts = {f"{layer}.down": pair[0].detach().numpy() for layer, pair in pairs.items()}
    for layer, (_, up) in pairs.items():
        torch.nn.init.normal_(up, std=0.3)
        parts[f"{layer}.up"] = up.detach().numpy()
    head = {"classifier.weight": np.eye(2, 16, dtype=np.float32), "classifier.bias": np.ones(2)}
    shape = BertConfig.from_dict(SHAPE | {"classes": 2})
    weights = {k: torch.from_numpy(np.float32(v)) for k, v in (base.model.tensors | head).items()}
    tokens = np.array([[1, 5, 6, 7, 2], [1, 9, 8, 4, 2]])
    found = encoders.forward(shape, PairedOps(pairs), weights, torch.from_numpy(tokens))
    plain = encoders.forward(shape, networks.FloatOps(), weights, torch.from_numpy(tokens))
    ours = Bert(shape, merged(weights, parts))
    wanted = ours.forward(tokens, FloatOps(ours.tensors))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=1e-5)
    assert np.abs(plain.numpy() - wanted).max() > 0.01


def test_a_stopped_training_goes_on_to_the_same_files(plan, monkeypatch):
    """Stopped in float, and on chips between two and in the middle of one."""
    finetune_classifier("tiny-rt", ["float", "naf"], plan)
    whole = {p.relative_to(plan.out): p.read_bytes() for p in plan.out.rglob("*.*") if p.is_file()}
    monkeypatch.setattr(KeptTraining, "is_due", lambda *_: True)
    save, saved = KeptTraining.save, []

    def stopping(self, done, state):
        save(self, done, state)
        saved.append((self.place.name, done))
        if len(saved) in (2, 4, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(KeptTraining, "save", stopping)
    again = Plan(plan.out.with_name("again"), plan.library, 5, 3, 3, data=plan.data, samples=8)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            finetune_classifier("tiny-rt", ["float", "naf"], again)
    finetune_classifier("tiny-rt", ["float", "naf"], again)
    names = ("tiny-rt-float.training", "tiny-rt.training")
    assert saved == [(name, done) for name in names for done in (1, 2, 3)]
    files = [p for p in again.out.rglob("*.*") if p.is_file()]
    assert {p.relative_to(again.out): p.read_bytes() for p in files} == whole


def test_chips_train_the_pairs_and_leave_the_classifier(plan):
    places = finetune_classifier("tiny-rt", ["float", "naf"], plan)
    assert [p.name for p in places] == ["tiny-rt-float", "tiny-rt"]
    (_, start, head), (config, tuned, same) = (load_adapter(place) for place in places)
    assert config["adapter"] == {"rank": classifiers.RANK}
    assert start.keys() == tuned.keys()
    assert all(not np.array_equal(pair[1], tuned[name][1]) for name, pair in start.items())
    for name, value in head.items():
        assert np.abs(value).max() > 0
        np.testing.assert_array_equal(same[name], value)
    network = load_network(str(places[1]), tile_rows=256, data=plan.data)
    assert network.metric == "accuracy"
    assert network.mapping.smoothing == 0.9  # as published encoders are mapped
    origin = json.loads((places[1] / "provenance.json").read_text())
    assert origin["command"] == "nldpe finetune tiny-rt --steps naf --naf-steps 3 --seed 5"
    assert len(network.checkpoint.extra["metrics"]["noisy"]) == 1


def test_steps_that_a_classifier_has_not_are_refused(plan):
    with pytest.raises(ParameterError, match="tiny-rt has no step 'trees'; known: float, naf"):
        finetune_classifier("tiny-rt", ["float", "trees"], plan)
    with pytest.raises(CheckpointError, match="nldpe finetune tiny-rt --steps float"):
        finetune_classifier("tiny-rt", ["naf"], plan)

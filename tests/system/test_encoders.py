"""The small BERT: both of its forms, its training batches, and the checkpoint it leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from behavioral.library import Library
from circuits.errors import CheckpointError
from system.calibration import calibrate
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.inference import evaluate
from system.models.bert import Bert, BertConfig
from system.models.ops import FloatOps
from system.networks import load_network, shipped_folder
from system.quantization import Mapping
from system.tokenizer import encode_texts, train_wordpiece
from system.training import encoders, metrics, naf, networks
from system.training.pipeline import finetune
from system.training.recipes import Plan

SMALL = encoders.BERT_TINY | {
    "vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 9,
}  # fmt: skip
CONFIG = BertConfig.from_dict(SMALL)
WORDS = ("good", "bad")
TOKENS = np.array([[1, 5, 6, 7, 2], [1, 9, 2, -1, -1], [1, 3, 3, 2, -1]])


@pytest.fixture(scope="module")
def parameters():
    """Weights large enough that attention looks at some tokens more than at others."""
    found = encoders.initial(CONFIG, 4)
    return {
        name: p if p.ndim == 1 else (10 * p.detach()).requires_grad_() for name, p in found.items()
    }


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


def test_both_forms_of_bert_agree_on_texts_filled_up(parameters):
    """Float32 sums in two orders."""
    ours = Bert(CONFIG, naf.arrays(parameters))
    ops = FloatOps(ours.tensors)
    wanted = [ours.forward(row[row >= 0][None], ops)[0] for row in TOKENS]
    found = encoders.forward(CONFIG, networks.FloatOps(), parameters, torch.from_numpy(TOKENS))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=1e-5)


def test_noisy_training_follows_the_float_gradients(parameters, library):
    """Without device noise: 8-bit codes and cells that bend leave most of every gradient."""
    tensors, ours = naf.arrays(parameters), Bert(CONFIG, naf.arrays(parameters))
    mapping = Mapping(weight_scale="column", output_range="column")

    def measure(ops):
        return [ours.forward(row[row >= 0][None], ops) for row in TOKENS]

    ranges = calibrate(tensors, measure, mapping, 256)
    analog = AnalogOps(tensors, ranges, Hardware(library, mapping), Chip(0, 0, "none"))
    gradients = []
    for ops in (networks.FloatOps(), naf.NoisyOps(analog)):
        own = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        encoders.forward(CONFIG, ops, own, torch.from_numpy(TOKENS))[:, 1].sum().backward()
        gradients.append(torch.cat([own[k].grad.flatten() for k in own if "dense" in k]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.95


def test_a_step_s_batch_forgets_tokens_and_is_the_same_again():
    tokens = np.tile(np.arange(1, 10), (200, 1))
    tokens[:, 6:] = -1
    batch = encoders.batches(tokens, np.arange(200), 3)
    texts, labels = batch(2)
    assert texts.shape == (encoders.BATCH, 6)
    assert len(set(labels.tolist())) == encoders.BATCH
    share = (texts == encoders.UNKNOWN).float().mean()
    assert abs(share - encoders.FORGOTTEN) < 0.08  # three standard deviations of 384 draws: 0.07
    torch.testing.assert_close(batch(2)[0], texts, rtol=0, atol=0)
    assert not torch.equal(batch(3)[1], labels)


def test_batches_of_like_lengths_are_the_same_sentences_with_little_filled_up():
    lengths = np.random.default_rng(1).integers(1, 30, 320)
    tokens = np.where(np.arange(30) < lengths[:, None], 7, -1)
    labels, filled = np.arange(320), {}
    for alike in (False, True):
        batch = encoders.batches(tokens, labels, 3, size=20, forgotten=0.0, alike=alike)
        steps = [batch(step) for step in range(16)]
        assert sorted(torch.cat([chosen for _, chosen in steps]).tolist()) == labels.tolist()
        filled[alike] = sum(int((texts < 0).sum()) for texts, _ in steps)
    assert filled[True] < 0.15 * filled[False]
    widths = [texts.shape[1] for texts, _ in steps]
    assert widths != sorted(widths)  # lengths come in any order


def test_wordpiece_marks_texts_and_comes_out_the_same_again():
    texts = ["a good film", "A GOOD, bad film"] * 3
    tokenizer = train_wordpiece(texts, 40)
    assert tokenizer.to_str() == train_wordpiece(texts, 40).to_str()
    tokens = encode_texts(tokenizer, [*texts[:2], "\u2603"], 7)
    assert tokens.shape == (3, 7)
    assert tokens[2].tolist() == [1, encoders.UNKNOWN, 2, -1, -1, -1, -1]
    assert tokenizer.decode(tokens[0][:5].tolist()) == "a good film"


def test_the_sentence_classifier_is_written_and_read_back(library, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "CHIPS", 1)
    rows = [f"film {i} was {word}\t{int(word == 'good')}" for i in range(40) for word in WORDS]
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text("\n".join(["sentence\tlabel", *rows]))
    plan = Plan(tmp_path, library, 5, 1, 1, data=tmp_path, samples=8)
    finetune("bert-tiny-rt", ["float", "naf"], plan)
    network = load_network(str(tmp_path / "bert-tiny-rt"), tile_rows=256, data=tmp_path)
    assert network.metric == "accuracy"
    assert 0 <= evaluate(network, library, mode="noisy", samples=8).mean <= 1
    with pytest.raises(CheckpointError, match=r"bert-tiny-rt-float has another tokenizer"):
        finetune("bert-tiny-rt", ["naf"], replace(plan, start=shipped_folder()))

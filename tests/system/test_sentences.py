"""Sentences: the published sets, near duplicates, the user's own files, encoders on top."""

import re

import numpy as np
import pytest

from circuits.errors import CheckpointError, DataError
from system import evaluation
from system.data import fetch, sentences
from system.models.bert import Bert, BertConfig
from system.models.ops import FloatOps
from system.networks import load_network
from system.weights.adapter import save_adapter

HEAD = {
    "model_type": "bert",
    "base": "minilm-l6",
    "classes": 2,
    "dataset": sentences.NAME,
}


@pytest.fixture(scope="module")
def train():
    return sentences.train_set()


@pytest.fixture(scope="module")
def scored():
    return sentences.held_out_set()


def test_the_training_set_is_the_published_one(train):
    """Pang and Lee's sentences as split since: 4,265 of each kind, none twice."""
    assert len(train) == len(set(train.texts)) == 8530
    assert train.labels[:4].tolist() == [1, 0, 1, 0]
    assert train.labels.sum() == 4265
    assert "the rock is destined to be the 21st century's" in train.texts[0]


def test_no_test_sentence_was_seen_in_training(train, scored):
    """2,136 of the 10,605 ratings have no equal; 2,115 no near duplicate either."""
    assert len(scored) == 2115
    assert 0.49 < scored.labels.mean() < 0.51
    letters = [{re.sub("[^a-z0-9]", "", t.lower()) for t in s.texts} for s in (train, scored)]
    assert not letters[0] & letters[1]


def test_calibration_and_development_do_not_overlap():
    chosen = sentences.development_set()
    assert len(chosen) == 853
    assert not set(sentences.calibration_set()) & set(chosen.texts)
    assert abs(chosen.labels.mean() - 0.5) < 0.01


def test_near_duplicates_are_those_of_the_definition():
    """Oracle: sets of words, compared pair by pair."""
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(14)]
    texts, seen = (
        [" ".join(rng.choice(words, rng.integers(1, 9))) + "!" * i for i in range(60)]
        for _ in range(2)
    )

    def near(a: str, b: str) -> bool:
        a, b = (set(re.findall("[a-z0-9]+", t)) for t in (a, b))
        return len(a & b) / len(a | b) > sentences.NEAR_DUPLICATE

    wanted = [i for i, text in enumerate(texts) if not any(near(text, other) for other in seen)]
    assert 0 < len(wanted) < 60
    assert sentences.unseen(texts, seen).tolist() == wanted


def test_capitals_and_punctuation_do_not_make_a_sentence_new():
    assert sentences.unseen(["A b, c!", "x"], ["a b c"]).tolist() == [1]


def test_files_of_glue_are_read(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text('sentence\tlabel\na "good one\t1\nbad\t0\n')
    found = sentences.held_out_set(tmp_path)
    assert found.texts == ['a "good one', "bad"]
    assert found.labels.tolist() == [1, 0]
    assert sentences.is_labelled({}, tmp_path)
    assert not sentences.is_labelled({}, None)


@pytest.mark.parametrize(
    "content", [None, "", "sentence\tlabel\n", "s\tl\na\t2\n", "s\tl\na\tx\n", "s\tl\na b\n"]
)
def test_damaged_files_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "train.tsv").write_text(content)
    with pytest.raises(DataError, match=r"train\.tsv.*GLUE"):
        sentences.train_set(tmp_path)


def test_a_source_archive_is_checked_before_its_code_runs(tmp_path):
    """Building it tells pip its name; with --require-hashes the checksum comes first."""
    command = fetch._command(sentences.TEST, "python", tmp_path)
    assert "--require-hashes" in command
    assert sentences.TEST.sha256 in (tmp_path / "pinned.txt").read_text()


def test_texts_of_all_lengths_come_back_in_their_order():
    config = BertConfig(40, 16, 1, 2, 24, classes=3)
    rng = np.random.default_rng(4)
    model = Bert(config, {k: rng.normal(size=s).astype(np.float32)
                          for k, s in config.shapes().items()})  # fmt: skip
    lengths = rng.integers(1, 30, 200)
    tokens = np.where(np.arange(30) < lengths[:, None], rng.integers(0, 40, (200, 30)), -1)
    ops = FloatOps(model.tensors)
    wanted = np.concatenate([model.forward(t[None, t >= 0], ops) for t in tokens])
    found = evaluation.outputs(model, ops, tokens)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_similarity_is_the_mean_cosine():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 8))
    wanted = np.mean([x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)])
    assert evaluation.similarity(a, b) == pytest.approx(wanted)
    assert evaluation.similarity(a, 3 * a) == pytest.approx(1.0)


def test_different_texts_are_compared_in_pairs_and_none_with_itself():
    x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 1.0]])
    np.testing.assert_allclose(
        evaluation.cosines(x[[0, 3, 3]], x[[1, 0, 2]]), [1, -(0.5**0.5), 0.5**0.5]
    )
    # pairs: 1, 0, -r, 0, -r, r with r the root of a half
    assert evaluation.similarity_of_others(x) == pytest.approx((1 - 0.5**0.5) / 6)


def save_head(path, width=384, **changes):
    tensors = {"classifier.weight": np.ones((2, width)), "classifier.bias": np.zeros(2)}
    save_adapter(path, HEAD | changes, {}, {}, tensors)


def test_a_head_runs_on_the_encoder_it_names(tmp_path):
    save_head(tmp_path / "head")
    network = load_network(str(tmp_path / "head"), tile_rows=None)
    assert network.metric == "accuracy"
    tokens = network.encode_texts(["a film", "another, longer film"])
    vectors = evaluation.outputs(
        load_network("minilm-l6", tile_rows=None).model, FloatOps(network.model.tensors), tokens
    )
    found = evaluation.outputs(network.model, FloatOps(network.model.tensors), tokens)
    wanted = vectors.sum(axis=1, keepdims=True).repeat(2, axis=1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "minilm"}, "no path is called 'minilm'; nearest: .*minilm-l6"),
        ({"width": 192}, r"want \(2, 384\), got \(2, 192\)"),
    ],
)
def test_a_head_of_another_encoder_is_refused(tmp_path, changes, message):
    save_head(tmp_path / "head", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_network(str(tmp_path / "head"), tile_rows=None)


def test_an_encoder_is_measured_by_its_own_float32():
    network = load_network("minilm-l6", tile_rows=None)
    assert network.metric == "similarity"
    samples = network.samples(5)
    assert samples.labels.shape == (5, 384)
    assert network.score(FloatOps(network.model.tensors), samples) == pytest.approx(1.0, abs=1e-6)


def test_texts_come_through_the_packages_tokenizer_whole():
    """Its file says to fill up and cut every text to 128 tokens; only the context may cut."""
    network = load_network("minilm-l6", tile_rows=None)
    assert network.encode_texts(["good " * 300, "x"]).shape == (2, 302)
    assert network.encode_texts(["good " * 600]).shape == (1, 512)


@pytest.mark.parametrize("name", ["minilm-l6", "minilm-rt-float", "minilm-rt"])
def test_outputs_of_the_feed_forward_blocks_have_more_units_than_the_others(name):
    """One of their channels answers a single token of a sentence (docs/language-models.md)."""
    mapping = load_network(name, tile_rows=None).mapping
    copies = {
        part: mapping.of(f"encoder.layer.4.{part}.dense").output_copies
        for part in ("attention.output", "intermediate", "output")
    }
    assert copies == {"attention.output": 2, "intermediate": 2, "output": 8}

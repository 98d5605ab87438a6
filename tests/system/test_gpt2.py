"""GPT-2 against Hugging Face transformers, on random weights."""

import json

import numpy as np
import pytest

from circuits.errors import CheckpointError, ParameterError
from system.models.gpt2 import Gpt2, Gpt2Config
from system.models.ops import FloatOps
from system.weights.checkpoint import load_checkpoint

SIZES = {"vocab_size": 97, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
VARIANTS = {
    "tied, tanh GELU": {},
    "untied, GELU, wide": {
        "tie_word_embeddings": False,
        "activation_function": "gelu",
        "n_inner": 96,
    },
    "relu": {"activation_function": "relu", "layer_norm_epsilon": 1e-3},
}


def oracle(**changes):
    """Return transformers' model with random weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    model = GPT2LMHeadModel(GPT2Config(**SIZES | ends | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.15 if parameter.ndim > 1 else 1.0)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("gpt2")
    oracle().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def model() -> Gpt2:
    config = Gpt2Config(**SIZES)
    rng = np.random.default_rng(4)
    shapes = config.shapes().items()
    return Gpt2(config, {name: rng.normal(0, 0.2, s).astype(np.float32) for name, s in shapes})


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(5).integers(0, SIZES["vocab_size"], (2, 40))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_directory_of_transformers_loads_and_agrees(changes, tokens, tmp_path):
    """1e-5 of the largest logit: float32 in another order of summation."""
    import torch

    theirs = oracle(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_checkpoint(tmp_path).build()
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(tokens)).logits.numpy()
    logits = ours.forward(tokens, FloatOps(ours.tensors))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_names_of_the_first_checkpoints_load_too(folder, tokens, tmp_path):
    """Without "transformer." and with a causal mask in every block, as OpenAI's GPT-2 is stored."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    old = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    old |= {f"h.{i}.attn.bias": np.ones((1, 1, 64, 64), np.float32) for i in range(3)}
    save_file(old, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    new, found = load_checkpoint(folder).build(), load_checkpoint(tmp_path).build()
    np.testing.assert_array_equal(
        found.forward(tokens, FloatOps(found.tensors)), new.forward(tokens, FloatOps(new.tensors))
    )


@pytest.mark.parametrize("first", [1, 7, 39])
def test_incremental_evaluation_equals_batch(model, tokens, first):
    ops = FloatOps(model.tensors)
    whole = model.forward(tokens, ops)
    cache = ops.new_cache()
    parts = [model.forward(tokens[:, :first], ops, cache)]
    parts += [
        model.forward(tokens[:, i : i + 1], ops, cache, last_only=True) for i in range(first, 40)
    ]
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-5 * np.abs(whole).max()
    )


def test_a_text_beyond_the_context_is_refused(model):
    ops = FloatOps(model.tensors)
    cache = ops.new_cache()
    model.forward(np.zeros((1, 60), np.int64), ops, cache)
    with pytest.raises(ParameterError, match="65 tokens, the model's context holds 64"):
        model.forward(np.zeros((1, 5), np.int64), ops, cache)


def test_a_missing_tensor_is_named_with_its_nearest(folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.1.attn.c_atn.weight"] = tensors.pop("transformer.h.1.attn.c_attn.weight")
    tensors["transformer.wpe.weight"] = np.zeros((63, 32), np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert "h.1.attn.c_attn.weight (nearest: transformer.h.1.attn.c_atn.weight)" in str(
        caught.value
    )
    assert "transformer.wpe.weight (want (64, 32), got (63, 32))" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_head": 5}, "must be a multiple of n_head 5"),
        ({"n_layer": 0}, "must be positive whole numbers"),
        ({"activation_function": "mish"}, "'mish' is not supported: gelu_new"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({"n_embd": None}, "must be positive whole numbers"),
    ],
)
def test_a_config_that_is_no_gpt2_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        Gpt2Config.from_dict({**SIZES, **changes})


def test_a_config_survives_the_round_trip_and_transformers(folder):
    from transformers import GPT2Config

    stored = json.loads((folder / "config.json").read_text())
    config = Gpt2Config.from_dict(stored)
    assert config.eos_token_id == (1,)
    assert Gpt2Config.from_dict(config.to_dict()) == config
    assert Gpt2Config.from_dict(GPT2Config.from_dict(config.to_dict()).to_dict()) == config


def test_a_directory_with_a_tokenizer_is_scored_and_continued(tmp_path):
    from system.generation import generate
    from system.networks import load_network
    from system.tokenizer import train_tokenizer
    from system.weights.checkpoint import save_checkpoint

    config = Gpt2Config(300, 256, 16, 1, 2)
    rng = np.random.default_rng(1)
    tensors = {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in config.shapes().items()}
    text = "It is a truth universally acknowledged, that a single man. " * 30
    tokenizer = train_tokenizer(text, vocab_size=300)
    save_checkpoint(tmp_path / "lm", config.to_dict(), tensors, tokenizer=tokenizer)
    network = load_network(str(tmp_path / "lm"), tile_rows=None)
    ops = FloatOps(network.model.tensors)
    assert network.metric == "perplexity"
    assert 100 < network.score(ops, network.samples(2)) < 3000  # weights that know nothing
    ids = network.encode("It is")
    for _ in range(4):
        ids = np.append(ids, network.model.forward(ids[None], ops)[0, -1].argmax())
    assert "It is" + "".join(generate(network, ops, "It is", tokens=4)) == network.decode(ids)

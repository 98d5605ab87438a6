"""Llama against Hugging Face transformers, on random weights."""

import numpy as np
import pytest

from circuits.errors import CheckpointError, ParameterError
from system.models.llama import Llama, LlamaConfig
from system.models.ops import FloatOps, causal_mask

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
VARIANTS = {
    "tied": {"tie_word_embeddings": True},
    "untied with biases": {"attention_bias": True, "mlp_bias": True},
    "all heads own keys": {"num_key_value_heads": 4, "head_dim": 12},
    "llama 3 positions": {"rope_parameters": LLAMA3_ROPE},
}


def oracle(**changes):
    """Return transformers' model with random weights and our model with the same ones."""
    import torch
    from transformers import LlamaConfig as OracleConfig
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    theirs = LlamaForCausalLM(OracleConfig(**SIZES | changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.15 if parameter.ndim > 1 else 1.0)
    config = LlamaConfig.from_dict(theirs.config.to_dict())
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    return theirs, Llama(config, {name: state[name] for name in config.shapes()})


@pytest.fixture(scope="module")
def model() -> Llama:
    config = LlamaConfig.from_dict({"model_type": "llama", **SIZES})
    rng = np.random.default_rng(4)
    return Llama(
        config,
        {name: rng.normal(0, 0.2, s).astype(np.float32) for name, s in config.shapes().items()},
    )


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(5).integers(0, SIZES["vocab_size"], (2, 40))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_forward_equals_transformers(changes, tokens):
    """1e-5 of the largest logit: float32 in another order of summation."""
    import torch

    theirs, ours = oracle(**changes)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(tokens)).logits.numpy()
    logits = ours.forward(tokens, FloatOps(ours.tensors))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("first", [1, 7, 39])
def test_incremental_evaluation_equals_batch(model, tokens, first):
    ops = FloatOps(model.tensors)
    whole = model.forward(tokens, ops)
    cache = ops.new_cache()
    parts = [model.forward(tokens[:, :first], ops, cache)]
    parts += [model.forward(tokens[:, i : i + 1], ops, cache) for i in range(first, 40)]
    assert cache.length == 40
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-5 * np.abs(whole).max()
    )


def test_a_cache_outgrows_its_first_buffer(tokens):
    cache = FloatOps({}).new_cache()
    k = np.random.default_rng(6).normal(size=(1, 2, 200, 4)).astype(np.float32)
    for start in range(0, 200, 8):
        keys, values = cache.append("a", k[:, :, start : start + 8], -k[:, :, start : start + 8])
    np.testing.assert_array_equal(keys, k)
    np.testing.assert_array_equal(values, -k)


def test_last_only_returns_the_last_logits(model, tokens):
    ops = FloatOps(model.tensors)
    whole = model.forward(tokens, ops)
    last = model.forward(tokens, ops, last_only=True)
    np.testing.assert_allclose(last, whole[:, -1:], rtol=0, atol=1e-5 * np.abs(whole).max())


def test_later_tokens_do_not_change_earlier_logits(model, tokens):
    ops = FloatOps(model.tensors)
    changed = tokens.copy()
    changed[:, 20:] = (changed[:, 20:] + 1) % SIZES["vocab_size"]
    before, after = model.forward(tokens, ops), model.forward(changed, ops)
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    assert np.abs(before[:, 20:] - after[:, 20:]).max() > 1e-3


def test_the_mask_of_a_continued_text():
    assert causal_mask(2, 4).astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((1, 0), np.int64), "at least one"),
        ([[0.5]], "whole numbers"),
        ([[97]], r"leave the vocabulary \(0 to 96\)"),
        ([[-1]], "leave the vocabulary"),
        (np.zeros((1, 65), np.int64), "65 tokens, the model's context holds 64"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(model, ids, message):
    with pytest.raises(ParameterError, match=message):
        model.forward(ids, FloatOps(model.tensors))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"hidden_act": "gelu"}, "'gelu' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "'factor'"),
        ({"num_attention_heads": 0}, "not a Llama's"),
        ({"num_key_value_heads": 3}, "must be a multiple of 3"),
        ({"hidden_size": -32}, "must be positive whole numbers"),
        ({"vocab_size": "many"}, "must be positive whole numbers"),
    ],
)
def test_a_config_that_is_no_llama_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        LlamaConfig.from_dict({"model_type": "llama", **SIZES, **changes})


def test_a_config_survives_the_round_trip_and_transformers():
    from transformers import LlamaConfig as OracleConfig

    config = LlamaConfig.from_dict(
        {"model_type": "llama", **SIZES, "rope_parameters": LLAMA3_ROPE, "eos_token_id": [2, 3]}
    )
    assert LlamaConfig.from_dict(config.to_dict()) == config
    theirs = OracleConfig.from_dict(config.to_dict()).to_dict()
    assert LlamaConfig.from_dict(theirs) == config

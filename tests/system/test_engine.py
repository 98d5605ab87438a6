"""The modes on a small Llama: same seeds, same answers, close to float where they can be."""

from dataclasses import replace

import numpy as np
import pytest

from circuits.errors import CheckpointError, ParameterError
from system.calibration import calibrate
from system.engine import QuantizedOps, make_ops
from system.hardware import Chip
from system.models.llama import Llama, LlamaConfig
from system.models.ops import FloatOps
from system.networks import Network
from system.quantization import Mapping
from system.weights.checkpoint import Checkpoint
from tests.behavioral.standin import make_library

SIZES = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MAPPING = Mapping(
    weight_scale="column", output_range="column", smoothing=0.5, input_blocks=True,
    block_norm=0.5, output_margin=0.25,
)  # fmt: skip
TOKENS = np.random.default_rng(5).integers(0, 50, (3, 24))


@pytest.fixture(scope="module")
def network() -> Network:
    config = LlamaConfig.from_dict(SIZES)
    rng = np.random.default_rng(4)
    model = Llama(
        config,
        {name: rng.normal(0, 0.3, s).astype(np.float32) for name, s in config.shapes().items()},
    )
    ranges = calibrate(model.tensors, lambda ops: model.forward(TOKENS, ops), MAPPING, 256)
    return Network("small", model, Checkpoint(config.to_dict(), model.tensors), MAPPING, ranges)


@pytest.fixture(scope="module")
def library():
    return make_library()


def logits(network, library, mode, chip=None, tokens=TOKENS):
    return network.model.forward(tokens, make_ops(network, library, mode, chip or Chip()))


def test_mode_float_is_float_arithmetic(network, library):
    """Oracle: FloatOps, itself checked against transformers."""
    expected = network.model.forward(TOKENS, FloatOps(network.model.tensors))
    np.testing.assert_array_equal(logits(network, library, "float"), expected)


@pytest.mark.parametrize(("mode", "share"), [("quantized", 0.1), ("ideal-analog", 0.2)])
def test_modes_without_noise_stay_near_float(network, library, mode, share):
    exact = logits(network, library, "float")
    # two blocks of 8-bit layers; log codes round each factor of a product by 1.1 % rms
    assert np.abs(logits(network, library, mode) - exact).std() < share * exact.std()


def test_twelve_bits_come_nearer_than_eight(network):
    exact = network.model.forward(TOKENS, FloatOps(network.model.tensors))
    error = {}
    for bits in (8, 12):
        changed = {f"{key}_bits": bits for key in ("input", "output", "weight")}
        mapping = Mapping(**MAPPING.to_dict() | changed)
        ops = QuantizedOps(network.model.tensors, network.ranges, mapping, 256)
        error[bits] = np.abs(network.model.forward(TOKENS, ops) - exact).std()
    assert error[12] < 0.15 * error[8]  # sixteen times finer steps


def test_a_chip_is_its_seed_and_index(network, library):
    outs = [logits(network, library, "noisy", Chip(7, i)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()


@pytest.mark.parametrize("mode", ["ideal-analog", "noisy"])
def test_batch_and_single_sequences_agree(network, library, mode):
    together = logits(network, library, mode)
    alone = logits(network, library, mode, tokens=TOKENS[1:2])
    # float32 sums of another shape may turn a tie at a converter: a few codes, no more
    assert np.abs(alone[0] - together[1]).std() < 0.03 * together.std()


@pytest.mark.parametrize("mode", ["ideal-analog", "noisy"])
def test_incremental_evaluation_agrees_with_the_whole_prompt(network, library, mode):
    whole = logits(network, library, mode, tokens=TOKENS[:1])
    ops = make_ops(network, library, mode, Chip())
    cache = ops.new_cache()
    parts = [
        network.model.forward(TOKENS[:1, s], ops, cache)
        for s in (slice(0, 10), slice(10, 11), slice(11, 24))
    ]
    # Ties at converters as above; a wrong position costs more than 0.5.
    assert np.abs(np.concatenate(parts, axis=1) - whole).std() < 0.01 * whole.std()


def test_counters_count_every_conversion(network, library):
    ops = make_ops(network, library, "ideal-analog", Chip())
    network.model.forward(TOKENS, ops)
    layers = 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32) + 50
    products = 2 * (32 + 16 + 16 + 2 * 48)
    assert ops.counters.conversions == TOKENS.size * (layers + products)


def test_unknown_mode_and_foreign_cache_are_refused(network, library):
    with pytest.raises(ParameterError, match="mode 'analog'; permitted: float"):
        make_ops(network, library, "analog", Chip())
    ops = make_ops(network, library, "ideal-analog", Chip())
    with pytest.raises(TypeError, match="new_cache"):
        network.model.forward(TOKENS, ops, FloatOps({}).new_cache())


def test_missing_ranges_are_named(network):
    ops = QuantizedOps(network.model.tensors, {}, MAPPING, 256)
    with pytest.raises(CheckpointError, match=r"q_proj\.x is missing"):
        network.model.forward(TOKENS, ops)


@pytest.mark.parametrize("mode", ["quantized", "noisy"])
def test_a_layer_with_its_own_mapping_runs_as_if_all_had_it(network, library, mode):
    """Chip, ranges and inputs are the same, so are the bits; other layers keep the common one."""
    choices = {"input_bits": 6, "output_copies": 3, "product_copies": 2}
    patterns = {
        f"*.{kind}.{key}": v for kind in ("down_proj", "self_attn") for key, v in choices.items()
    }
    found = []
    for changes in ({}, patterns, choices):
        changed = replace(network, mapping=network.mapping.changed(changes))
        ops, rng = make_ops(changed, library, mode, Chip()), np.random.default_rng(7)
        x, q = rng.normal(size=(5, 48)).astype("f4"), rng.normal(size=(1, 4, 5, 8)).astype("f4")
        down, up = (
            ops.linear(f"model.layers.1.mlp.{kind}_proj", x[:, :n])
            for kind, n in (("down", 48), ("up", 32))
        )
        found.append(
            (down, ops.attention("model.layers.1.self_attn", q, q[:, :2], q[:, 2:], None), up)
        )
    plain, mixed, alike = found
    np.testing.assert_array_equal(mixed[0], alike[0])
    np.testing.assert_array_equal(mixed[1], alike[1])
    np.testing.assert_array_equal(mixed[2], plain[2])
    assert not any(np.array_equal(mixed[i], plain[i]) for i in (0, 1))

"""A Llama of one block with random weights, small enough to be programmed in a moment."""

from dataclasses import replace

import numpy as np

from system.calibration import calibrate
from system.models.llama import Llama, LlamaConfig
from system.networks import Network, load_network
from system.quantization import Mapping

CONFIG = LlamaConfig(
    vocab_size=48,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    tie_word_embeddings=True,
)


def tiny_network(tile_rows: int, config: LlamaConfig = CONFIG, **choices: object) -> Network:
    """Return the network with ranges, on which `choices` of the mapping are set."""
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.normal(size=shape) * 0.3 if len(shape) > 1 else np.ones(shape)).astype("f4")
        for name, shape in config.shapes().items()
    }
    model, mapping = Llama(config, tensors), Mapping.from_dict(choices)
    tokens = rng.integers(0, config.vocab_size, size=(8, 40))
    ranges = calibrate(
        model.tensors, lambda ops: model.forward(tokens, ops), mapping, tile_rows
    )  # fmt: skip
    whole = load_network("llama-austen-float", tile_rows=None)
    return replace(whole, name="tiny", model=model, mapping=mapping, ranges=ranges)

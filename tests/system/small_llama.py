"""The first block of the small Llama that ships, as a chat model, and a wrong arithmetic."""

from dataclasses import replace

import numpy as np

from system.models.llama import Llama
from system.models.ops import FloatOps
from system.networks import load_network

LLAMA = "llama-austen-float"
TEMPLATE = (
    "{% for message in messages %}{{ message.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}answer: {% endif %}"
)


def small(tile_rows=None):
    """Return the first block of the small Llama, with a chat template."""
    whole = load_network(LLAMA, tile_rows=tile_rows)
    config = replace(whole.model.config, num_hidden_layers=1)
    tensors = {name: whole.model.tensors[name] for name in config.shapes()}
    checkpoint = replace(whole.checkpoint, chat_template=TEMPLATE)
    return replace(whole, model=Llama(config, tensors), checkpoint=checkpoint)


class Shifted(FloatOps):
    """Float arithmetic with a wrong output projection."""

    def linear(self, name, x, activation=None):
        """Return f(x W^T + b), of lm_head a tenth off."""
        z = super().linear(name, x, activation)
        return z + 0.1 * np.roll(z, 1, axis=-1) if name == "lm_head" else z

"""Generation: greedy, drawn, and ended."""

from dataclasses import replace

import numpy as np
import pytest

from circuits.errors import ParameterError
from system.generation import generate
from system.models.ops import FloatOps
from system.networks import load_network

PROMPT = "It was a"


@pytest.fixture(scope="module")
def network():
    return load_network("llama-austen-float", tile_rows=None)


def text(network, **options) -> str:
    return "".join(generate(network, FloatOps(network.model.tensors), PROMPT, **options))


def test_greedy_pieces_are_the_argmax_of_whole_forward_passes(network):
    """Without the cache: the whole sequence anew for every token."""
    model, ops = network.model, FloatOps(network.model.tensors)
    ids = network.encode(PROMPT)
    for _ in range(8):
        ids = np.append(ids, model.forward(ids[None], ops)[0, -1].argmax())
    assert PROMPT + text(network, tokens=8) == network.decode(ids)


def test_a_low_temperature_is_greedy_and_a_seed_decides_the_draws(network):
    assert text(network, tokens=8, temperature=1e-4) == text(network, tokens=8)
    drawn = [text(network, tokens=12, temperature=1.5, seed=s) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_end_of_text_token_ends_it(network):
    ids = network.encode(PROMPT)
    first = int(network.model.forward(ids[None], FloatOps(network.model.tensors))[0, -1].argmax())
    model = type(network.model)(
        replace(network.model.config, eos_token_id=(first,)), network.model.tensors
    )
    assert text(replace(network, model=model), tokens=8) == ""


def test_a_full_context_ends_it(network):
    room = network.model.config.max_position_embeddings
    ids = network.encode("the " * (room - 3))[: room - 2]
    ops = FloatOps(network.model.tensors)
    assert len(list(generate(network, ops, network.decode(ids), tokens=50))) <= 3


def test_a_prompt_longer_than_the_context_is_refused(network):
    with pytest.raises(ParameterError, match=r"the prompt has \d+ tokens, the context of .* 512"):
        list(generate(network, FloatOps(network.model.tensors), "a b " * 600, tokens=1))


def test_an_empty_prompt_is_refused_where_no_token_begins_a_text(network):
    model = type(network.model)(
        replace(network.model.config, bos_token_id=None), network.model.tensors
    )
    with pytest.raises(ParameterError, match="the prompt is empty"):
        list(generate(replace(network, model=model), FloatOps(model.tensors), "", tokens=1))

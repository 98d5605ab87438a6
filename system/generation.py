"""Token-by-token generation with a cache of log codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import ParameterError
from system.models.language import LanguageModel
from system.models.ops import Cache, Ops
from system.networks import Network


class Sampling:
    """How tokens are chosen from logits; one stream of draws.

    Parameters
    ----------
    tokens : how many to generate at most at a time.
    temperature : 0 takes the likeliest token; above, tokens are drawn.
    seed : of the draws.
    """

    def __init__(self, tokens: int, temperature: float = 0.0, seed: int = 0) -> None:
        self.tokens, self.temperature, self.seed = tokens, temperature, seed
        self._rng = np.random.default_rng(seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Return a token for logits (vocabulary,)."""
        if self.temperature <= 0:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()).astype(np.float64) / self.temperature)
        return int(self._rng.choice(len(weights), p=weights / weights.sum()))


def generate(
    network: Network,
    ops: Ops,
    prompt: str,
    *,
    tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the continuation of a prompt piece by piece.

    Parameters
    ----------
    network : Network
        A language model with a tokenizer.
    ops : the arithmetic of a mode.
    prompt : may be empty if the model has a token that begins a text.
    tokens, temperature, seed : of `Sampling`; ends earlier at the end-of-text token or a full
        context.

    Raises
    ------
    ParameterError
        The network is no language model, or the prompt is empty or longer than the context.
    """
    ids = prompt_tokens(network, language_model(network), prompt)
    sampling = Sampling(tokens, temperature, seed)
    yield from stream(network, ops, ops.new_cache(), ids, sampling)


def stream(
    network: Network, ops: Ops, cache: Cache, ids: NDArray[np.int64], sampling: Sampling
) -> Iterator[str]:
    """Yield what follows token ids (n,) that continue a cache; all of it is then in the cache."""
    model = language_model(network)
    room = model.config.max_position_embeddings - cache.length - len(ids)
    logits = model.forward(ids[None, :], ops, cache, last_only=True)[0, -1]
    produced: list[int] = []
    shown = ""
    for _ in range(min(sampling.tokens, room)):
        chosen = sampling.choose(logits)
        if chosen in model.config.eos_token_id:
            return
        produced.append(chosen)
        text = network.decode(produced)
        if not text.endswith("\ufffd"):  # a character may span several tokens
            yield text[len(shown) :]
            shown = text
        logits = model.forward(np.array([[chosen]]), ops, cache, last_only=True)[0, -1]


def language_model(network: Network) -> LanguageModel:
    """Return a network's model.

    Raises
    ------
    ParameterError
        It is no language model.
    """
    if not isinstance(network.model, LanguageModel):
        raise ParameterError(
            f"{network.name} is no language model; try: nldpe infer {network.name}"
        )
    return network.model


def prompt_tokens(
    network: Network, model: LanguageModel, prompt: str, before: int = 0
) -> NDArray[np.int64]:
    """Return the token ids of a prompt that leaves room for an answer.

    Parameters
    ----------
    network, model : the network and its model.
    prompt : text.
    before : tokens that the prompt continues.

    Raises
    ------
    ParameterError
        The prompt is empty or longer than the context, or the tokenizer is another model's.
    """
    ids = network.encode(prompt)
    if len(ids) == 0:
        if model.config.bos_token_id is None:
            raise ParameterError("the prompt is empty; give at least one character: --prompt TEXT")
        ids = np.array([model.config.bos_token_id])
    limit, length = model.config.max_position_embeddings, before + len(ids)
    if length >= limit:
        raise ParameterError(
            f"the prompt has {length} tokens, the context of {network.name} holds {limit}; "
            "shorten it"
        )
    if ids.max() >= model.config.vocab_size:
        raise ParameterError(
            f"the tokenizer gave token {ids.max()}, the model knows {model.config.vocab_size}; "
            "tokenizer.json does not belong to this checkpoint"
        )
    return ids


def to_dict(
    network: Network,
    mode: str,
    prompt: str,
    text: str,
    library_sha256: str | None,
    *,
    seed: int = 0,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """Return what `nldpe generate` reports for JSON."""
    return {
        "model": network.name, "mode": mode, "prompt": prompt, "text": text, "seed": seed,
        "temperature": temperature, "library_sha256": library_sha256,
    }  # fmt: skip

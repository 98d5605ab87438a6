"""Token-by-token generation with a cache of log codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from circuits.errors import ParameterError
from system.models.language import LanguageModel
from system.models.ops import Ops
from system.networks import Network


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
    tokens : how many to generate at most; ends earlier at the end-of-text token or a full context.
    temperature : 0 takes the likeliest token; above, tokens are drawn.
    seed : of the draws.

    Raises
    ------
    ParameterError
        The network is no language model, or the prompt is empty or longer than the context.
    """
    model = network.model
    if not isinstance(model, LanguageModel):
        raise ParameterError(
            f"{network.name} is no language model; try: nldpe infer {network.name}"
        )
    ids = _prompt_tokens(network, model, prompt)
    room = model.config.max_position_embeddings - len(ids)
    rng = np.random.default_rng(seed)
    cache = ops.new_cache()
    logits = model.forward(ids[None, :], ops, cache, last_only=True)[0, -1]
    produced: list[int] = []
    shown = ""
    for _ in range(min(tokens, room)):
        chosen = _choose(logits, temperature, rng)
        if chosen in model.config.eos_token_id:
            return
        produced.append(chosen)
        text = network.decode(produced)
        if not text.endswith("\ufffd"):  # a character may span several tokens
            yield text[len(shown) :]
            shown = text
        logits = model.forward(np.array([[chosen]]), ops, cache, last_only=True)[0, -1]


def _prompt_tokens(network: Network, model: LanguageModel, prompt: str) -> np.ndarray:  # type: ignore[type-arg]
    ids = network.encode(prompt)
    if len(ids) == 0:
        if model.config.bos_token_id is None:
            raise ParameterError("the prompt is empty; give at least one character: --prompt TEXT")
        ids = np.array([model.config.bos_token_id])
    limit = model.config.max_position_embeddings
    if len(ids) >= limit:
        raise ParameterError(
            f"the prompt has {len(ids)} tokens, the context of {network.name} holds {limit}; "
            "shorten it"
        )
    if ids.max() >= model.config.vocab_size:
        raise ParameterError(
            f"the tokenizer gave token {ids.max()}, the model knows {model.config.vocab_size}; "
            "tokenizer.json does not belong to this checkpoint"
        )
    return ids


def _choose(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:  # type: ignore[type-arg]
    if temperature <= 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def to_dict(
    network: Network, mode: str, prompt: str, text: str, library_sha256: str | None
) -> dict[str, Any]:
    """Return what `nldpe generate` reports, of the likeliest continuation, for JSON."""
    return {
        "model": network.name, "mode": mode, "prompt": prompt, "text": text, "seed": 0,
        "temperature": 0.0, "library_sha256": library_sha256,
    }  # fmt: skip

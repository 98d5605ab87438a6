"""A conversation with a language model, its keys and values kept from turn to turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from circuits.errors import ParameterError
from system.chat_template import ChatTemplate, Message
from system.generation import Sampling, language_model, prompt_tokens, stream
from system.models.ops import Cache, Ops
from system.networks import Network


class Chat:
    """Messages and answers in turn.

    What was said stays in the cache as codes: a turn runs the new message only. Where the template
    rewrites what went before, or an answer was interrupted, the next turn runs all of it again.

    Parameters
    ----------
    network : Network
        A language model with a tokenizer and a chat template.
    ops : the arithmetic of a mode.
    sampling : how tokens are chosen; one stream of draws for the whole conversation.
    system : instructions before the first message; None: those of the template, if it has any.

    Attributes
    ----------
    messages : list of Message
        What was said so far.
    tokens_run : int
        Tokens of prompts that the network ran so far.

    Raises
    ------
    ParameterError
        The network is no language model, or has no chat template.
    """

    def __init__(
        self, network: Network, ops: Ops, sampling: Sampling, system: str | None = None
    ) -> None:
        self._network, self._ops, self._sampling = network, ops, sampling
        self._model = language_model(network)
        self._template = chat_template(network)
        self.messages: list[Message] = [] if system is None else [Message("system", system)]
        self.tokens_run = 0
        self._cache: Cache | None = None
        self._text = ""  # what the cache holds

    def answer(self, content: str) -> Iterator[str]:
        """Add a message and yield the answer piece by piece.

        An answer that is left before its end, by Ctrl-C for example, counts as said so far.

        Raises
        ------
        ParameterError
            The message is blank, or the conversation is longer than the context: it is left out,
            the conversation as it was.
        """
        if not content.strip():
            raise ParameterError("the message is empty; type at least one character")
        asked = [*self.messages, Message("user", content)]
        text = self._template.render(asked)
        cache, kept = self._cache, self._text
        if cache is None or not text.startswith(kept):
            cache, kept = self._ops.new_cache(), ""
        ids = prompt_tokens(self._network, self._model, text[len(kept) :], cache.length)
        said, whole = "", False
        self._cache = None  # an interrupted pass leaves some blocks a token ahead of others
        try:
            self.tokens_run += len(ids)
            for piece in stream(self._network, self._ops, cache, ids, self._sampling):
                said += piece
                yield piece
            whole = True
        finally:
            self.messages = [*asked, Message("assistant", said)]
            if whole:
                self._cache, self._text = cache, text + said


def chat_template(network: Network) -> ChatTemplate:
    """Return the template of a network's checkpoint.

    Raises
    ------
    ParameterError
        It has none.
    """
    if network.checkpoint.chat_template is None:
        raise ParameterError(
            f"{network.name} has no chat template (chat_template.jinja or tokenizer_config.json of "
            "a directory, tokenizer.chat_template of a GGUF file); try: nldpe generate "
            f"{network.name}"
        )
    return ChatTemplate.of(network.checkpoint)


def to_dict(
    chat: Chat,
    network: Network,
    mode: str,
    library_sha256: str | None,
    *,
    seed: int,
    temperature: float,
) -> dict[str, Any]:
    """Return what `nldpe chat` reports for JSON."""
    return {
        "model": network.name, "mode": mode, "messages": [asdict(m) for m in chat.messages],
        "seed": seed, "temperature": temperature, "library_sha256": library_sha256,
    }  # fmt: skip

"""How near a language model on circuits stays to its own float32: texts and answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from system import evaluation
from system.chat import chat_template
from system.chat_template import Message
from system.data.texts import HELD_OUT
from system.generation import language_model
from system.models.ops import Array, FloatOps, Ops
from system.networks import Network, load_network

QUESTIONS = (
    "What is the capital of France?",
    "How many days are there in a week?",
    "What is the opposite of hot?",
    "Which planet is known as the Red Planet?",
    "Who wrote Romeo and Juliet?",
    "What do bees make?",
    "What is 2 + 2?",
    "What is the largest ocean on Earth?",
    "Name a primary colour.",
    "What is water made of?",
)
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Nearness:
    """What was found on one text.

    Attributes
    ----------
    perplexity : exp of the mean next-token cross entropy.
    exact : that of float32.
    agreement : share of tokens after which the likeliest next token is that of float32.
    divergence : mean Kullback-Leibler divergence from float32's prediction, KL(float32 || this)
        [nat per token].
    """

    perplexity: float
    exact: float
    agreement: float
    divergence: float


def log_softmax(logits: Array) -> NDArray[np.float64]:
    """Return the logarithms of softmax over rows (n, vocabulary)."""
    shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def divergence_of(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Return the mean KL(wanted || found) in nats of logarithms of probabilities (n, classes)."""
    return float(np.mean(np.sum(np.exp(wanted) * (wanted - found), axis=1)))


def compare(
    network: Network, ops: Ops, exact: Ops, windows: NDArray[np.int64], label: str
) -> Nearness:
    """Compare two arithmetics on windows (n, length + 1) of tokens.

    Parameters
    ----------
    network, ops : what is scored.
    exact : the float32 to which it is compared; it holds the tensors that count as exact.
    windows : tokens, the last of each only predicted.
    label : of the progress bar.
    """
    model = language_model(network)
    totals = np.zeros(4)
    for window in tqdm(windows, desc=label, unit="window", disable=None, leave=False):
        found, wanted = (log_softmax(model.forward(window[None, :-1], o)[0]) for o in (ops, exact))
        places = np.arange(len(found)), window[1:]
        totals += (
            -np.mean(found[places]),
            -np.mean(wanted[places]),
            np.mean(found.argmax(axis=1) == wanted.argmax(axis=1)),
            divergence_of(found, wanted),
        )
    loss, exact_loss, agreement, divergence = (float(total) for total in totals / len(windows))
    return Nearness(math.exp(loss), math.exp(exact_loss), agreement, divergence)


@dataclass(frozen=True)
class Answer:
    """A question's tokens and those answered greedily."""

    prompt: NDArray[np.int64]
    tokens: NDArray[np.int64]


def greedy_answers(
    network: Network, ops: Ops, questions: Sequence[str] = QUESTIONS
) -> list[Answer]:
    """Return what an arithmetic answers by the likeliest token, the end of the text included."""
    model, template = language_model(network), chat_template(network)
    answers = []
    for question in questions:
        prompt = network.encode(template.render([Message("user", question)]))
        tokens: list[int] = []
        cache, ids = ops.new_cache(), prompt
        while len(tokens) < ANSWER_TOKENS and not set(tokens[-1:]) & set(model.config.eos_token_id):
            logits = model.forward(ids[None], ops, cache, last_only=True)[0, -1]
            tokens.append(int(logits.argmax()))
            ids = np.array(tokens[-1:])
        answers.append(Answer(prompt, np.array(tokens)))
    return answers


@dataclass(frozen=True)
class Likeness:
    """How much of float32's answers an arithmetic gives.

    Attributes
    ----------
    kept : share of answers that are the same token by token.
    leading : share of tokens that stand before the first that differs in their answer.
    likeliest : share of tokens that it finds likeliest too, after float32's own text up to there.
    """

    kept: float
    leading: float
    likeliest: float

    @classmethod
    def of(cls, alike: Sequence[NDArray[np.bool_]]) -> Likeness:
        """Count, given of each answer which tokens are found likeliest too."""
        tokens = sum(len(same) for same in alike)
        leading = sum(int(np.logical_and.accumulate(same).sum()) for same in alike)
        return cls(
            sum(bool(same.all()) for same in alike) / len(alike),
            leading / tokens,
            sum(int(same.sum()) for same in alike) / tokens,
        )


def compare_answers(network: Network, ops: Ops, answers: Sequence[Answer]) -> Likeness:
    """Compare an arithmetic with answers that float32 gave greedily.

    One pass over question and answer says so: up to the first token that differs, greedy decoding
    has the same text before it.
    """
    model = language_model(network)
    alike = []
    for answer in answers:
        ids = np.concatenate([answer.prompt, answer.tokens[:-1]])
        logits = model.forward(ids[None], ops)[0, len(answer.prompt) - 1 :]
        alike.append(logits.argmax(axis=1) == answer.tokens)
    return Likeness.of(alike)


def published_tensors(network: Network) -> Mapping[str, Array]:
    """Return a network's tensors; of one with an adapter those of its base."""
    if "adapter" not in network.checkpoint.config:
        return network.model.tensors
    base = network.checkpoint.config["base"]
    return load_network(base, tile_rows=None, data=network.data).model.tensors


class Examination:
    """Texts and questions, and what float32 makes of them.

    Parameters
    ----------
    network : Network
        A language model; questions are asked if it has a chat template.
    samples : windows of each text.
    """

    def __init__(self, network: Network, samples: int) -> None:
        self.network = network
        self.windows: Mapping[str, NDArray[np.int64]] = {
            name: evaluation.text_windows(network.encode(read(network.data)), samples)
            for name, read in HELD_OUT.items()
        }
        self.exact = FloatOps(published_tensors(network))
        asks = network.checkpoint.chat_template is not None
        self.answers = greedy_answers(network, self.exact) if asks else []

    def measure(self, ops: Ops, label: str) -> dict[str, Any]:
        """Return the nearness by text, and the likeness of answers, if any are asked."""
        found: dict[str, Any] = {
            name: asdict(compare(self.network, ops, self.exact, windows, f"{label} {name}"))
            for name, windows in self.windows.items()
        }
        if self.answers:
            found["answers"] = asdict(compare_answers(self.network, ops, self.answers))
        return found

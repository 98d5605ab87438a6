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
from system.answers import QUESTIONS, compare_answers, greedy_answers
from system.data.texts import HELD_OUT
from system.generation import language_model
from system.models.ops import Array, FloatOps, Ops
from system.networks import Network, load_network


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
    questions : to ask.
    """

    def __init__(
        self, network: Network, samples: int, questions: Sequence[str] = QUESTIONS
    ) -> None:
        self.network = network
        self.windows: Mapping[str, NDArray[np.int64]] = {
            name: evaluation.text_windows(network.encode(read(network.data)), samples)
            for name, read in HELD_OUT.items()
        }
        self.exact = FloatOps(published_tensors(network))
        asks = network.checkpoint.chat_template is not None
        self.answers = greedy_answers(network, self.exact, questions) if asks else []

    def measure(self, ops: Ops, label: str) -> dict[str, Any]:
        """Return the nearness by text, and the likeness of answers, if any are asked."""
        found: dict[str, Any] = {
            name: asdict(compare(self.network, ops, self.exact, windows, f"{label} {name}"))
            for name, windows in self.windows.items()
        }
        if self.answers:
            found["answers"] = asdict(compare_answers(self.network, ops, self.answers))
        return found

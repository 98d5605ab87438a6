"""Greedy answers of a chat model: how much of float32's a circuit gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuits.errors import DataError
from system.chat import chat_template
from system.chat_template import Message
from system.generation import language_model, prompt_tokens
from system.models.ops import Array, Ops
from system.networks import Network

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
class Answer:
    """A question's tokens, those answered greedily, and how far each was ahead of all others.

    `leads` are differences of logits, which are those of logarithms of probabilities [nat].
    """

    prompt: NDArray[np.int64]
    tokens: NDArray[np.int64]
    leads: NDArray[np.float64]


def read_questions(path: Path) -> tuple[str, ...]:
    """Return the questions of a text file, one a line; empty lines are left out.

    Raises
    ------
    DataError
        The file is missing, is no UTF-8 text or holds no question.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as UTF-8 text: {error}") from error
    questions = tuple(line.strip() for line in lines if line.strip())
    if not questions:
        raise DataError(f"{path} holds no question; write one a line")
    return questions


def leads_of(logits: Array, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how much the logit of each token (n,) tops all others of its row (n, vocabulary).

    Negative where another token is likelier.
    """
    rows, others = np.arange(len(tokens)), logits.astype(np.float64)
    own = others[rows, tokens]
    others[rows, tokens] = -np.inf
    return np.asarray(own - others.max(axis=1))


def greedy_answers(
    network: Network, ops: Ops, questions: Sequence[str] = QUESTIONS
) -> list[Answer]:
    """Return what an arithmetic answers by the likeliest token, the end of the text included.

    Raises
    ------
    ParameterError
        A question is longer than the context.
    """
    model, template = language_model(network), chat_template(network)
    answers = []
    for question in questions:
        text = template.render([Message("user", question)])
        ids = prompt = prompt_tokens(network, model, text)
        room = min(ANSWER_TOKENS, model.config.max_position_embeddings - len(prompt))
        tokens: list[int] = []
        leads: list[float] = []
        cache = ops.new_cache()
        while len(tokens) < room and not set(tokens[-1:]) & set(model.config.eos_token_id):
            logits = model.forward(ids[None], ops, cache, last_only=True)[0, -1:]
            ids = logits.argmax(axis=1)
            tokens.append(int(ids[0]))
            leads.append(float(leads_of(logits, ids)[0]))
        answers.append(Answer(prompt, np.array(tokens), np.array(leads)))
    return answers


@dataclass(frozen=True)
class Likeness:
    """How much of float32's answers an arithmetic gives.

    Attributes
    ----------
    kept : share of answers that are the same token by token.
    leading : share of tokens that stand before the first that differs in their answer.
    likeliest : share of tokens that it finds likeliest too, after float32's own text up to there.
    lead_change : by how much the lead of such a token over all others changes, the median [nat].
        Where it exceeds the lead in float32, another token follows.
    """

    kept: float
    leading: float
    likeliest: float
    lead_change: float

    @classmethod
    def of(
        cls, alike: Sequence[NDArray[np.bool_]], changes: Sequence[NDArray[np.float64]]
    ) -> Likeness:
        """Count, given of each answer which tokens are likeliest too and how their leads change."""
        tokens = sum(len(same) for same in alike)
        leading = sum(int(np.logical_and.accumulate(same).sum()) for same in alike)
        return cls(
            sum(bool(same.all()) for same in alike) / len(alike),
            leading / tokens,
            sum(int(same.sum()) for same in alike) / tokens,
            float(np.median(np.abs(np.concatenate(changes)))),
        )


def compare_answers(network: Network, ops: Ops, answers: Sequence[Answer]) -> Likeness:
    """Compare an arithmetic with answers that float32 gave greedily.

    One pass over question and answer says so: up to the first token that differs, greedy decoding
    has the same text before it.
    """
    model = language_model(network)
    alike, changes = [], []
    for answer in answers:
        ids = np.concatenate([answer.prompt, answer.tokens[:-1]])
        logits = model.forward(ids[None], ops)[0, len(answer.prompt) - 1 :]
        alike.append(logits.argmax(axis=1) == answer.tokens)
        changes.append(leads_of(logits, answer.tokens) - answer.leads)
    return Likeness.of(alike, changes)

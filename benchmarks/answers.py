"""Ten questions to a chat model, answered greedily in float32 and on programmed chips.

    python -m benchmarks.answers --library library.h5 --chips 2 --chips-dir chips
    python -m benchmarks.answers --rounding bfloat16
    python -m benchmarks.answers --questions benchmarks/questions.txt --mode ideal-analog ...

Prints every answer of up to 24 tokens, the share of answers that are the same token by token, and
how many of their tokens stand before the first that differs. `nldpe quality` gives the shares too.
Whether an answer still says the same, the cosine between its sentence vector and that of float32's
answer tells in part (minilm-l6, in float32): it sees another subject, hardly another number. The
mean cosine between float32's answers to different questions stands beside it.
With --rounding no circuits: how far ordinary arithmetics of less than 32 bits get. The sixty
questions of questions.txt (benchmarks/write_questions.py) tell settings apart, which ten do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from system.answers import (
    QUESTIONS,
    Answer,
    compare_answers,
    greedy_answers,
    read_questions,
)
from system.commands.options import mapping_overrides
from system.evaluation import cosines, outputs, similarity_of_others
from system.hardware import Chip
from system.inference import Execution, arithmetic
from system.models.bert import Bert
from system.models.ops import Activation, Array, FloatOps, Ops
from system.networks import Network, load_network
from system.quality import published_tensors
from system.quantization import Mapping, quantize_weight


def common_tokens(one: Answer, other: Answer) -> int:
    """Return how many tokens two answers have in common from their beginning."""
    length = min(len(one.tokens), len(other.tokens))
    differs = np.flatnonzero(one.tokens[:length] != other.tokens[:length])
    return int(differs[0]) if differs.size else length


def bfloat16(x: Array) -> Array:
    """Round to 8 bits of mantissa, ties to even, as GPUs store activations and weights."""
    word = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = (word >> np.uint32(16)) & np.uint32(1)
    return ((word + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)


class Bfloat16Ops(FloatOps):
    """Weights, and inputs and outputs of linear layers, in bfloat16; sums in float32."""

    def __init__(self, tensors: dict[str, Array]):
        super().__init__({name: bfloat16(value) for name, value in tensors.items()})

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b)."""
        return bfloat16(super().linear(name, bfloat16(x), activation))


def eight_bits(weight: Array) -> Array:
    """Round a matrix (out, in) to signs and 7 bits, the largest of each output at the top."""
    if weight.ndim < 2:
        return weight
    codes, scale = quantize_weight(weight, Mapping(weight_scale="column"))
    return np.ascontiguousarray((codes * scale).T, np.float32)


def rounded(network: Network, kind: str) -> FloatOps:
    """Return float32 arithmetic on 8-bit weights and nothing else, or bfloat16."""
    tensors = network.model.tensors
    if kind == "bfloat16":
        return Bfloat16Ops(tensors)
    return FloatOps({name: eight_bits(value) for name, value in tensors.items()})


def meanings(encoder: Network, texts: Sequence[str]) -> Array:
    """Return the sentence vectors of texts, (n, width)."""
    model = encoder.model
    assert isinstance(model, Bert)
    return outputs(model, FloatOps(model.tensors), encoder.encode_texts(list(texts)), "encode")


class Judge:
    """Compares answers of a network's published weights in float32 with those of others."""

    def __init__(self, network: Network, questions: Sequence[str]) -> None:
        self.network, self.questions = network, questions
        self._encoder = load_network("minilm-l6", tile_rows=None)
        self._exact = greedy_answers(network, FloatOps(published_tensors(network)), questions)
        self._meant = self._meanings(self._exact)
        others = similarity_of_others(self._meant)
        print(f"float32: mean cosine between answers to different questions {others:.2f}")
        leads = np.concatenate([answer.leads for answer in self._exact])
        few = np.mean(leads < 0.1)
        print(
            f"float32: tokens lead by {np.median(leads):.2f} nat, the median; {few:.1%} below 0.1"
        )

    def _meanings(self, answers: Sequence[Answer]) -> Array:
        """Return the sentence vectors of answers, (n, width)."""
        return meanings(self._encoder, [self.network.decode(answer.tokens) for answer in answers])

    def compare(self, ops: Ops, label: str) -> None:
        """Print what an arithmetic answers beside what float32 does."""
        found, decode = greedy_answers(self.network, ops, self.questions), self.network.decode
        near = cosines(self._meanings(found), self._meant)
        kept = tokens = 0
        for answer, wanted, cosine, question in zip(
            found, self._exact, near, self.questions, strict=True
        ):
            same = np.array_equal(wanted.tokens, answer.tokens)
            kept, tokens = kept + same, tokens + common_tokens(wanted, answer)
            said = "the same" if same else f"{decode(answer.tokens)!r} ({cosine:.2f})"
            print(f"{question}\n  float32: {decode(wanted.tokens)!r}\n  {label}: {said}")
        total = sum(len(wanted.tokens) for wanted in self._exact)
        print(f"{label}: {kept} of {len(found)} unchanged, {tokens} of {total} tokens before")
        like = compare_answers(self.network, ops, self._exact)
        print(f"{label}: {like.likeliest:.1%} of the tokens likeliest too, after float32's text")
        print(f"{label}: their leads change by {like.lead_change:.3f} nat, the median")
        print(f"{label}: cosine with float32's answers {near.mean():.2f}, lowest {near.min():.2f}")


def main() -> None:
    """Read the command line and print all answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--library")
    what.add_argument("--rounding", choices=("8-bit-weights", "bfloat16"))
    parser.add_argument("--mode", default="noisy")
    parser.add_argument("--chips", type=int, default=1)
    parser.add_argument("--chips-dir", type=Path)
    parser.add_argument("--questions", type=Path, help="a text file; default: the ten")
    parser.add_argument("--map", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    questions = read_questions(given.questions) if given.questions else QUESTIONS
    if given.rounding:
        network = load_network(given.model, tile_rows=None)
        with one_blas_thread():
            Judge(network, questions).compare(rounded(network, given.rounding), given.rounding)
        return
    library = Library.from_hdf5(given.library)
    rows, choices = library.technology.column.rows, mapping_overrides(given.map)
    network = load_network(given.model, tile_rows=rows, overrides=choices)
    execution = Execution(given.chips_dir)
    with one_blas_thread():
        judge = Judge(network, questions)
        for index in range(given.chips):
            ops = arithmetic(network, library, given.mode, Chip(0, index), execution=execution)
            judge.compare(ops, f"{given.mode}, chip {index}")


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

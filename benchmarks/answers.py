"""Ten questions to a chat model, answered greedily in float32 and on programmed chips.

    python -m benchmarks.answers --library library.h5 --chips 2 --chips-dir chips
    python -m benchmarks.answers --rounding bfloat16

Prints every answer of up to 24 tokens, the share of answers that are the same token by token, and
how many of their tokens stand before the first that differs. `nldpe quality` gives the shares too.
With --rounding no circuits: how far ordinary arithmetics of less than 32 bits get.
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
from system.commands.options import mapping_overrides
from system.hardware import Chip
from system.inference import Execution, arithmetic
from system.models.ops import Activation, Array, FloatOps, Ops
from system.networks import Network, load_network
from system.quality import QUESTIONS, Answer, compare_answers, greedy_answers
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


def compare(network: Network, ops: Ops, exact: Sequence[Answer], label: str) -> None:
    """Print what an arithmetic answers beside what float32 does."""
    found = greedy_answers(network, ops)
    kept = tokens = total = 0
    for question, wanted, answer in zip(QUESTIONS, exact, found, strict=True):
        same = np.array_equal(wanted.tokens, answer.tokens)
        kept += same
        tokens, total = tokens + common_tokens(wanted, answer), total + len(wanted.tokens)
        text = "the same" if same else repr(network.decode(answer.tokens))
        print(f"{question}\n  float32: {network.decode(wanted.tokens)!r}\n  {label}: {text}")
    print(f"{label}: {kept} of {len(found)} answers unchanged, {tokens} of {total} tokens before")
    likeliest = compare_answers(network, ops, exact).likeliest
    print(f"{label}: {likeliest:.1%} of the tokens likeliest too, after float32's text up to there")


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
    parser.add_argument("--map", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.rounding:
        network = load_network(given.model, tile_rows=None)
        with one_blas_thread():
            exact = greedy_answers(network, FloatOps(network.model.tensors))
            compare(network, rounded(network, given.rounding), exact, given.rounding)
        return
    library = Library.from_hdf5(given.library)
    rows, choices = library.technology.column.rows, mapping_overrides(given.map)
    network = load_network(given.model, tile_rows=rows, overrides=choices)
    execution = Execution(given.chips_dir)
    with one_blas_thread():
        exact = greedy_answers(network, FloatOps(network.model.tensors))
        for index in range(given.chips):
            ops = arithmetic(network, library, given.mode, Chip(0, index), execution=execution)
            compare(network, ops, exact, f"{given.mode}, chip {index}")


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

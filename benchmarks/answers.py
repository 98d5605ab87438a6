"""Ten questions to a chat model, answered greedily in float32 and on programmed chips.

    python -m benchmarks.answers --library library.h5 --chips 2 --chips-dir chips

Prints every answer of up to 24 tokens, the share of answers that are the same token by token, and
how many of their tokens stand before the first that differs. `nldpe quality` gives the share too.
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
from system.models.ops import FloatOps, Ops
from system.networks import Network, load_network
from system.quality import QUESTIONS, Answer, greedy_answers


def common_tokens(one: Answer, other: Answer) -> int:
    """Return how many tokens two answers have in common from their beginning."""
    length = min(len(one.tokens), len(other.tokens))
    differs = np.flatnonzero(one.tokens[:length] != other.tokens[:length])
    return int(differs[0]) if differs.size else length


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


def main() -> None:
    """Read the command line and print all answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--library", required=True)
    parser.add_argument("--mode", default="noisy")
    parser.add_argument("--chips", type=int, default=1)
    parser.add_argument("--chips-dir", type=Path)
    parser.add_argument("--map", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
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

"""Whole networks with noise against their own float32, in turn within one run, one thread.

    python -m benchmarks.whole lenet-mnist llama-austen smollm2-135m --library library.h5

Processor time of forward passes; the chip is programmed before. Ratios of the best runs, and of
the medians: on a machine that changes its pace they differ.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.library import Library
from behavioral.programming import Noise
from behavioral.threads import one_blas_thread
from benchmarks.timing import repeated, seconds
from circuits.errors import NldpeError
from system.engine import make_ops
from system.hardware import Chip
from system.models.bert import Bert
from system.models.language import LanguageModel
from system.models.ops import FloatOps, Ops
from system.networks import Network, load_network

NOISES: tuple[Noise, ...] = ("frozen", "per-read")


def measure(name: str, library: Library, samples: int, tokens: int, rounds: int) -> str:
    """Return one line of the table."""
    network = load_network(name, tile_rows=library.technology.column.rows)
    model, inputs = network.model, inputs_of(network, samples, tokens)
    ops: list[Ops] = [FloatOps(model.tensors)]
    ops += [make_ops(network, library, "noisy", Chip(noise=noise)) for noise in NOISES]
    runs = [lambda arithmetic=arithmetic: model.forward(inputs, arithmetic) for arithmetic in ops]
    calls = [repeated(run) for run in runs]  # programs and compiles too
    spent = [[seconds(*job) for job in zip(runs, calls, strict=True)] for _ in range(rounds)]
    best = np.min(spent, axis=0)
    middle = [statistics.median(column) for column in zip(*spent, strict=True)]
    ratios = [f"{best[i] / best[0]:.2f} / {middle[i] / middle[0]:.2f}" for i in range(1, len(runs))]
    shape = " x ".join(str(size) for size in inputs.shape)
    return f"| {name}, {shape} | {' | '.join(ratios)} | {best[0]:.3g} s |"


def inputs_of(network: Network, samples: int, tokens: int) -> NDArray[Any]:
    """Return images; the starts of texts; or the longest of many sentences, cut to one length."""
    if isinstance(network.model, LanguageModel):
        return network.samples(samples).inputs[:, :tokens]
    if not isinstance(network.model, Bert):
        return network.samples(samples).inputs
    texts = network.samples(16 * samples).inputs
    lengths = (texts >= 0).sum(axis=1)
    longest = np.argsort(lengths, kind="stable")[-samples:]
    return texts[longest, : min(tokens, lengths[longest[0]])]


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--library", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=64, help="inputs of a pass (default: 64)")
    parser.add_argument("--tokens", type=int, default=64, help="of a text (default: 64)")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    print("| network, inputs | frozen: best / median | per read | float32 |\n|---|---|---|---|")
    for name in given.networks:
        with one_blas_thread():
            print(measure(name, library, given.samples, given.tokens, given.rounds), flush=True)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

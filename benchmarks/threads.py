"""A product and whole networks on several threads, against numpy on as many.

    export NUMBA_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2
    python -m benchmarks.threads lenet-mnist llama-austen --library library.h5

Time by the clock, so nothing else may run. numpy has BLAS's threads; networks have those of numba,
as in `nldpe`; a product from Python has both. Ratios of the best runs, and of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

import numba
import numpy as np
from numpy.typing import NDArray

from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from behavioral.threads import one_blas_thread
from benchmarks.timing import repeated, seconds
from benchmarks.whole import NOISES, inputs_of
from circuits.errors import NldpeError
from system.engine import make_ops
from system.hardware import Chip
from system.models.ops import FloatOps
from system.networks import load_network

BATCHES = 1, 64, 1024
TURNS = 4  # of each in a round
PAUSE = 0.1  # seconds before: threads of the other one, which wait awake, have gone to sleep then

Job = Callable[[], object]


def limited(job: Job) -> Job:
    """Return the job with one thread for BLAS."""

    def run() -> object:
        with one_blas_thread():
            return job()

    return run


def compare(name: str, jobs: list[Job], rounds: int) -> str:
    """Return one line of the table: every job over the first."""
    calls, spent = [], [[] for _ in jobs]  # type: ignore[var-annotated]
    for job in jobs:
        sleep(PAUSE)
        calls.append(repeated(job))
    for _ in range(rounds):
        for job, count, found in zip(jobs, calls, spent, strict=True):
            sleep(PAUSE)
            found += [seconds(job, count, perf_counter) for _ in range(TURNS)]
    best, middle = ([take(column) for column in spent] for take in (min, statistics.median))
    ratios = [f"{best[i] / best[0]:.2f} / {middle[i] / middle[0]:.2f}" for i in (1, 2)]
    return f"| {name} | {' | '.join(ratios)} | {best[0]:.3g} s |"


def product(library: Library, batch: int) -> list[Job]:
    """Return the product of `bench_crossbar.py` by numpy, and with both kinds of noise."""
    rng = np.random.default_rng(0)
    w = np.clip(rng.normal(0, 0.25, (256, 256)), -1, 1).astype(np.float32)
    x: NDArray[np.float32] = rng.uniform(0, 1, (batch, 256)).astype(np.float32)
    model = CrossbarModel(library)
    arrays = [model.program(w, noise=noise) for noise in NOISES]
    return [lambda: x @ w, *(lambda array=array: model.multiply(array, x) for array in arrays)]  # type: ignore[misc]


def network(library: Library, name: str, samples: int) -> list[Job]:
    """Return forward passes of a network by numpy, and with both kinds of noise."""
    found = load_network(name, tile_rows=library.technology.column.rows)
    model, inputs = found.model, inputs_of(found, samples, samples)
    analog = [make_ops(found, library, "noisy", Chip(noise=noise)) for noise in NOISES]
    return [
        lambda: model.forward(inputs, FloatOps(model.tensors)),
        *(limited(lambda ops=ops: model.forward(inputs, ops)) for ops in analog),  # type: ignore[misc]
    ]


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--library", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=64, help="inputs of a pass (default: 64)")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    print(f"{numba.get_num_threads()} threads")
    print("| work | frozen: best / median | per read | float32 |\n|---|---|---|---|")
    for batch in BATCHES:
        name = f"256 x 256, batch {batch}"
        print(compare(name, product(library, batch), given.rounds), flush=True)
    for name in given.networks:
        jobs = network(library, name, given.samples)
        print(compare(name, jobs, given.rounds), flush=True)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

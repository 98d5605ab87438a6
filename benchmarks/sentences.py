"""How near classifiers of sentences on chips stay to their own float32.

    python -m benchmarks.sentences minilm-rt mine/minilm-rt --library library.h5 --chips 10

Scored on the development sentences, the last tenth of the training sentences: no range is measured
and no weight trained on them. Beside accuracy stand KL(float32 || it) of the decisions in nats and
the mean squared change of the logits, which tell networks apart where hardly a decision changes:
such as one network with exact and with tuned ACAM windows. Changes are chip by chip against the
first network named, with the standard error of their mean.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from system import evaluation
from system.hardware import Chip
from system.inference import arithmetic
from system.models.bert import Bert
from system.models.ops import Array
from system.networks import Network, load_network
from system.quality import log_softmax

FIGURES = ("accuracy [%]", "KL [nat]", "squared change of logits")
Figures = NDArray[np.float64]


def nearness(logits: Array, exact: Array, labels: NDArray[np.int64]) -> Figures:
    """Return the three figures of logits (n, classes)."""
    ours, theirs = log_softmax(logits), log_softmax(exact)
    right = 100.0 * np.mean(logits.argmax(axis=1) == labels)
    divergence = np.mean(np.sum(np.exp(theirs) * (theirs - ours), axis=1))
    return np.array([right, divergence, np.mean(np.square(logits - exact))])


def scored(network: Network, library: Library, count: int, chips: range) -> Figures:
    """Print the figures of every mode; returns those of the chips, (chips, 3)."""
    model = network.model
    assert isinstance(model, Bert)
    samples = network.development_samples(count)
    assert samples.labels is not None
    labels = samples.labels

    def logits(mode: str, index: int = 0) -> Array:
        ops = arithmetic(network, library, mode, Chip(0, index))
        return evaluation.outputs(model, ops, samples.inputs, f"{mode} chip {index}")

    exact = logits("float")
    right = nearness(exact, exact, labels)[0]
    print(f"{network.name}, {len(samples)} sentences: float {right:.2f} %", flush=True)
    for mode in ("quantized", "ideal-analog"):
        print(f"  {mode}: {text(nearness(logits(mode), exact, labels))}", flush=True)
    found = np.array([nearness(logits("noisy", k), exact, labels) for k in chips])
    print(f"  noisy: {text(found.mean(axis=0), found.std(axis=0, ddof=1))}")
    for name, values in zip(FIGURES, found.T, strict=True):
        print(f"    chips: {name} {', '.join(f'{one:.4g}' for one in values)}", flush=True)
    return found


def text(means: Figures, spreads: Figures | None = None) -> str:
    """Return the three figures in words, with their spread."""
    ends = ["", "", ""] if spreads is None else [f" +/- {one:.2g}" for one in spreads]
    return ", ".join(f"{n} {m:.4g}{end}" for n, m, end in zip(FIGURES, means, ends, strict=True))


def main() -> None:
    """Read the command line and print the figures of every network."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--library", required=True)
    parser.add_argument("--sentences", type=int, default=10_000, help="at most (default: all)")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="of the chips (default: 0)")
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    chips = range(given.first, given.first + given.chips)
    first = None
    for model in given.models:
        network = load_network(model, tile_rows=library.technology.column.rows)
        with one_blas_thread():
            found = scored(network, library, given.sentences, chips)
        if first is None:
            first = found
        else:
            change = found - first
            spread = change.std(axis=0, ddof=1) / np.sqrt(len(change))
            print(f"  change, chip by chip: {text(change.mean(axis=0), spread)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

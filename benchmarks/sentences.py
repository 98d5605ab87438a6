r"""How near encoders and classifiers of sentences on chips stay to their own float32.

    python -m benchmarks.sentences minilm-rt mine/minilm-rt --library library.h5 --chips 10
    python -m benchmarks.sentences minilm-l6 --library library.h5 --sentences 40 \
        --on 'encoder.layer.?.output.dense' --map 'encoder.layer.?.output.dense.output_copies=2'

Scored on the development sentences, the last tenth of the training sentences: no range is measured
and no weight trained on them. Beside accuracy stand KL(float32 || it) of the decisions in nats and
the mean squared change of the logits, which tell networks apart where hardly a decision changes:
such as one network with exact and with tuned ACAM windows. An encoder alone has the mean cosine of
its vectors in place of the first two. Changes are chip by chip against the first network named,
with the standard error of their mean.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from system import evaluation
from system.commands.options import mapping_overrides
from system.hardware import Chip
from system.inference import arithmetic
from system.models.bert import Bert
from system.models.ops import Activation, Array, FloatOps, Ops
from system.networks import Network, load_network
from system.quality import divergence_of, log_softmax

FIGURES = {
    "accuracy": ("accuracy [%]", "KL [nat]", "squared change of logits"),
    "similarity": ("similarity", "squared change of vectors"),
}
Figures = NDArray[np.float64]


class SomeLayers(FloatOps):
    """Float32 arithmetic, but for layers whose name fits a pattern: they are on a chip."""

    def __init__(self, chip: Ops, tensors: dict[str, Array], pattern: str) -> None:
        super().__init__(tensors)
        self._chip, self._pattern = chip, pattern

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b)."""
        fits = fnmatch.fnmatch(name, self._pattern)
        return (
            self._chip.linear(name, x, activation) if fits else super().linear(name, x, activation)
        )


def nearness(logits: Array, exact: Array, labels: NDArray[np.int64]) -> Figures:
    """Return the figures of logits (n, classes)."""
    right = 100.0 * np.mean(logits.argmax(axis=1) == labels)
    divergence = divergence_of(log_softmax(logits), log_softmax(exact))
    return np.array([right, divergence, np.mean(np.square(logits - exact))])


def scored(network: Network, library: Library, given: argparse.Namespace) -> Figures:
    """Print the figures of every mode; returns those of the chips, (chips, figures)."""
    model, names = network.model, FIGURES[network.metric]
    assert isinstance(model, Bert)
    samples = network.development_samples(given.sentences)
    labels = samples.labels
    assert labels is not None

    def found(mode: str, index: int = 0) -> Array:
        ops = arithmetic(network, library, mode, Chip(0, index))
        if given.on:
            ops = SomeLayers(ops, model.tensors, given.on)
        return evaluation.outputs(model, ops, samples.inputs, f"{mode} chip {index}")

    exact = found("float")

    def figures(outputs: Array) -> Figures:
        if network.metric == "accuracy":
            return nearness(outputs, exact, labels)
        change = np.mean(np.square(outputs - exact))
        return np.array([evaluation.similarity(outputs, exact), change])

    print(f"{network.name}, {len(samples)} sentences: float {figures(exact)[0]:.4g}", flush=True)
    for mode in ("quantized", "ideal-analog"):
        print(f"  {mode}: {text(names, figures(found(mode)))}", flush=True)
    chips = range(given.first, given.first + given.chips)
    rows = np.array([figures(found("noisy", k)) for k in chips])
    print(f"  noisy: {text(names, rows.mean(axis=0), rows.std(axis=0, ddof=1))}")
    for name, values in zip(names, rows.T, strict=True):
        print(f"    chips: {name} {', '.join(f'{one:.4g}' for one in values)}", flush=True)
    return rows


def text(names: Sequence[str], means: Figures, spreads: Figures | None = None) -> str:
    """Return the figures in words, with their spread."""
    ends = [""] * len(names) if spreads is None else [f" +/- {one:.2g}" for one in spreads]
    return ", ".join(f"{n} {m:.4g}{end}" for n, m, end in zip(names, means, ends, strict=True))


def main() -> None:
    """Read the command line and print the figures of every network."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--library", required=True)
    parser.add_argument("--sentences", type=int, default=10_000, help="at most (default: all)")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="of the chips (default: 0)")
    parser.add_argument("--on", metavar="PATTERN", help="only these layers are on circuits")
    parser.add_argument("--map", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    rows, choices = library.technology.column.rows, mapping_overrides(given.map)
    first = None
    for model in given.models:
        network = load_network(model, tile_rows=rows, overrides=choices)
        with one_blas_thread():
            found = scored(network, library, given)
        if first is None:
            first = found
        else:
            change, names = found - first, FIGURES[network.metric]
            spread = change.std(axis=0, ddof=1) / np.sqrt(len(change))
            print(f"  change, chip by chip: {text(names, change.mean(axis=0), spread)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

"""Whole layers, or the whole network, in ngspice: every column and every ACAM unit.

Equal stimuli of a column are simulated once; ngspice gives equal netlists equal answers.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.acam import AcamUnit
from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.cache import Cache
from circuits.errors import ParameterError
from circuits.plan import WorkerPool, default_workers, simulator_version
from system.engine import AnalogOps, layer_tensors
from system.layer_spec import Ends
from system.linear import AnalogLinear, Chip
from system.models.llama import Llama
from system.models.ops import Activation, Array
from system.models.patches import Convolution
from system.networks import Network
from system.quantization import Float
from system.validation.point import unknown_layer
from system.validation.replay import column_outputs, line_position, search_codes
from system.validation.sampling import hardware_of

STIMULI_AT_ONCE = 1024  # of a tile: bounds the netlists in memory
SEARCHES_AT_ONCE = 128


class Meter(WorkerPool):
    """The pool of simulators, adding up circuits and the seconds in which one ran."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.circuits = 0
        self.seconds = 0.0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` and note how long it took."""
        self.circuits += 1
        return super().submit(fn, *args, **kwargs)

    def _call(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start = perf_counter()
        try:
            return super()._call(fn, args, kwargs)
        finally:
            self.seconds += perf_counter() - start


class MeteredCache(Cache):
    """The store of results, counting what came out of it."""

    hits = 0

    def load(self, key: str) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return a kept result."""
        found = super().load(key)
        self.hits += found is not None
        return found


@dataclass
class LayerRun:
    """What one layer needed, and how its codes compare with the model's at the same inputs.

    Attributes
    ----------
    products, conversions : column outputs and ACAM conversions of the images.
    simulated_products, simulated_conversions : those left when equal ones are done once.
    ngspice_s : seconds in which simulators ran for this layer, in this run.
    differences : of output codes, ngspice minus model: difference -> conversions.
    """

    products: int = 0
    conversions: int = 0
    simulated_products: int = 0
    simulated_conversions: int = 0
    ngspice_s: float = 0.0
    differences: dict[int, int] = field(default_factory=dict)

    @property
    def code_equal(self) -> float:
        """Share of equal codes."""
        return self.share(0)

    @property
    def code_agreement(self) -> float:
        """Share of codes at most one apart."""
        return self.share(1)

    def share(self, largest: int) -> float:
        """Return the share of codes at most `largest` apart."""
        total = sum(self.differences.values())
        return sum(n for d, n in self.differences.items() if abs(d) <= largest) / max(total, 1)


class SpiceLinear(AnalogLinear):
    """A layer whose products and conversions are simulated in ngspice."""

    def __init__(self, *args: Any, meter: Meter, cache: MeteredCache):
        super().__init__(*args)
        self.run = LayerRun()
        self.meter, self.cache = meter, cache

    def multiply(self, drive: Float, tile: int) -> Float:
        """Return the column outputs (n, out) of one row tile from ngspice."""
        rows = np.zeros_like(drive)
        rows[:, self.tiles[tile]] = np.clip(drive[:, self.tiles[tile]], -1.0, 1.0)
        unique, place = np.unique(rows, axis=0, return_inverse=True)
        columns = np.arange(self.arrays[tile].cols)
        self.run.products += len(drive) * len(columns)
        self.run.simulated_products += len(unique) * len(columns)
        parts = [
            column_outputs(self, tile, columns, part, executor=self.meter, cache=self.cache)
            for part in self._batches(unique, STIMULI_AT_ONCE, f"tile {tile}")
        ]
        return np.concatenate(parts).astype(np.float32)[place.ravel()]

    def _multiply_patches(self, padded: Float, shape: Convolution, tile: int) -> Float:
        return self.multiply(shape.patches(padded), tile)

    def _convert(self, unit: AcamUnit, y: Float, gain: Float, line: Ends, out: Ends) -> Float:
        u = line_position(y, gain, line)
        column = np.broadcast_to(np.arange(u.shape[1]), u.shape)
        pairs = np.stack([column.ravel().astype(np.float32), u.ravel()], axis=1)
        unique, place = np.unique(pairs, axis=0, return_inverse=True)
        self.run.conversions += u.size
        self.run.simulated_conversions += len(unique)
        parts = [
            search_codes(
                self.hardware, unit, part[:, 0].astype(np.int64), part[:, 1],
                executor=self.meter, cache=self.cache,
            )
            for part in self._batches(unique, SEARCHES_AT_ONCE, "ACAM")
        ]  # fmt: skip
        codes = np.concatenate(parts)[place.ravel()].reshape(u.shape)
        model, _ = self.hardware.acam.convert(unit, u)
        self._count(codes - model.astype(np.int64))
        bottom, top = out
        return np.asarray(bottom + (top - bottom) * unit.values[codes], np.float32)

    def _batches(self, rows: Array, size: int, what: str) -> Any:
        before = self.meter.seconds
        starts = range(0, len(rows), size)
        for low in tqdm(starts, desc=f"{self.spec.name} {what}", unit="batch", disable=None):
            yield rows[low : low + size]
        self.run.ngspice_s += self.meter.seconds - before

    def _count(self, differences: NDArray[np.int64]) -> None:
        for value, count in zip(*np.unique(differences, return_counts=True), strict=True):
            seen = self.run.differences.get(int(value), 0)
            self.run.differences[int(value)] = seen + int(count)


class SpiceOps(AnalogOps):
    """The engine of one chip with all layers, or some, in ngspice."""

    def __init__(
        self, *args: Any, layers: Collection[str] | None, meter: Meter, cache: MeteredCache
    ):
        super().__init__(*args)
        self._chosen, self._meter, self._cache = layers, meter, cache

    def layer(self, name: str, activation: Activation) -> AnalogLinear:
        """Return a programmed layer; programs it when first asked."""
        if name not in self.layers and (self._chosen is None or name in self._chosen):
            weight, bias = layer_tensors(self._tensors, name)
            self.layers[name] = SpiceLinear(
                name, weight, bias, activation, self._ranges, self.hardware, self.chip,
                meter=self._meter, cache=self._cache,
            )  # fmt: skip
        return super().layer(name, activation)


@dataclass(frozen=True)
class FullRun:
    """Images through ngspice, beside the same images through the models.

    Attributes
    ----------
    equal_predictions : images given the same class by both.
    right, right_model : images given the right class by ngspice, and by the models.
    logit_lsb : largest difference of a logit, in codes of the last layer.
    ngspice_s : seconds in which simulators ran, in this run; results from the cache cost none.
    circuits, cached : netlists simulated in this run, and taken from the cache.
    model_s : seconds the models took for the same images, programming not included.
    whole : all layers ran in ngspice.
    """

    images: int
    layers: dict[str, LayerRun]
    equal_predictions: int
    right: int
    right_model: int
    logit_lsb: float
    ngspice_s: float
    circuits: int
    cached: int
    model_s: float
    whole: bool

    @property
    def total_s(self) -> float:
        """Seconds of all circuits in ngspice, those of the cache at the mean of the others."""
        return self.ngspice_s * (self.circuits + self.cached) / max(self.circuits, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        layers = {
            name: {
                **asdict(run),
                "code_equal": run.code_equal,
                "code_agreement": run.code_agreement,
            }
            for name, run in self.layers.items()
        }
        return {**asdict(self), "layers": layers, "ngspice_s_with_cached": self.total_s}

    def __str__(self) -> str:
        width = max(len(name) for name in self.layers)
        lines = [f"{'layer':{width}}  products  simulated  conversions  simulated  equal  agree"]
        lines += [
            f"{name:{width}}  {r.products:8d}  {r.simulated_products:9d}  {r.conversions:11d}  "
            f"{r.simulated_conversions:9d}  {r.code_equal:5.3f}  {r.code_agreement:5.3f}"
            for name, r in self.layers.items()
        ]
        lines.append(
            f"{self.images} images: {self.equal_predictions} predicted alike, right {self.right} "
            f"in ngspice and {self.right_model} on the models; logits within "
            f"{self.logit_lsb:.0f} codes"
        )
        lines.append(
            f"ngspice {self.ngspice_s / 3600:.3f} h for {self.circuits} circuits of this run, "
            f"{self.cached} from the cache"
        )
        if self.circuits and self.whole:
            lines[-1] += (
                f"; the models {self.model_s:.4f} s: {self.total_s / self.model_s:,.0f} x per "
                "image, cached circuits at the mean time of the others"
            )
        return "\n".join(lines)


def run_full(
    network: Network,
    library: Library,
    *,
    images: int,
    layers: list[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    cache: Path | None = None,
) -> FullRun:
    """Classify images with every column and ACAM unit in ngspice, and with the models.

    Finished circuits stay in the cache: an interrupted run goes on where it stopped.

    Parameters
    ----------
    network, library : Network, Library
        The network is a classifier whose ACAM outputs have one copy.
    images : test images, spread over the test set.
    layers : names, optional
        Layers that run in ngspice, the others on the models; default: all.
    seed, workers, cache
        As `validate` and `circuits.plan.run`.

    Raises
    ------
    ParameterError
        A language model, copies of ACAM units, or an unknown layer.
    SimulationError
        ngspice is missing or failed.
    """
    simulator_version()
    if isinstance(network.model, Llama) or network.mapping.output_copies > 1:
        raise ParameterError(f"--full is for small classifiers; {network.name} is none")
    model, samples = network.model, network.samples(images)
    common = model.tensors, network.ranges, hardware_of(network, library, keep_devices=True)
    chip, kept = Chip(seed, 0, "frozen"), MeteredCache(cache)
    twin = AnalogOps(*common, chip)
    with one_blas_thread(), Meter(workers or default_workers()) as meter:
        model.forward(samples.inputs, twin)  # programs the chip
        start = perf_counter()
        expected = model.forward(samples.inputs, twin)
        model_s = perf_counter() - start
        unknown = [n for n in layers or [] if n not in twin.layers]
        if unknown:
            raise unknown_layer(network, unknown[0], list(twin.layers))
        ops = SpiceOps(*common, chip, layers=layers, meter=meter, cache=kept)
        logits = model.forward(samples.inputs, ops)
        runs = {n: x.run for n, x in ops.layers.items() if isinstance(x, SpiceLinear)}
    last = list(twin.layers.values())[-1].spec
    step = (last.out_hi - last.out_lo) / (2**network.mapping.output_bits - 1)
    found, wanted = logits.argmax(axis=1), expected.argmax(axis=1)
    return FullRun(
        images=len(samples),
        layers=runs,
        equal_predictions=int(np.sum(found == wanted)),
        right=int(np.sum(found == samples.labels)),
        right_model=int(np.sum(wanted == samples.labels)),
        logit_lsb=float(np.abs((logits - expected) / step).max()),
        ngspice_s=meter.seconds,
        circuits=meter.circuits,
        cached=kept.hits,
        model_s=model_s,
        whole=len(runs) == len(ops.layers),
    )

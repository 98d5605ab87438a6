"""Whole layers, or the whole network, in ngspice: every column and every ACAM unit.

Equal stimuli of a column are simulated once; ngspice gives equal netlists equal answers. Of the
halves of an ACAM row only those transients run from which all others follow: see `bracket`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.cache import Cache
from circuits.errors import ParameterError
from circuits.plan import WorkerPool, default_workers, simulator_version
from system.conversion import Conversion
from system.engine import AnalogOps, layer_tensors
from system.hardware import Chip
from system.linear import AnalogLinear
from system.models.llama import Llama
from system.models.ops import Activation, Array
from system.models.patches import Convolution
from system.networks import Network
from system.quantization import Float
from system.validation.full_run import Effort, FullRun, LayerRun
from system.validation.point import unknown_layer
from system.validation.replay import column_outputs, search_codes
from system.validation.sampling import hardware_of

STIMULI_AT_ONCE = 1024  # of a tile: bounds the netlists in memory

Codes = NDArray[np.int64]


class Meter(WorkerPool):
    """The pool of simulators, or others' in its place; counts circuits and seconds of simulators.

    Parameters
    ----------
    workers : processes of the pool.
    others : executor that runs the simulations instead.
    """

    def __init__(self, workers: int, others: Executor | None = None) -> None:
        super().__init__(workers)
        self.others = others
        self.circuits = 0
        self.seconds = 0.0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` and note how long it took."""
        self.circuits += 1
        if self.others is None:
            return super().submit(fn, *args, **kwargs)
        answer: Future[Any] = Future()
        far = self.others.submit(_timed, fn, *args, **kwargs)
        far.add_done_callback(lambda far: self._pass_on(far, answer))
        return answer

    def _pass_on(self, far: Future[Any], answer: Future[Any]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            seconds, found = far.result()
        except BaseException as error:
            answer.set_exception(error)
        else:
            self.seconds += seconds
            answer.set_result(found)

    def _call(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start = perf_counter()
        try:
            return super()._call(fn, args, kwargs)
        finally:
            self.seconds += perf_counter() - start


def _timed(fn: Any, /, *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Return how long a call takes, and what it gives."""
    start = perf_counter()
    found = fn(*args, **kwargs)
    return perf_counter() - start, found


class MeteredCache(Cache):
    """The store of results, counting what came out of it."""

    hits = 0

    def load(self, key: str) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return a kept result."""
        found = super().load(key)
        self.hits += found is not None
        return found


class SpiceLinear(AnalogLinear):
    """A layer whose products and conversions are simulated in ngspice."""

    threads = 1  # simulators run in parallel, and one counts their time
    together = False

    def __init__(self, *args: Any, meter: Meter, cache: MeteredCache):
        super().__init__(*args)
        self.run = LayerRun()
        self.meter, self.cache = meter, cache

    def _convert_sum(self, driven: list[Float]) -> Float:
        """Do all samples and columns at once: equal ones are simulated once."""
        out = np.empty((len(driven[0]), len(self.spec.gain)), np.float32)
        self._fill(out, [(part, 0) for part in driven], slice(0, out.shape[1]))
        return out

    def _drive_tile(self, drive: Float, tile: int) -> Float:
        return np.clip(drive[:, self.tiles[tile]], -1.0, 1.0)

    def _drive_patches(self, padded: Float, shape: Convolution, tile: int) -> Float:
        return self._drive_tile(shape.patches(padded), tile)

    def _read(self, driven: Float, tile: int, columns: slice, first: int, out: Float) -> None:
        """Take the column outputs of one row tile from ngspice."""
        unique, place = np.unique(driven, axis=0, return_inverse=True)
        chosen = np.arange(columns.start, columns.stop)
        self.run.products += len(driven) * len(chosen)
        self.run.simulated_products += len(unique) * len(chosen)
        with self._effort(self.run.columns):
            parts = [
                column_outputs(
                    self, tile, chosen, self._whole(part, tile),
                    executor=self.meter, cache=self.cache,
                )
                for part in self._batches(unique, f"tile {tile}")
            ]  # fmt: skip
        out[:] = np.concatenate(parts)[place.ravel()]

    def _whole(self, part: Float, tile: int) -> Float:
        """Return the drives of all row tiles, zero but for one."""
        rows = np.zeros((len(part), self.tiles[-1].stop), np.float32)
        rows[:, self.tiles[tile]] = part
        return rows

    def _convert(self, conversion: Conversion, y: Float, columns: slice, first: int) -> int:
        u, unit = np.clip(conversion.position(y, columns), 0.0, 1.0), conversion.unit
        column = np.broadcast_to(np.arange(columns.start, columns.stop), u.shape)
        pairs = np.stack([column.ravel().astype(np.float32), u.ravel()], axis=1)
        unique, place = np.unique(pairs, axis=0, return_inverse=True)
        self.run.conversions += u.size
        self.run.simulated_conversions += len(unique)
        with self._effort(self.run.searches):
            found = search_codes(
                self.hardware, unit, unique[:, 0].astype(np.int64), unique[:, 1],
                bracketed=True, executor=self.meter, cache=self.cache,
            )  # fmt: skip
        codes = found[place.ravel()].reshape(u.shape)
        self._count(conversion, u, codes, conversion.codes(y, columns))
        y[:] = conversion.value(codes, columns)
        return 0

    def _batches(self, rows: Array, what: str) -> Iterator[Array]:
        starts = range(0, len(rows), STIMULI_AT_ONCE)
        for low in tqdm(starts, desc=f"{self.spec.name} {what}", unit="batch", disable=None):
            yield rows[low : low + STIMULI_AT_ONCE]

    @contextmanager
    def _effort(self, effort: Effort) -> Iterator[None]:
        """Add to `effort` what the simulators do inside."""
        before = self.meter.circuits, self.cache.hits, self.meter.seconds
        yield
        effort.circuits += self.meter.circuits - before[0]
        effort.cached += self.cache.hits - before[1]
        effort.seconds += self.meter.seconds - before[2]

    def _count(self, conversion: Conversion, u: Float, codes: Codes, model: Codes) -> None:
        for value, count in zip(*np.unique(codes - model, return_counts=True), strict=True):
            seen = self.run.differences.get(int(value), 0)
            self.run.differences[int(value)] = seen + int(count)
        rows = np.flatnonzero((codes != model).any(axis=1))
        if len(rows):
            searched = self.hardware.acam.search(conversion.unit, u[rows])
            agree = (searched == codes[rows]) & (codes != model)[rows]
            self.run.by_table += int(agree.sum())


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


def run_full(
    network: Network,
    library: Library,
    *,
    images: int,
    layers: list[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | None = None,
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
    seed, workers, executor, cache
        As `validate` and `circuits.plan.run`.

    Raises
    ------
    ParameterError
        A language model, copies of ACAM units, or an unknown layer.
    SimulationError
        ngspice is missing or failed.
    """
    simulator_version()
    copied = any(mapping.output_copies > 1 for mapping in network.mapping.every())
    if isinstance(network.model, Llama) or copied:
        raise ParameterError(f"--full is for small classifiers; {network.name} is none")
    model, samples = network.model, network.samples(images)
    common = model.tensors, network.ranges, hardware_of(network, library, keep_devices=True)
    chip, kept = Chip(seed, 0, "frozen"), MeteredCache(cache)
    twin = AnalogOps(*common, chip)
    with one_blas_thread(), Meter(workers or default_workers(), executor) as meter:
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
    last = list(twin.layers.values())[-1]
    step = (last.spec.out_hi - last.spec.out_lo) / (2**last.mapping.output_bits - 1)
    found, wanted = logits.argmax(axis=1), expected.argmax(axis=1)
    return FullRun(
        images=len(samples),
        layers=runs,
        equal_predictions=int(np.sum(found == wanted)),
        right=int(np.sum(found == samples.labels)),
        right_model=int(np.sum(wanted == samples.labels)),
        logit_lsb=float(np.abs((logits - expected) / step).max()),
        model_s=model_s,
        whole=len(runs) == len(ops.layers),
    )

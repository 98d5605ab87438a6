"""The functions that a network puts into ACAM units, and what their units convert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from behavioral.log_units import LevelFunction
from behavioral.windows import Function
from system import evaluation
from system.calibration import Ranges
from system.dynamic_tanh import TanhUnits
from system.engine import QuantizedOps
from system.layer_spec import FUNCTIONS, LayerSpec, Placement
from system.models.language import LanguageModel
from system.models.ops import Array, Cache, Mask
from system.networks import Network
from system.product_levels import ceilings, converted_levels, exact_units, product_functions
from system.quantization import Mapping
from system.weights.acam_windows import is_windows

Float = NDArray[np.float64]
Codes = NDArray[np.int64]

TOKENS = 128  # of the one text whose products are recorded
PRODUCT_ROWS = 256  # recorded rows of an element-wise product


@dataclass(frozen=True)
class Problem:
    """Windows to tune, and what their units convert.

    Attributes
    ----------
    name : of the function.
    placements : exact windows on the data lines of their columns; more than one where units in
        parallel round at different places.
    functions : of the activation at each place.
    start : position on the line at which the codes begin.
    repeat : units at each place; the codes of all units in parallel are added.
    mean, std : (n,) of each column's inputs, in u; None: uniform inputs only.
    levels : DAC levels along the line, where units convert nothing else.
    used : (m,) array, levels that calibration saw, where there are levels.
    """

    name: str
    placements: tuple[Placement, ...]
    functions: tuple[Function, ...]
    start: float = 0.0
    repeat: int = 1
    mean: Float | None = None
    std: Float | None = None
    levels: int | None = None
    used: NDArray[Any] | None = None

    def ends(self, chosen: Codes) -> Float:
        """Return the arguments (2, n) at the ends of the data lines of columns (n,)."""
        place = self.placements[0]
        return np.stack([place.low[chosen], place.high[chosen]]).astype(np.float64)

    def columns(self, rng: np.random.Generator, count: int) -> Codes:
        """Return columns drawn at random."""
        return rng.integers(0, len(self.placements[0].low), count)

    def inputs(self, rng: np.random.Generator, chosen: Codes, samples: int) -> Float:
        """Return inputs u (n, samples) of columns: half uniform, half as calibration saw them."""
        u = self.start + (1.0 - self.start) * rng.random((len(chosen), samples))
        if self.levels is not None:
            u = np.floor(u * self.levels) / (self.levels - 1)
            assert self.used is not None
            u[:, ::2] = rng.choice(self.used, u[:, ::2].shape) / (self.levels - 1)
        elif self.mean is not None and self.std is not None:
            used = rng.normal(self.mean[chosen, None], self.std[chosen, None], u.shape)
            u[:, ::2] = np.clip(used[:, ::2], 0.0, 1.0)
        return u

    def density(self, chosen: Codes, u: Float) -> Float:
        """Return the density of such inputs at u (n, m), between the ends of the line."""
        plain = (u >= self.start) / (1.0 - self.start)
        if self.levels is not None:
            used = self._share[np.rint(u * (self.levels - 1)).astype(np.int64)]
            return np.asarray((plain + used) / 2.0)
        if self.mean is None or self.std is None:
            return np.asarray(plain)
        used = norm.pdf(u, self.mean[chosen, None], self.std[chosen, None])
        return np.asarray((plain + used) / 2.0)

    @cached_property
    def _share(self) -> Float:
        """Density of the levels that calibration saw."""
        assert self.levels is not None
        assert self.used is not None
        counts = np.bincount(self.used.astype(np.int64), minlength=self.levels)
        return np.asarray(counts * (self.levels / len(self.used)), np.float64)

    def snapped(self, u: Float) -> Float:
        """Return the inputs nearest to u that units convert."""
        if self.levels is None:
            return u
        return np.asarray(np.rint(u * (self.levels - 1)) / (self.levels - 1))

    def codes(self, ends: Float, u: Float) -> Float:
        """Return the mean codes of the quantised functions at inputs u of columns of these ends."""
        total = np.zeros(u.shape)
        for place, function in zip(self.placements, self.functions, strict=True):
            windows = place.windows
            z = np.clip(ends[0, :, None] + u * np.ptp(ends, axis=0)[:, None], *windows.x_range)
            low, high = windows.y_range
            top = 2**windows.bits - 1
            codes = np.floor((function(z) - low) / (high - low) * top + 0.5)
            total += np.clip(codes, 0, top)
        return total / len(self.placements)


class _Recorder(QuantizedOps):
    """`QuantizedOps` that keeps what blocks of products and Dynamic Tanhs were asked."""

    def __init__(self, network: Network, ranges: Ranges, tile_rows: int):
        super().__init__(network.model.tensors, ranges, network.mapping, tile_rows)
        self.operands: dict[str, tuple[Array, ...]] = {}
        self.tanh_inputs: dict[str, Array] = {}

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Multiply and keep some of the operands."""
        self.operands[name] = tuple(x.reshape(-1, x.shape[-1])[:PRODUCT_ROWS] for x in (a, b))
        return super().multiply(name, a, b)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Attend and keep the operands of the first sequence."""
        self.operands[name] = (q[:1], k[:1], v[:1])
        return super().attention(name, q, k, v, cache, mask)

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias and keep x."""
        self.tanh_inputs[name] = x
        return super().dynamic_tanh(name, x)


def problems(network: Network, tile_rows: int) -> Iterator[Problem]:
    """Yield the functions of a network's ACAM units with exact windows, each once."""
    ranges = {k: v for k, v in network.ranges.items() if not is_windows(k)}
    ops, inputs = _Recorder(network, ranges, tile_rows), network.calibration_inputs()[:1]
    if isinstance(network.model, LanguageModel):
        network.model.forward(inputs[:, :TOKENS], ops)
    else:
        evaluation.outputs(network.model, ops, inputs)
    seen = set()
    for name, layer in ops.layers.items():
        for problem in _of_layer(layer.spec, network.mapping.of(name), ranges):
            if problem.name not in seen:
                seen.add(problem.name)
                yield problem
    yield from _of_products(ops, network.mapping, ranges)
    for name, x in ops.tanh_inputs.items():
        mapping = network.mapping.of(name)
        units = TanhUnits(None, name, network.model.tensors, ranges, mapping)
        yield of_levels(units.function, mapping.output_copies, units.levels(x).ravel())


def _of_layer(spec: LayerSpec, mapping: Mapping, ranges: Ranges) -> Iterator[Problem]:
    """Yield the windows of a layer's units, those of the second read-out range too."""
    bits, copies = mapping.output_bits, mapping.output_copies
    by_tile = mapping.partial_sums == "digital" and len(spec.tile_lo) > 1
    identity = spec.activation is None and mapping.output_range == "column"
    if by_tile or identity:
        place = spec.identity(mapping)
        yield Problem(place.key, (place,), (FUNCTIONS[None],), spec.start, copies)
    if identity or (by_tile and spec.activation is None):
        return
    for one in [spec] if spec.fine is None else [spec, spec.fine]:
        for place in one.placements(bits):
            moments = _moments(place, one, ranges)
            function = FUNCTIONS[spec.activation]
            yield Problem(place.key, (place,), (function,), spec.start, copies, *moments)


def _moments(
    place: Placement, spec: LayerSpec, ranges: Ranges
) -> tuple[Float | None, Float | None]:
    """Return mean and deviation of the inputs of each column, in u."""
    mean, std = (ranges.get(f"{spec.name}.{key}") for key in ("mean", "std"))
    if mean is None or std is None:
        return None, None
    span = (place.high - place.low).astype(np.float64)
    center = mean[place.columns] + spec.bias[place.columns]
    return (center - place.low) / span, std[place.columns] / span


def _of_products(ops: _Recorder, mapping: Mapping, ranges: Ranges) -> Iterator[Problem]:
    """Yield the log and exp units of all blocks of products: blocks share what is the same."""
    functions: dict[str, LevelFunction] = {}
    used: dict[str, list[NDArray[Any]]] = {}
    for name, operands in ops.operands.items():
        own = mapping.of(name)
        found = product_functions(own)
        tops = ceilings(ranges, name, operands, own.output_margin)
        last = found.exp.codes.shape[1] - 1
        logs, exps = converted_levels(operands, tops, exact_units(own), last)
        magnitudes = logs[logs < 2**own.input_bits - 1]  # 0 is recognised digitally
        for function, levels in ((found.log, magnitudes), (found.exp, exps)):
            functions[function.key] = function
            used.setdefault(function.key, []).append(levels)
    for key, function in functions.items():
        yield of_levels(function, function.repeat, np.concatenate(used[key]))


def of_levels(function: LevelFunction, repeat: int, used: NDArray[Any]) -> Problem:
    """Return the windows of units that convert DAC levels."""
    low, levels = np.zeros(1, np.float32), function.codes.shape[1]
    places = tuple(
        Placement(key, np.arange(1), windows, low, low + 1) for key, windows in function.windows()
    )
    top = 2**function.bits - 1
    functions = tuple(
        lambda z, codes=codes: codes[np.rint(z * (levels - 1)).astype(np.int64)] / top
        for codes in function.codes
    )
    return Problem(function.key, places, functions, repeat=repeat, levels=levels, used=used)

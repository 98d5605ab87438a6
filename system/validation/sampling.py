"""What is replayed: recording an inference, and the stratified choice among what it recorded."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit
from behavioral.acam_unit import copy_seeds
from behavioral.library import Library
from behavioral.products import ProductModel
from behavioral.threads import one_blas_thread
from system.calibration import Ranges
from system.engine import AnalogOps, layer_tensors
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.models.ops import Activation, Array, Cache, Mask
from system.models.patches import Convolution
from system.networks import Network
from system.quantization import fake_quantize

IMAGES = 16  # of every batch, whose patches a convolution may keep
KEPT_INPUTS = 1024  # recorded inputs a layer keeps, spread over what it saw
EXTREMES = 4  # at most so many of the stimuli of a tile are extremes
PRODUCT_ROWS = 256  # recorded rows of an element-wise product
POOL = 4096  # conversions of a unit among which searches are chosen
NEAR_LSB = 1 / 32  # of the data line: closer to an edge a code may differ

Index = NDArray[np.int64]
Cells = TypeVar("Cells", bound=AcamModel)


@dataclass(frozen=True)
class Sampling:
    """How many of everything are replayed in each layer.

    Attributes
    ----------
    tiles : row tiles: the first, the last, and one drawn from each equal part between them.
    columns : columns of a tile: the heaviest (largest sum of conductances), the lightest, and one
        drawn from each of equal parts of the others, ordered by load.
    stimuli : inputs of a tile. Up to four are extremes: largest and smallest drive, largest and
        smallest output of the chosen columns. The others are drawn from equal parts of all
        recorded inputs, ordered by drive: a proportional sample of what the network did.
    searches : ACAM conversions, shared among the units of the chosen tiles, of both read-out ranges
        and among copies. Half are drawn from equal parts of the recorded ones, ordered by data-line
        position; two are the ends; the others lie within `NEAR_LSB` of a window
        edge (0.03 LSB at 16,384 cells).
    """

    tiles: int = 4
    columns: int = 3
    stimuli: int = 16
    searches: int = 16


class KeepingModel(AcamModel):
    """The cell model, noting the units that it programs while `programmed` is a list."""

    programmed: list[AcamUnit] | None = None

    def program(self, *args: Any, **options: Any) -> AcamUnit:
        """Program and note a unit, each copy of it, with all that a replay needs."""
        program = super().program
        if self.programmed is None:
            return program(*args, **options)
        options |= {"keep_thresholds": True, "keep_conductances": True}
        keys = copy_seeds(options.get("seed", 0), options.get("copies", 1))
        units = [program(*args, **options | {"seed": key, "copies": 1}) for key in keys]
        self.programmed += units
        return units[0] if len(units) == 1 else program(*args, **options)


class RecordedLinear(AnalogLinear):
    """A layer that keeps each copy of its ACAM units, not only the sum of their codes.

    Attributes
    ----------
    copies : list of lists of AcamUnit
        In the order in which the layer programs and uses them: those of each tile, or of the
        layer; those of the second read-out range.
    """

    def __init__(self, *args: Any):
        self.copies: list[list[AcamUnit]] = []
        super().__init__(*args)

    def data_lines(self, drive: Array) -> list[Array]:
        """Return the positions (n, out) in [0, 1] that each entry of `copies` sees."""
        parts = [self.multiply(drive, i) for i in range(len(self.tiles))]
        if not self.digital_sum:
            total = np.add.reduce(parts)
            ranged = self._ranged
            ranges = [self._conversions[0], *([] if ranged is None else [ranged.fine])]
            return [np.clip(c.position(total), 0.0, 1.0) for c in ranges]
        tiles = list(zip(self._conversions, parts, strict=False))
        lines = [c.position(y) for c, y in tiles]
        for last in self._conversions[len(tiles) :]:
            z = np.add.reduce([c.value(c.codes(y)) for c, y in tiles])
            ends = self.spec.y_lo, self.spec.y_hi
            z = fake_quantize(z, *ends, self.mapping.input_bits)
            lines.append(last.position(z))
        return [np.clip(u, 0.0, 1.0) for u in lines]

    def _program_windows(self, *args: Any, **options: Any) -> AcamUnit:
        model = self.hardware.acam
        assert isinstance(model, KeepingModel)
        model.programmed = []
        unit = super()._program_windows(*args, **options)
        self.copies.append(model.programmed)
        model.programmed = None
        return unit


class RecordingOps(AnalogOps):
    """The analog engine, keeping a sample of what every layer saw.

    Parameters
    ----------
    *args
        As `AnalogOps`.
    layers : names, optional
        Layers, and blocks of products, whose inputs and programmed devices are kept; default: all.

    Attributes
    ----------
    inputs : (n, in) of each layer.
    operands : of each block of products, first sequence: (a, b), or (q, k, v) of attention.
    product_units : log units of each copy, then exp units, of each block.
    """

    def __init__(self, *args: Any, layers: Collection[str] | None = None):
        super().__init__(*args)
        self.inputs: dict[str, Array] = {}
        self.operands: dict[str, tuple[Array, ...]] = {}
        self.product_units: dict[str, list[AcamUnit]] = {}
        self._wanted = layers

    def layer(self, name: str, activation: Activation) -> AnalogLinear:
        """Return a programmed layer; only recorded ones keep their devices."""
        self.hardware.keep_devices = wanted = self._is_wanted(name)
        if wanted and name not in self.layers:
            weight, bias = layer_tensors(self._tensors, name)
            self.layers[name] = RecordedLinear(
                name, weight, bias, activation, self._ranges, self.hardware, self.chip
            )
        return super().layer(name, activation)

    def recorded(self, name: str) -> RecordedLinear:
        """Return a layer that was recorded."""
        layer = self.layers[name]
        assert isinstance(layer, RecordedLinear)
        return layer

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Run the layer and keep some of its inputs."""
        self._keep(name, x.reshape(-1, x.shape[-1]))
        return super().linear(name, x, activation)

    def convolve(
        self, name: str, x: Array, shape: Convolution, activation: Activation = None
    ) -> Array:
        """Run the layer and keep some of its patches."""
        if shape.groups == 1 and self._is_wanted(name):
            few = x[:: max(1, len(x) // IMAGES)]
            self._keep(name, shape.patches(shape.pad(few)))
        return super().convolve(name, x, shape, activation)

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Multiply and keep some of the operands."""
        if self._is_wanted(name) and name not in self.operands:
            flat = (x.reshape(-1, x.shape[-1])[:PRODUCT_ROWS] for x in (a, b))
            self.operands[name] = tuple(x.copy() for x in flat)
        return super().multiply(name, a, b)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Attend and keep the operands of the first sequence."""
        if self._is_wanted(name) and name not in self.operands:
            self.operands[name] = (q[:1].copy(), k[:1].copy(), v[:1].copy())
        return super().attention(name, q, k, v, cache, mask)

    def product_model(self, name: str) -> ProductModel:
        """Return the tables of a block of products that ran."""
        return self._products[name]

    @property
    def ranges(self) -> Ranges:
        """The calibrated ranges of all layers and blocks."""
        return self._ranges

    def _units(self, name: str) -> ProductModel:
        if name in self._products or not self._is_wanted(name):
            return super()._units(name)
        model = self.hardware.acam
        assert isinstance(model, KeepingModel)
        model.programmed = []
        found = super()._units(name)
        self.product_units[name], model.programmed = model.programmed, None
        return found

    def _is_wanted(self, name: str) -> bool:
        return self._wanted is None or name in self._wanted

    def _keep(self, name: str, x: Array) -> None:
        """Keep up to KEPT_INPUTS inputs of a layer."""
        if self._is_wanted(name):
            new = x[:: max(1, len(x) // KEPT_INPUTS)].astype(np.float32)
            seen = np.concatenate([self.inputs.get(name, new[:0]), new])
            self.inputs[name] = seen[:: -(-len(seen) // KEPT_INPUTS)]


def hardware_of(network: Network, library: Library, keep_devices: bool = False) -> Hardware:
    """Return the models on which `nldpe infer` runs the network."""
    return Hardware(library, network.mapping, keep_devices)


def use_cells(hardware: Hardware, kind: type[Cells]) -> Cells:
    """Let a kind of cell model that does more program the ACAM units, and return it."""
    model = kind.from_library(hardware.library)
    model.spare_rows = hardware.acam.spare_rows
    hardware.acam = model
    return model


def record(
    network: Network,
    library: Library,
    samples: int,
    chip: Chip,
    layers: Collection[str] | None = None,
) -> RecordingOps:
    """Run a noisy inference that keeps stimuli and programmed conductances."""
    hardware = hardware_of(network, library)
    use_cells(hardware, KeepingModel)
    ops = RecordingOps(network.model.tensors, network.ranges, hardware, chip, layers=layers)
    with one_blas_thread():
        network.score(ops, network.samples(samples), f"recording {network.name}")
    return ops


def layer_generator(name: str, *key: int) -> np.random.Generator:
    """Return the stream of a layer's choices; it does not depend on which layers are replayed."""
    return np.random.default_rng((*key, zlib.crc32(name.encode())))


def spread(key: NDArray[Any], count: int, rng: np.random.Generator) -> Index:
    """Return up to `count` positions: the largest key, the smallest, one from each part between."""
    order = np.argsort(key, kind="stable").astype(np.int64)
    if count >= len(order):
        return order
    if count == 1:
        return order[-1:]
    return np.concatenate([order[[-1, 0]], strata(order[1:-1], count - 2, rng)])


def strata(ordered: Index, count: int, rng: np.random.Generator) -> Index:
    """Return one drawn from each of up to `count` equal parts of an ordered sequence."""
    parts = np.array_split(ordered, min(count, len(ordered))) if count and len(ordered) else []
    return np.array([rng.choice(part) for part in parts], np.int64)


@dataclass(frozen=True)
class Stimuli:
    """Recorded inputs that one tile replays.

    Attributes
    ----------
    index : (n,) int array, numbers in the recording.
    natural : number of them, the first, that sample what the network did; extremes follow.
    """

    index: Index
    natural: int


def choose_stimuli(
    drive: Array, outputs: Array, sampling: Sampling, rng: np.random.Generator
) -> Stimuli:
    """Choose among recorded inputs, given their drives (n, rows) and outputs (n, columns)."""
    strength = np.abs(drive).sum(axis=1)
    extremes = np.array([
        strength.argmax(),
        outputs.max(axis=1).argmax(),
        outputs.min(axis=1).argmin(),
        strength.argmin(),
    ])[: min(EXTREMES, sampling.stimuli // 2)]  # fmt: skip
    order = np.argsort(strength, kind="stable").astype(np.int64)
    natural = strata(order, sampling.stimuli - len(extremes), rng)
    others = [e for e in dict.fromkeys(extremes.tolist()) if e not in natural]
    return Stimuli(np.concatenate([natural, np.array(others, np.int64)]), len(natural))


@dataclass(frozen=True)
class Conversions:
    """ACAM conversions that one unit replays.

    Attributes
    ----------
    stimulus, column : (n,) int arrays
    u : (n,) float32 array, positions on the data line.
    distance_lsb : (n,) float array, to the nearest window edge.
    kind : (n,) str array: "natural", "near" (an edge) or "end".
    near : (n,) bool array, within NEAR_LSB of an edge.
    near_share : share of all recorded conversions that are near.
    """

    stimulus: Index
    column: Index
    u: Array
    distance_lsb: NDArray[np.float64]
    kind: NDArray[np.str_]
    near: NDArray[np.bool_]
    near_share: float


def choose_conversions(
    unit: AcamUnit,
    u: Array,
    count: int,
    rng: np.random.Generator,
    used: NDArray[np.bool_] | None = None,
) -> Conversions:
    """Choose among the conversions of a unit.

    Parameters
    ----------
    u : (stimuli, columns) float array
        Positions on the data line, clipped to [0, 1].
    used : (stimuli, columns) bool array, optional
        Conversions whose code is taken; default, and where none is: all.
    """
    usable = np.arange(u.size) if used is None or not used.any() else np.flatnonzero(used)
    pool = np.sort(rng.choice(usable, size=min(POOL, len(usable)), replace=False))
    stimulus, column = np.unravel_index(pool, u.shape)
    value = u[stimulus, column]
    distance = edge_distance(unit, value, column)
    close = distance < NEAR_LSB
    near = np.flatnonzero(close)
    order = np.argsort(value, kind="stable").astype(np.int64)
    picked = [strata(order, -(-count // 2), rng)]
    ends = order[[-1, 0]][: min(2, count // 4)]
    left = min(count - len(picked[0]) - len(ends), len(near))
    picked += [ends, rng.choice(near, size=left, replace=False)]
    kind = np.repeat(["natural", "end", "near"], [len(p) for p in picked])
    at = np.concatenate(picked)
    return Conversions(
        stimulus[at], column[at], value[at], distance[at], kind, close[at], len(near) / len(pool)
    )


def edge_distance(unit: AcamUnit, u: Array, column: Index) -> NDArray[np.float64]:
    """Return the distance [LSB, 1/256 of the data line] of u (n,) from the nearest window edge.

    Edges of rows that never match, and open bounds, do not count.
    """
    assert unit.lo is not None
    assert unit.hi is not None
    shared = len(unit.lo) == 1
    out = np.empty(len(u))
    for c in np.unique(column):
        lo, hi = unit.lo[0 if shared else c], unit.hi[0 if shared else c]
        edges = np.concatenate([lo[lo < hi], hi[lo < hi]]).astype(float)
        edges = np.sort(edges[(edges > 0.0) & (edges < 1.0)])
        mine = column == c
        out[mine] = _nearest(edges, u[mine].astype(float))
    return out * 256.0


def _nearest(edges: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(edges):
        return np.ones_like(u)
    place = np.searchsorted(edges, u)
    below, above = edges[np.maximum(place - 1, 0)], edges[np.minimum(place, len(edges) - 1)]
    return np.minimum(np.abs(u - below), np.abs(above - u))

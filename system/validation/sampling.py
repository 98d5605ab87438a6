"""What is replayed: recording an inference, and the stratified choice among what it recorded."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamUnit
from behavioral.library import Library
from behavioral.threads import one_blas_thread
from system.engine import AnalogOps
from system.linear import COARSE_CELLS, COARSE_FROM, FINE_CELLS, AnalogLinear, Chip, Hardware
from system.models.ops import Activation, Array
from system.models.patches import Convolution
from system.networks import Network

IMAGES = 16  # of every batch, whose patches a convolution may keep
KEPT_INPUTS = 1024  # recorded inputs a layer keeps, spread over what it saw
EXTREMES = 4  # at most so many of the stimuli of a tile are extremes
POOL = 4096  # conversions of a unit among which searches are chosen
NEAR_LSB = 0.03  # two cells of a step table: closer to an edge a code may differ

Index = NDArray[np.int64]


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
    searches : ACAM conversions. Half are drawn from equal parts of the recorded ones, ordered by
        data-line position; two are the ends; the others lie within 0.03 LSB of a window edge.
    """

    tiles: int = 4
    columns: int = 3
    stimuli: int = 16
    searches: int = 16


class RecordingOps(AnalogOps):
    """The analog engine, keeping a sample of what every layer saw.

    Parameters
    ----------
    *args
        As `AnalogOps`.
    layers : names, optional
        Layers whose inputs and programmed devices are kept; default: all.
    """

    def __init__(self, *args: Any, layers: Collection[str] | None = None):
        super().__init__(*args)
        self.inputs: dict[str, Array] = {}
        self._wanted = layers

    def layer(self, name: str, activation: Activation) -> AnalogLinear:
        """Return a programmed layer; only recorded ones keep their devices."""
        self.hardware.keep_devices = self._is_wanted(name)
        return super().layer(name, activation)

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
    size = sum(t.size for t in network.model.tensors.values())
    cells = COARSE_CELLS if size >= COARSE_FROM else FINE_CELLS
    return Hardware(library, network.mapping, keep_devices=keep_devices, cells=cells)


def record(
    network: Network,
    library: Library,
    samples: int,
    chip: Chip,
    layers: Collection[str] | None = None,
) -> RecordingOps:
    """Run a noisy inference that keeps stimuli and programmed conductances."""
    hardware = hardware_of(network, library)
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
    near_share : share of all recorded conversions within NEAR_LSB of an edge.
    """

    stimulus: Index
    column: Index
    u: Array
    distance_lsb: NDArray[np.float64]
    kind: NDArray[np.str_]
    near_share: float


def choose_conversions(
    unit: AcamUnit, u: Array, count: int, rng: np.random.Generator
) -> Conversions:
    """Choose among the conversions u (stimuli, columns) of a unit, clipped to [0, 1]."""
    pool = np.sort(rng.choice(u.size, size=min(POOL, u.size), replace=False))
    stimulus, column = np.unravel_index(pool, u.shape)
    value = u[stimulus, column]
    distance = edge_distance(unit, value, column)
    near = np.flatnonzero(distance < NEAR_LSB)
    order = np.argsort(value, kind="stable").astype(np.int64)
    picked = [strata(order, -(-count // 2), rng)]
    ends = order[[-1, 0]][: min(2, count // 4)]
    left = min(count - len(picked[0]) - len(ends), len(near))
    picked += [ends, rng.choice(near, size=left, replace=False)]
    kind = np.repeat(["natural", "end", "near"], [len(p) for p in picked])
    at = np.concatenate(picked)
    return Conversions(
        stimulus[at], column[at], value[at], distance[at], kind, len(near) / len(pool)
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

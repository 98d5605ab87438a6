"""A language model with some of its parts on circuit models and all else exact.

Which part loses what: one is switched on at a time. Whole sequences only; generation needs none of
this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.array import ProgrammedArray
from behavioral.library import Library
from behavioral.products import LogCodes, ProductModel
from circuits.errors import ParameterError
from system.attention import AnalogAttention, AnalogCache
from system.engine import AnalogOps, layer_tensors
from system.hardware import Chip, Hardware
from system.layer_spec import FUNCTIONS
from system.linear import FINE_PART, AnalogLinear
from system.models.ops import Activation, Array, Cache, FloatOps, Mask, causal_mask
from system.networks import Network
from system.quantization import Float, block_scale

PARTS = {
    "codes": "DAC codes of the inputs, 8-bit weights",
    "crossbars": "these codes, cells and wires",
    "outputs": "conversion of column outputs by identity ACAM units",
    "activations": "conversion of column outputs by ACAM units that compute SiLU or GELU",
    "products": "QK^T, attention x V and the gate product by log, add, exp",
    "softmax": "exp and log units of softmax",
}
LINEAR = ("codes", "crossbars", "outputs", "activations")


@dataclass(frozen=True)
class Parts:
    """Which parts are on circuit models; of linear layers only those with `kind` in their name."""

    on: frozenset[str] = frozenset()
    kind: str = ""

    @classmethod
    def of(cls, names: Iterable[str], kind: str = "") -> Parts:
        """Choose parts by name.

        Raises
        ------
        ParameterError
            There is no such part.
        """
        chosen = frozenset(names)
        unknown = sorted(chosen - PARTS.keys())
        if unknown:
            raise ParameterError(f"no part is called {unknown[0]!r}; known: {', '.join(PARTS)}")
        return cls(chosen, kind)

    def __str__(self) -> str:
        names = [part for part in PARTS if part in self.on]
        return (", ".join(names) or "none") + (self.kind and f", {self.kind} only")

    def includes(self, *names: str, layer: str = "") -> bool:
        """Return whether one of these parts is on, in a layer."""
        return not self.on.isdisjoint(names) and (not layer or self.kind in layer)


EVERYTHING = Parts.of(PARTS)


@dataclass
class Switch:
    """The parts that layers look at when they run; changed between two passes."""

    parts: Parts = field(default_factory=Parts)


class PartLinear(AnalogLinear):
    """A layer whose parts are switched on and off, and programmed when first used."""

    together = False

    def __init__(self, switch: Switch, name: str, weight: Float, *rest: Any) -> None:
        self._switch, self._weight = switch, weight
        self._targets: list[tuple[Float, Float | None]] = []
        self._programmed: dict[int, ProgrammedArray] = {}
        super().__init__(name, weight, *rest)
        if self.digital_sum or self.mapping.output_trim:
            raise ParameterError(
                "layers with partial_sums=digital or output_trim=true are not taken apart; leave "
                "these choices of the mapping out"
            )

    def _is_on(self, *names: str) -> bool:
        return self._switch.parts.includes(*names, layer=self.spec.name)

    def _program_tile(self, w: Float, rows: Float | None, tile: int) -> Any:
        self._targets.append((w, rows))

    def _program_units(self) -> list[Any]:
        return []

    def _lay_out(self) -> list[Any]:
        return []

    def _program_function(self, spec: Any, part: int) -> Any:
        return None

    def _prepare(self, tile: int) -> None:
        """Program what is on and was never used before."""
        if self._is_on("crossbars") and tile not in self._programmed:
            made = super()._program_tile(*self._targets[tile], tile)
            self._programmed[tile] = self.arrays[tile] = made
        if self._converts() and not self.units:
            self.units = [super()._program_function(self.spec, 0)]
            if self.spec.fine is not None:
                self.fine_unit = super()._program_function(self.spec.fine, FINE_PART)
            self._conversions = super()._lay_out()

    def _converts(self) -> bool:
        return self._is_on("outputs" if self.spec.activation is None else "activations")

    def forward(self, x: Float) -> Float:
        """Return values (n, out) for activations x (n, in)."""
        if self._is_on("codes", "crossbars"):
            return super().forward(x)
        scale = block_scale(x, self.spec.norm) if self.spec.blocks else None
        exact = x if scale is None else x / scale
        out = self._convert_sum([self._drive_tile(exact, i) for i in range(len(self.tiles))])
        return out if scale is None else out * scale

    def _levels(self, even: Float) -> Float:
        return super()._levels(even) if self._is_on("crossbars") else even

    def _drive_tile(self, drive: Float, tile: int) -> Float:
        self._prepare(tile)
        if self._is_on("crossbars"):
            return super()._drive_tile(drive, tile)
        return np.ascontiguousarray(drive[:, self.tiles[tile]])

    def _read(self, driven: Float, tile: int, columns: slice, first: int, out: Float) -> None:
        if self._is_on("crossbars"):
            return super()._read(driven, tile, columns, first, out)
        if self._is_on("codes"):
            np.matmul(driven, self._targets[tile][0][:, columns], out=out)
        else:
            exact = self._weight[columns, self.tiles[tile]] / self.spec.gain[columns, None]
            np.matmul(driven, exact.T, out=out)
        if self.mapping.ground_trim:  # the spec takes off what is not there
            out += self.ground(self._targets[tile][0][:, columns])
        return None

    def _convert_sum(self, driven: list[Float]) -> Float:
        if self._converts():
            return super()._convert_sum(driven)
        total = np.zeros((len(driven[0]), len(self.spec.gain)), np.float32)
        for tile, (part, first) in enumerate(
            zip(driven, self._count_reads(len(total)), strict=True)
        ):
            y = np.empty_like(total)
            self._read(part, tile, slice(0, y.shape[1]), first, y)
            total += y
        z = total * self.spec.gain + self.spec.bias
        return FUNCTIONS[self.spec.activation](z.astype(np.float64)).astype(np.float32)


class ExactSoftmax(ProductModel):
    """Log and exp units whose softmax is exact, rounded to the nearest log code."""

    @classmethod
    def beside(cls, units: ProductModel) -> ExactSoftmax:
        """Return these units with another softmax."""
        return cls(**{f.name: getattr(units, f.name) for f in fields(ProductModel)})

    def softmax(
        self, scores: ArrayLike, *, limit: ArrayLike | None = None, place: ArrayLike | None = None
    ) -> LogCodes:
        """Return softmax over the last axis; arguments as in `ProductModel.softmax`."""
        x = np.array(scores, np.float64)
        if limit is not None:
            x[..., np.arange(x.shape[-1]) >= np.asarray(limit)[:, None]] = -np.inf
        x -= x.max(axis=-1, keepdims=True)
        steps = np.minimum(np.rint(-x / self.delta), self.zero)
        last = self.finer * (2**self.bits - 1)
        code = np.where(steps >= last, self.zero, steps).astype(np.uint16)
        total = np.exp(x).sum(axis=-1)
        return LogCodes(code, (1.0 / total).astype(np.float32))


class PartOps(AnalogOps):
    """Arithmetic of one chip on which parts are switched on and off.

    Parameters
    ----------
    network : Network
        A language model.
    library : Library
    chip : Chip
    """

    def __init__(self, network: Network, library: Library, chip: Chip) -> None:
        self.switch, self._exact = Switch(), FloatOps(network.model.tensors)
        self._softmaxes: dict[str, AnalogAttention] = {}
        hardware = Hardware(library, network.mapping)
        super().__init__(network.model.tensors, network.ranges, hardware, chip)

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b)."""
        if not self.switch.parts.includes(*LINEAR, layer=name):
            return self._exact.linear(name, x, activation)
        return super().linear(name, x, activation)

    def layer(self, name: str, activation: Activation) -> AnalogLinear:
        """Return a layer with parts that can be switched."""
        if name not in self.layers:
            tensors = layer_tensors(self._tensors, name)
            self.layers[name] = PartLinear(
                self.switch, name, *tensors, activation, self._ranges, self.hardware, self.chip
            )
        return self.layers[name]

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return a * b."""
        if self.switch.parts.includes("products"):
            return super().multiply(name, a, b)
        return self._exact.multiply(name, a, b)

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias."""
        if self.switch.parts.includes("activations"):
            return super().dynamic_tanh(name, x)
        return self._exact.dynamic_tanh(name, x)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Return attention of whole sequences."""
        parts = self.switch.parts
        if parts.includes("products") and parts.includes("softmax"):
            return super().attention(name, q, k, v, cache, mask)
        if cache is not None or mask is not None:
            raise TypeError("parts are switched for whole causal sequences only")
        if parts.includes("products"):
            if name not in self._softmaxes:
                exact = ExactSoftmax.beside(self._units(name))
                margin = self.hardware.mapping.of(name).output_margin
                self._softmaxes[name] = AnalogAttention(name, exact, self._ranges, margin)
            return self._softmaxes[name].forward(q, k, v, AnalogCache())
        if parts.includes("softmax"):
            return attention_with_softmax(self._units(name), q, k, v)
        return self._exact.attention(name, q, k, v, None)


def attention_with_softmax(units: ProductModel, q: Array, k: Array, v: Array) -> Array:
    """Return exact causal attention, but for softmax on these units; shapes as in `Ops`."""
    batch, heads, time, size = q.shape
    groups = k.shape[1]
    queries = q.reshape(batch, groups, -1, size)
    scores = (queries @ k.swapaxes(-1, -2)) * np.float32(size**-0.5)
    position: NDArray[np.int64] = np.tile(np.arange(time), heads // groups)
    np.copyto(scores, np.float32(-np.inf), where=~causal_mask(time, time)[position])
    weights = units.decode(units.softmax(scores, limit=position + 1, place=position))
    mixed: Array = weights @ v
    return mixed.reshape(batch, heads, time, size)

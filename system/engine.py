"""The modes, from software to silicon: one `Ops` each, so that a loss can be attributed.

float -> quantized -> ideal-analog -> noisy. The last two run every multiply-accumulate,
activation, softmax and data-dependent product on the behavioural models of a library. Digital in
every mode: embedding, normalisation, position encoding, residual adds, pooling comparators.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, MutableMapping
from collections.abc import Mapping as Table
from functools import partial
from typing import cast

import numpy as np

from behavioral.library import Library
from behavioral.products import ProductModel
from circuits.errors import ParameterError
from system.attention import AnalogAttention, AnalogCache
from system.calibration import Ranges, peaks
from system.chip_store import ChipStore
from system.dynamic_tanh import TanhUnits
from system.hardware import Chip, Hardware
from system.layer_spec import IDENTITY, QuantizedLinear
from system.linear import AnalogLinear
from system.models.groups import convolve_bundles
from system.models.ops import Activation, Array, Cache, FloatOps, Mask, Ops
from system.models.patches import Convolution
from system.networks import Network
from system.quantization import Mapping
from system.weights.acam_windows import place_tuned

MODES = ("float", "quantized", "ideal-analog", "noisy")


class QuantizedOps(FloatOps):
    """8-bit codes at every converter, exact arithmetic between them: an INT8 accelerator.

    Operands of data-dependent products carry a sign and 8 bits of magnitude; softmax is exact.
    `layers` holds those used so far.
    """

    def __init__(self, tensors: Table[str, Array], ranges: Ranges, mapping: Mapping, rows: int):
        super().__init__(tensors, rows)
        self._ranges, self._mapping, self._rows = ranges, mapping, rows
        self.layers: dict[str, QuantizedLinear] = {}

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b) in 8-bit codes."""
        layer = self.layers.get(name)
        if layer is None:
            weight, bias = layer_tensors(self._tensors, name)
            layer = QuantizedLinear(
                name, weight, bias, activation, self._ranges, self._mapping.of(name), self._rows
            )
            self.layers[name] = layer
        return layer.forward(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return a * b with 8-bit magnitudes."""
        size = a.shape[-1]
        return self._round(name, "a", a, size) * self._round(name, "b", b, size)

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias, from codes to codes."""
        units = TanhUnits(None, name, self._tensors, self._ranges, self._mapping.of(name))
        return units.forward(x)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Return attention of 8-bit operands."""
        q, k, v = (
            self._round(name, key, value, value.shape[1])
            for key, value in (("q", q), ("k", k), ("v", v))
        )
        return super().attention(name, q, k, v, cache, mask)

    def _round(self, name: str, key: str, x: Array, size: int) -> Array:
        """Round to a sign and `input_bits` bits of magnitude; x is (B, heads, T, D) or (..., size).

        Ceilings are those of heads or channels, `size` of them.
        """
        mapping = self._mapping.of(name)
        peak = peaks(
            self._ranges, f"{name}.{key}", size, mapping.output_margin, shared=x.ndim < 4
        )  # fmt: skip
        if x.ndim == 4:
            peak = peak[None, :, None, None]
        top = np.float32(2**mapping.input_bits - 1)
        step = peak / top
        return np.clip(np.round(x / step), -top, top) * step


def layer_tensors(tensors: Table[str, Array], name: str) -> tuple[Array, Array | None]:
    """Return weight (out, in) and bias of a layer; kernels of convolutions are flattened."""
    weight = tensors[f"{name}.weight"]
    return weight.reshape(len(weight), -1), tensors.get(f"{name}.bias")


class AnalogOps:
    """Everything on the behavioural models of one programmed chip.

    Layers and product units are programmed when first used; the draws are keyed by name, so the
    order does not matter.

    Parameters
    ----------
    tensors : the network's parameters
    ranges : calibrated ranges
    hardware : Hardware
    chip : Chip

    Attributes
    ----------
    store : ChipStore or None
        Where programmed layers are kept.
    stream : bool
        Let a layer go when the next one is asked for; with a store it is mapped again.
    move : callable or None
        Takes a programmed layer to where it is computed.
    """

    store: ChipStore | None = None
    stream: bool = False
    move: Callable[[AnalogLinear], AnalogLinear] | None = None

    def __init__(self, tensors: Table[str, Array], ranges: Ranges, hardware: Hardware, chip: Chip):
        self._tensors = ChainMap[str, Array]({}, cast(MutableMapping[str, Array], tensors))
        self._ranges = ranges
        self.hardware, self.chip = hardware, chip
        self.counters = hardware.counters
        self.layers: dict[str, AnalogLinear] = {}
        self._attention: dict[str, AnalogAttention] = {}
        self._products: dict[str, ProductModel] = {}
        self._tanhs: dict[str, TanhUnits] = {}
        self._reads: dict[str, list[int]] = {}  # of layers that were let go

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b) from crossbars and ACAM units."""
        flat = np.ascontiguousarray(x.reshape(-1, x.shape[-1]), np.float32)
        return self.layer(name, activation).forward(flat).reshape(*x.shape[:-1], -1)

    def convolve(
        self, name: str, x: Array, shape: Convolution, activation: Activation = None
    ) -> Array:
        """Return f(x * W + b) from crossbars and ACAM units."""
        if shape.groups > 1:
            rows = self.hardware.tile_rows
            return convolve_bundles(self, self._tensors, name, x, shape, activation, rows)
        return self.layer(name, activation).convolve(np.ascontiguousarray(x, np.float32), shape)

    def layer(self, name: str, activation: Activation) -> AnalogLinear:
        """Return a programmed layer; programs it when first asked."""
        layer = self.layers.get(name)
        if layer is None:
            if self.stream:
                self._reads |= {old: kept.reads for old, kept in self.layers.items()}
                self.layers.clear()
            layer = self._program(name, activation)
            layer.reads = self._reads.get(name, layer.reads)
            if self.move is not None:
                layer = self.move(layer)
            self.layers[name] = layer
        return layer

    def _program(self, name: str, activation: Activation) -> AnalogLinear:
        """Program a layer, or take it from where chips are kept."""
        weight, bias = layer_tensors(self._tensors, name)

        def new() -> AnalogLinear:
            return AnalogLinear(
                name, weight, bias, activation, self._ranges, self.hardware, self.chip
            )

        if self.store is None:
            return new()
        state = self.store.layer(f"{name}.{activation}", self.decisive(name), lambda: new().state())
        return AnalogLinear.from_state(state, self.hardware, self.chip)

    def parts(self, name: str) -> tuple[dict[str, Array], Ranges]:
        """Return the tensors and the ranges from which a layer is programmed."""
        tensors = {
            key: self._tensors[key]
            for key in (f"{name}.weight", f"{name}.bias")
            if key in self._tensors
        }
        mine = (f"{name}.", IDENTITY)
        return tensors, {k: self._ranges[k] for k in sorted(self._ranges) if k.startswith(mine)}

    def decisive(self, name: str) -> list[Array | None]:
        """Return the arrays that decide what a layer is programmed to."""
        return [*layer_tensors(self._tensors, name), *self.parts(name)[1].values()]

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return exp(log a + log b) with signs; each channel's code spans its own range."""
        products, size = self._units(name), a.shape[-1]
        margin = self.hardware.mapping.of(name).output_margin
        one, two = (peaks(self._ranges, f"{name}.{k}", size, margin, shared=True) for k in "ab")
        left = products.encode(a.reshape(-1, size), 1.0, scales=one)
        right = products.encode(b.reshape(-1, size), 1.0, scales=two)
        self._count(a.size * 2, left.clipped + right.clipped)
        return products.multiply(left, right, one * two).reshape(a.shape)

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias, the tanh from ACAM units."""
        if name not in self._tanhs:
            self._tanhs[name] = TanhUnits(
                self.hardware.acam, name, self._tensors, self._ranges,
                self.hardware.mapping.of(name), self.chip.stream(name), self.chip.noise != "none",
            )  # fmt: skip
        self._count(x.size, 0)
        return self._tanhs[name].forward(x)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Return attention by log, add, exp."""
        if cache is None:
            cache = AnalogCache()
        if not isinstance(cache, AnalogCache):
            raise TypeError("AnalogOps reads only a cache made by AnalogOps.new_cache")
        block = self._attention.get(name)
        if block is None:
            margin = self.hardware.mapping.of(name).output_margin
            block = AnalogAttention(name, self._units(name), self._ranges, margin)
            self._attention[name] = block
        before = block.clipped
        out = block.forward(q, k, v, cache, mask)
        self._count(q.size + k.size + v.size, block.clipped - before)
        return out

    def new_cache(self) -> AnalogCache:
        """Return an empty cache of log codes."""
        return AnalogCache()

    def _units(self, name: str) -> ProductModel:
        """Program the log and exp units of one block of data-dependent products."""
        if name not in self._products:
            mapping = self.hardware.mapping.of(name)
            self._products[name] = ProductModel.program(
                self.hardware.acam,
                bits=mapping.output_bits,
                in_bits=mapping.input_bits,
                seed=self.chip.stream(name),
                noise=self.chip.noise != "none",
                copies=mapping.product_copies,
                log_copies=mapping.log_copies,
                finer=mapping.finer,
                placed=partial(place_tuned, self._ranges),
            )
        return self._products[name]

    def _count(self, conversions: int, clipped: int) -> None:
        self.counters.conversions += conversions
        self.counters.clipped += clipped


def make_ops(network: Network, library: Library, mode: str, chip: Chip) -> Ops:
    """Return the arithmetic of a mode for a network on one chip.

    Raises
    ------
    ParameterError
        Unknown mode.
    """
    tensors, rows = network.model.tensors, library.technology.column.rows
    if mode == "float":
        return FloatOps(tensors)
    if mode == "quantized":
        return QuantizedOps(tensors, network.ranges, network.mapping, rows)
    if mode not in MODES:
        raise ParameterError(f"mode {mode!r}; permitted: {', '.join(MODES)}")
    noise = "none" if mode == "ideal-analog" else chip.noise
    hardware = Hardware(library, network.mapping)
    return AnalogOps(tensors, network.ranges, hardware, Chip(chip.seed, chip.index, noise))

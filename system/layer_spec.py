"""Scales and read-out ranges of a linear layer, fixed before it is programmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from behavioral.windows import Windows
from system.calibration import Ranges, need, tiles
from system.models.ops import GELU_CUBE, GELU_SLOPE, Activation
from system.quantization import (
    Float,
    InputCodes,
    Mapping,
    block_scale,
    fake_quantize,
    quantize_weight,
    smoothing_factors,
    widen,
)
from system.weights.acam_windows import place_one_of, place_tuned

FUNCTIONS: dict[Activation, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    None: lambda z: z,
    "relu": lambda z: np.maximum(z, 0.0),
    "relu6": lambda z: np.clip(z, 0.0, 6.0),
    "sigmoid": lambda z: np.asarray(expit(z)),
    "silu": lambda z: z * expit(z),
    "gelu": lambda z: 0.5 * z * (1.0 + erf(z * 0.5**0.5)),
    "gelu_tanh": lambda z: z * expit(GELU_SLOPE * (z + GELU_CUBE * z**3)),
    "tanh": lambda z: np.tanh(z),
}
# Arguments below and above which a function is constant; silu(-8) is -0.003, sigmoid(-8) 0.0003,
# gelu(-4) -0.0001 and tanh(-4) -0.9993, less than a code of any range.
FLAT_BELOW = {
    "relu": 0.0,
    "relu6": 0.0,
    "sigmoid": -8.0,
    "silu": -8.0,
    "gelu": -4.0,
    "gelu_tanh": -4.0,
    "tanh": -4.0,
}
FLAT_ABOVE = {"relu6": 6.0, "sigmoid": 8.0, "tanh": 4.0}


Ends = tuple[Float, Float]
IDENTITY = "acam.identity"  # keys of the windows that units without a function share


@dataclass(frozen=True)
class Placement:
    """Windows that a group of columns shares, and where they lie on each column's data line.

    Attributes
    ----------
    key : name of the windows in the ranges of a network, once they are tuned
    columns : (n,) of the layer
    windows : Windows
    low, high : (n,) arguments of the function at the two ends of each data line
    """

    key: str
    columns: NDArray[np.intp]
    windows: Windows
    low: Float
    high: Float

    def on_data_line(self) -> Ends:
        """Return the bounds (n, rows) in u."""
        return self.windows.on_data_line(self.low, self.high)


@dataclass(frozen=True)
class LayerSpec:
    """What is fixed before programming: scales, ranges and window positions of a layer."""

    name: str
    activation: Activation
    codes: InputCodes
    smoothing: Float | None  # (in,) digital divisor of every input
    gain: Float  # (out,) y in units of the layer for 1 in normalised units
    bias: Float  # (out,)
    y_lo: Float  # (out,) ends of the read-out range, before the bias
    y_hi: Float
    out_lo: Float  # (out,) values of code 0 and the top code
    out_hi: Float
    tile_lo: Float  # (tiles, out)
    tile_hi: Float
    blocks: bool = False  # every input vector has its own scale, not below `norm` of its norm
    norm: float = 0.0
    start: float = 0.0  # share of the data line below code 0
    fine: LayerSpec | None = None  # the second read-out range, `Mapping.output_fine`
    inside: Ends | None = None  # of a fine range: outputs of the first that lie in it
    tuned: Ranges = field(default_factory=dict)  # windows fine-tuned for noise, by key

    def drive(self, x: Float) -> tuple[Float, Float | None]:
        """Return row drives (n, in) in [-1, 1] and the scale (n, 1) of every vector, if any."""
        scale = block_scale(x, self.norm) if self.blocks else None
        return self.codes.normalise(x if scale is None else x / scale, self.smoothing), scale

    def trimmed(self, errors: Float) -> LayerSpec:
        """Return the spec of a chip whose columns (tiles, out) are off by mean errors, in y."""
        total = errors.sum(axis=0)
        fine = self.fine
        if fine is not None:
            fine = replace(
                fine, y_lo=fine.y_lo + total, y_hi=fine.y_hi + total, bias=fine.bias - total
            )
        return replace(
            self,
            y_lo=self.y_lo + total,
            y_hi=self.y_hi + total,
            bias=self.bias - total,
            tile_lo=self.tile_lo + errors,
            tile_hi=self.tile_hi + errors,
            fine=fine,
        )

    def coded(self, low: Float, high: Float) -> Ends:
        """Return the ends of the codes on a data line from `low` to `high`."""
        return low + np.float32(self.start) * (high - low), high

    def placements(self, bits: int) -> list[Placement]:
        """Return the windows of the activation: one set for all columns of equal output range."""
        tops, group = np.unique(self.out_hi, return_inverse=True)
        line = self.y_lo + self.bias
        z_lo, z_hi = self.coded(line, self.y_hi + self.bias)
        found = []
        for i, top in enumerate(tops):
            (of,) = np.nonzero(group == i)
            function = FUNCTIONS[self.activation]
            exact = Windows.from_function(
                function,
                (float(z_lo[of].min()), float(z_hi[of].max())),
                (float(self.out_lo[0]), float(top)),
                bits=bits,
            )
            key = f"{self.name}.acam.{i}" if self.inside is None else f"{self.name}.acam.fine.{i}"
            tuned = place_one_of(self.tuned, key, exact, function)
            found.append(Placement(key, of, tuned, line[of], z_hi[of]))
        return found

    def identity(self, mapping: Mapping) -> Placement:
        """Return the windows of units that hand on the code of the data line."""
        key = f"{IDENTITY}.{mapping.output_bits}x{mapping.output_copies}"
        windows = place_tuned(self.tuned, key, _identity_windows(mapping.output_bits))
        ends = np.array([-self.start / (1.0 - self.start)]), np.array([1.0])
        return Placement(key, np.arange(len(self.gain)), windows, *ends)


@cache
def _identity_windows(bits: int) -> Windows:
    """Return the windows of y = x: those of most layers, and long to find."""
    return Windows.from_function(FUNCTIONS[None], (0.0, 1.0), (0.0, 1.0), bits=bits)


def layer_spec(
    name: str,
    weight: Float,
    bias: Float | None,
    activation: Activation,
    ranges: Ranges,
    mapping: Mapping,
    tile_rows: int,
) -> tuple[LayerSpec, Float]:
    """Turn calibrated ranges into the scales of a layer.

    Returns
    -------
    spec : LayerSpec
    w : (in, out) float32 array in [-1, 1]
        Normalised weights, smoothed and rounded.
    """
    out, inputs = weight.shape
    tile_count = len(tiles(inputs, tile_rows))
    blocks = mapping.input_blocks and activation is None and bias is None
    bias = np.zeros(out, np.float32) if bias is None else bias.astype(np.float32)
    bounds = need(ranges, f"{name}.x", (2, inputs))
    smoothing = smoothing_factors(weight, bounds, mapping.smoothing)
    if smoothing is not None:
        weight, bounds = weight * smoothing, bounds / smoothing
    w, weight_scale = quantize_weight(weight, mapping)
    codes = InputCodes.from_range(bounds[0].min(), bounds[1].max(), mapping.input_bits)
    y_range = need(ranges, f"{name}.y", (2, out))
    y_lo, y_hi = widen(y_range[0], y_range[1], mapping.output_margin)
    tile = need(ranges, f"{name}.tile", (tile_count, 2, out))
    tile = np.stack(widen(tile[:, 0], tile[:, 1], mapping.output_margin), axis=1)
    z_out = need(ranges, f"{name}.out", (2,))
    # Where the function is flat the data line may saturate: the range need not reach there.
    flat = FLAT_BELOW.get(activation or "")
    z_lo, z_hi = widen(z_out[0], z_out[1], mapping.output_margin)
    z_out = np.array([z_lo if flat is None else z_out[0], z_hi], np.float32)
    full = FLAT_ABOVE.get(activation or "")
    if flat is not None and full is not None:
        z_out[1] = min(z_out[1], float(FUNCTIONS[activation](np.array(full))))
        y_hi = np.minimum(y_hi, full - bias + mapping.flat_margin * (full - flat))
    if flat is not None:
        room = mapping.flat_margin * np.maximum(y_hi + bias - flat, 0.0)
        y_lo = np.maximum(y_lo, flat - bias - room)
        y_hi = np.maximum(y_hi, y_lo + 1e-3 * max(float(z_out[1] - z_out[0]), 1e-6))
    if mapping.output_range == "layer":
        y_lo[:], y_hi[:] = y_lo.min(), y_hi.max()
        tile[:, 0], tile[:, 1] = tile[:, 0].min(), tile[:, 1].max()
    for low, high in ((y_lo, y_hi), (tile[:, 0], tile[:, 1])):
        width = np.maximum(high - low, 1e-6)
        high[...] = low + width
        low -= np.float32(mapping.output_lift) * width
    code_lo = y_lo.copy()
    for low, high in ((y_lo, y_hi), (tile[:, 0], tile[:, 1])):
        low -= np.float32(mapping.line_start / (1.0 - mapping.line_start)) * (high - low)
    per_column = activation is None and mapping.output_range == "column"
    out_lo = code_lo + bias if per_column else np.full(out, z_out[0], np.float32)
    out_hi = y_hi + bias if per_column else np.full(out, max(z_out[1], z_out[0] + 1e-6), np.float32)
    if activation is not None and mapping.output_range == "column":
        tops = FUNCTIONS[activation]((y_hi + bias).astype(np.float64))
        out_hi = _tops(tops, out_lo, out_hi)
    gain = (weight_scale * codes.full_scale).astype(np.float32)
    spec = LayerSpec(
        name, activation, codes, smoothing, gain, bias, y_lo, y_hi,
        out_lo.astype(np.float32), out_hi.astype(np.float32), tile[:, 0], tile[:, 1], blocks,
        mapping.block_norm, mapping.line_start,
        tuned={key: ranges[key] for key in ranges if key.startswith((f"{name}.acam.", IDENTITY))},
    )  # fmt: skip
    return replace(spec, fine=_fine_range(spec, ranges, mapping)), w


def _fine_range(spec: LayerSpec, ranges: Ranges, mapping: Mapping) -> LayerSpec | None:
    """Return the second read-out range, around the mean of each column: `Mapping.output_fine`."""
    if mapping.output_fine == 0.0:
        return None
    mean, std = (need(ranges, f"{spec.name}.{key}", spec.bias.shape) for key in ("mean", "std"))
    low, high = spec.coded(spec.y_lo, spec.y_hi)
    reach, least = np.float32(mapping.output_fine) * std, np.float32(1e-3) * (high - low)
    # The flat end stays where it is: only its codes say on which side of the range an input lies.
    y_lo = low if spec.activation else np.clip(mean - reach, low, high - least)
    y_hi = np.clip(mean + reach, y_lo + least, high)
    if mapping.output_range == "layer":
        y_lo, y_hi = np.full_like(y_lo, y_lo.min()), np.full_like(y_hi, y_hi.max())
    out_lo, out_hi = y_lo + spec.bias, y_hi + spec.bias
    inside = out_lo, out_hi
    if spec.activation is not None:
        tops = FUNCTIONS[spec.activation](out_hi.astype(np.float64)).astype(np.float32)
        out_lo, inside = spec.out_lo, (np.full_like(tops, -np.inf), tops)
        out_hi = _tops(
            np.maximum(tops, tops.max() * (mapping.output_range == "layer")), out_lo, spec.out_hi
        )
    elif mapping.output_range == "layer":
        out_lo, out_hi = np.full_like(out_lo, out_lo.min()), np.full_like(out_hi, out_hi.max())
    y_lo = y_lo - np.float32(spec.start / (1.0 - spec.start)) * (y_hi - y_lo)
    return replace(spec, y_lo=y_lo, y_hi=y_hi, out_lo=out_lo, out_hi=out_hi, inside=inside)


def _tops(top: NDArray[np.float64], low: Float, high: Float) -> Float:
    """Return each column's top output: its own range, in half octaves below the layer's.

    Columns of equal output range share their windows but for a shift and a stretch.
    """
    span = np.maximum(high - low, 1e-6)
    share = np.clip((top - low) / span, 2.0**-8, 1.0)
    return np.asarray(low + span * np.exp2(np.ceil(2.0 * np.log2(share)) / 2.0), np.float32)


class QuantizedLinear:
    """The layer with 8-bit inputs, weights and outputs, and exact arithmetic between them."""

    def __init__(
        self,
        name: str,
        weight: Float,
        bias: Float | None,
        activation: Activation,
        ranges: Ranges,
        mapping: Mapping,
        tile_rows: int,
    ):
        self._bits = mapping.output_bits
        self.spec, self._w = layer_spec(name, weight, bias, activation, ranges, mapping, tile_rows)

    def forward(self, x: Float) -> Float:
        """Return values (n, out) for activations x (n, in)."""
        spec = self.spec
        drive, scale = spec.drive(x)
        y = (drive @ self._w) * spec.gain
        out = self._convert(y, spec)
        if spec.fine is not None:
            assert spec.fine.inside is not None
            take_inside(out, self._convert(y, spec.fine), spec.fine.inside)
        return out if scale is None else out * scale

    def _convert(self, y: Float, spec: LayerSpec) -> Float:
        z = np.clip(y, *spec.coded(spec.y_lo, spec.y_hi)) + spec.bias
        value = FUNCTIONS[spec.activation](np.asarray(z)).astype(np.float32)
        return fake_quantize(value, spec.out_lo, spec.out_hi, self._bits)


def take_inside(out: Float, fine: Float, inside: Ends, columns: slice = slice(None)) -> None:
    """Replace outputs (n, columns) inside the ends of a fine range by the fine unit's."""
    low, high = inside
    np.copyto(out, fine, where=(out > low[columns]) & (out < high[columns]))

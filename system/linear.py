"""One linear layer on tiles: DAC codes in, crossbar columns, ACAM units, values out."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from behavioral.acam import AcamModel, AcamUnit
from behavioral.crossbar import CrossbarModel, Noise, ProgrammedArray
from behavioral.library import Library
from behavioral.windows import Windows
from system.calibration import Ranges, need, tiles
from system.models.ops import Activation
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

FUNCTIONS: dict[Activation, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    None: lambda z: z,
    "relu": lambda z: np.maximum(z, 0.0),
    "silu": lambda z: z * expit(z),
}
FINE_CELLS, COARSE_CELLS = 16384, 4096
COARSE_FROM = 20_000_000  # parameters: above, the tables of all columns would take gigabytes
# Arguments below which a function is constant; silu(-8) is -0.003, less than a code of any range.
FLAT_BELOW = {"relu": 0.0, "silu": -8.0}


@dataclass(frozen=True)
class Chip:
    """One programmed piece of silicon: which draw of the noise, and what noise there is.

    Attributes
    ----------
    seed, index : int
        Random streams are keyed by both; chips of a study share the seed.
    noise : {"none", "frozen", "per-read"}
        No device noise (`ideal-analog`), or read noise drawn once per device or at every read.
    """

    seed: int = 0
    index: int = 0
    noise: Noise = "frozen"

    def stream(self, name: str, part: int = 0) -> tuple[int, ...]:
        """Return the key of the random stream of one part of one layer."""
        return (self.seed, self.index, zlib.crc32(name.encode()), part)


@dataclass
class Counters:
    """Look-ups outside the calibrated range, clipped to its ends."""

    conversions: int = 0
    clipped: int = 0


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

    def drive(self, x: Float) -> tuple[Float, Float | None]:
        """Return row drives (n, in) in [-1, 1] and the scale (n, 1) of every vector, if any."""
        scale = block_scale(x, self.norm) if self.blocks else None
        return self.codes.normalise(x if scale is None else x / scale, self.smoothing), scale


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
    per_column = activation is None and mapping.output_range == "column"
    out_lo = y_lo + bias if per_column else np.full(out, z_out[0], np.float32)
    out_hi = y_hi + bias if per_column else np.full(out, max(z_out[1], z_out[0] + 1e-6), np.float32)
    if activation is not None and mapping.output_range == "column":
        tops = FUNCTIONS[activation]((y_hi + bias).astype(np.float64))
        out_hi = _tops(tops, out_lo, out_hi)
    gain = (weight_scale * codes.full_scale).astype(np.float32)
    spec = LayerSpec(
        name, activation, codes, smoothing, gain, bias, y_lo, y_hi,
        out_lo.astype(np.float32), out_hi.astype(np.float32), tile[:, 0], tile[:, 1], blocks,
        mapping.block_norm,
    )  # fmt: skip
    return spec, w


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
        z = (drive @ self._w) * spec.gain
        z = np.clip(z, spec.y_lo, spec.y_hi) + spec.bias
        value = FUNCTIONS[spec.activation](z).astype(np.float32)
        out = fake_quantize(value, spec.out_lo, spec.out_hi, self._bits)
        return out if scale is None else out * scale


class Hardware:
    """The behavioural models of one library, and how layers are laid on them.

    Parameters
    ----------
    library : Library
    mapping : Mapping
    keep_devices : bool
        Keep every programmed conductance, as validation needs.
    cells : int
        Points of each ACAM column's step table. Noisy thresholds stand in any order, so a code may
        jump far within a cell: 4096 points leave 0.3 % of codes more than one off, 16384 under
        0.1 %.
    """

    def __init__(
        self,
        library: Library,
        mapping: Mapping,
        keep_devices: bool = False,
        cells: int = FINE_CELLS,
    ):
        self.cells = cells
        self.library = library
        self.crossbar = CrossbarModel(library)
        self.acam = AcamModel.from_library(library)
        self.mapping = mapping
        self.keep_devices = keep_devices
        self.tile_rows = library.technology.column.rows
        self.counters = Counters()


Rows = tuple[NDArray[np.int64], Float, Float]
BEYOND = (2.0, 3.0)  # an unused row: a window above the data line


def _gather(placed: list[Rows], group: NDArray[np.intp]) -> Rows:
    """Join the rows (bit, lo, hi) of groups of columns; where a group has fewer, unused ones."""
    if len(placed) == 1:
        return placed[0]
    counts = np.array([np.bincount(bit, minlength=16) for bit, _, _ in placed])
    bits = np.repeat(np.arange(16), counts.max(axis=0))
    lo, hi = (np.full((len(group), len(bits)), end, np.float32) for end in BEYOND)
    for i, (bit, low, high) in enumerate(placed):
        first = np.searchsorted(bits, bit) + np.arange(len(bit)) - np.searchsorted(bit, bit)
        lo[np.ix_(group == i, first)], hi[np.ix_(group == i, first)] = low, high
    return bits, lo, hi


class AnalogLinear:
    """The layer on crossbar tiles and ACAM units of one chip.

    Parameters
    ----------
    name : str
    weight : (out, in) float array
    bias : (out,) float array or None
    activation : {None, "relu", "silu"}
    ranges : Ranges
    hardware : Hardware
    chip : Chip
    """

    def __init__(
        self,
        name: str,
        weight: Float,
        bias: Float | None,
        activation: Activation,
        ranges: Ranges,
        hardware: Hardware,
        chip: Chip,
    ):
        self.hardware, self.chip, self.reads = hardware, chip, 0
        self.spec, w = layer_spec(
            name, weight, bias, activation, ranges, hardware.mapping, hardware.tile_rows
        )
        self.tiles = tiles(len(w), hardware.tile_rows)
        self.arrays = [self._program_tile(w[t], i) for i, t in enumerate(self.tiles)]
        self.digital_sum = hardware.mapping.partial_sums == "digital" and len(self.tiles) > 1
        self.units = self._program_units()

    def _program_tile(self, w: Float, tile: int) -> ProgrammedArray:
        mapping = self.hardware.mapping
        return self.hardware.crossbar.program(
            w,
            seed=self.chip.stream(self.spec.name, tile),
            noise=self.chip.noise,
            slices=mapping.slices,
            predistort=mapping.predistort,
            keep_devices=self.hardware.keep_devices,
        )

    def _program_units(self) -> list[AcamUnit]:
        """Program one set of ACAM units for the layer, and one per tile if codes are added."""
        spec = self.spec
        if not self.digital_sum:
            return [self._program_function(spec.y_lo + spec.bias, spec.y_hi + spec.bias, 0)]
        units = [self._program_identity(1 + i) for i in range(len(self.tiles))]
        if spec.activation is not None:
            units.append(self._program_function(spec.y_lo + spec.bias, spec.y_hi + spec.bias, 0))
        return units

    def _program_function(self, z_lo: Float, z_hi: Float, part: int) -> AcamUnit:
        """Program the activation over [z_lo, z_hi] of each column's data line."""
        spec, bits = self.spec, self.hardware.mapping.output_bits
        if spec.activation is None and self.hardware.mapping.output_range == "column":
            return self._program_identity(part)
        tops, group = np.unique(spec.out_hi, return_inverse=True)
        placed = []
        for i, top in enumerate(tops):
            low, high = z_lo[group == i], z_hi[group == i]
            windows = Windows.from_function(
                FUNCTIONS[spec.activation],
                (float(low.min()), float(high.max())),
                (float(spec.out_lo[0]), float(top)),
                bits=bits,
            )
            placed.append((windows.bit, *windows.on_data_line(low, high)))
        floor = FLAT_BELOW.get(spec.activation or "", -np.inf)
        flat = bool((z_lo <= floor + 1e-6).all())  # what falls below the line saturates as meant
        return self._program_windows(*_gather(placed, group), part, flat)

    def _program_identity(self, part: int) -> AcamUnit:
        windows = Windows.from_function(
            FUNCTIONS[None], (0.0, 1.0), (0.0, 1.0), bits=self.hardware.mapping.output_bits
        )
        lo, hi = windows.on_data_line()
        return self._program_windows(windows.bit, lo, hi, part)

    def _program_windows(
        self, bit: NDArray[np.int64], lo: Float, hi: Float, part: int, flat: bool = False
    ) -> AcamUnit:
        bits = self.hardware.mapping.output_bits
        return self.hardware.acam.program(
            lo,
            hi,
            bit,
            bits,
            seed=(*self.chip.stream(self.spec.name, part), 1),
            noise=self.chip.noise != "none",
            columns=len(self.spec.gain),
            cells=self.hardware.cells,
            values=np.linspace(0.0, 1.0, 2**bits, dtype=np.float32),
            flat_below=flat,
            keep_thresholds=self.hardware.keep_devices,
            keep_conductances=self.hardware.keep_devices,
        )

    def drive(self, x: Float) -> Float:
        """Return the row drives in [-1, 1] for activations x (n, in)."""
        return self.spec.drive(x)[0]

    def multiply(self, drive: Float, tile: int) -> Float:
        """Return the normalised column outputs (n, out) of one row tile."""
        self.reads += 1
        return self.hardware.crossbar.multiply(
            self.arrays[tile],
            np.ascontiguousarray(drive[:, self.tiles[tile]]),
            seed=(*self.chip.stream(self.spec.name, tile), 2, self.reads),
        )

    def forward(self, x: Float) -> Float:
        """Return values (n, out) for activations x (n, in)."""
        drive, scale = self.spec.drive(x)
        out = self._read(drive)
        if scale is not None:
            out *= scale
        return out

    def _read(self, drive: Float) -> Float:
        """Return what the ACAM units, or the digital sum of their codes, give for row drives."""
        spec = self.spec
        parts = (self.multiply(drive, i) for i in range(len(self.tiles)))
        if not self.digital_sum:
            total = next(parts)
            for part in parts:
                total += part
            return self._convert(self.units[0], total, spec.gain, spec.y_lo, spec.y_hi)
        z = np.zeros((len(drive), len(spec.gain)), np.float32)
        for i, part in enumerate(parts):
            u = self._convert_unit(self.units[i], part, spec.gain, spec.tile_lo[i], spec.tile_hi[i])
            z += u * (spec.tile_hi[i] - spec.tile_lo[i]) + spec.tile_lo[i]
        if spec.activation is None:
            return z + spec.bias
        one = np.ones_like(spec.gain)
        z = fake_quantize(z, spec.y_lo, spec.y_hi, self.hardware.mapping.input_bits)
        return self._convert(self.units[-1], z, one, spec.y_lo, spec.y_hi)

    def _convert(self, unit: AcamUnit, y: Float, gain: Float, low: Float, high: Float) -> Float:
        out = self._convert_unit(unit, y, gain, low, high)
        out *= self.spec.out_hi - self.spec.out_lo
        out += self.spec.out_lo
        return out

    def _convert_unit(
        self, unit: AcamUnit, y: Float, gain: Float, low: Float, high: Float
    ) -> Float:
        """Return the unit's code over its top code, in [0, 1]."""
        width = high - low
        values, clipped = self.hardware.acam.convert_values(unit, y, gain / width, -low / width)
        self.hardware.counters.conversions += y.size
        self.hardware.counters.clipped += clipped
        return values

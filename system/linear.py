"""One linear layer on tiles: DAC codes in, crossbar columns, ACAM units, values out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit
from behavioral.acam_unit import add_codes
from behavioral.crossbar import CrossbarModel, ProgrammedArray
from behavioral.library import Library
from behavioral.programming import Noise
from behavioral.windows import Windows
from system.calibration import Ranges, tiles
from system.layer_spec import (
    FLAT_ABOVE,
    FLAT_BELOW,
    FUNCTIONS,
    Ends,
    LayerSpec,
    layer_spec,
    take_inside,
)
from system.models.ops import Activation, as_images
from system.models.patches import Convolution
from system.quantization import (
    Float,
    Mapping,
    fake_quantize,
)

FINE_PART = 1 << 16  # random streams of the fine units, beyond those of tiles
FINE_CELLS, COARSE_CELLS = 16384, 4096
COARSE_FROM = 20_000_000  # parameters: above, the tables of all columns would take gigabytes


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
        self.hardware, self.chip = hardware, chip
        self.spec, w = layer_spec(
            name, weight, bias, activation, ranges, hardware.mapping, hardware.tile_rows
        )
        self.tiles = tiles(len(w), hardware.tile_rows)
        self.reads = [0] * len(self.tiles)  # samples so far: every read has noise of its own
        typical = ranges.get(f"{name}.rows")
        rows = (
            None if typical is None or not len(typical) else self.drive(typical.astype(np.float32))
        )
        self.arrays = [self._program_tile(w[t], rows, i) for i, t in enumerate(self.tiles)]
        self.digital_sum = hardware.mapping.partial_sums == "digital" and len(self.tiles) > 1
        self.first_units: list[AcamUnit] = []  # one copy of each, as validation replays them
        self.units = self._program_units()
        fine = self.spec.fine
        self.fine_unit = None if fine is None else self._program_function(fine, FINE_PART)

    def _program_tile(self, w: Float, rows: Float | None, tile: int) -> ProgrammedArray:
        mapping = self.hardware.mapping
        return self.hardware.crossbar.program(
            w,
            seed=self.chip.stream(self.spec.name, tile),
            noise=self.chip.noise,
            slices=mapping.slices,
            predistort=mapping.predistort,
            inputs=None if rows is None else np.ascontiguousarray(rows[:, self.tiles[tile]]),
            keep_devices=self.hardware.keep_devices,
        )

    def _program_units(self) -> list[AcamUnit]:
        """Program one set of ACAM units for the layer, and one per tile if codes are added."""
        if not self.digital_sum:
            return [self._program_function(self.spec, 0)]
        units = [self._program_identity(1 + i) for i in range(len(self.tiles))]
        if self.spec.activation is not None:
            units.append(self._program_function(self.spec, 0))
        return units

    def _program_function(self, spec: LayerSpec, part: int) -> AcamUnit:
        """Program the activation over the read-out range of each column."""
        bits = self.hardware.mapping.output_bits
        if spec.activation is None and self.hardware.mapping.output_range == "column":
            return self._program_identity(part)
        tops, group = np.unique(spec.out_hi, return_inverse=True)
        line = spec.y_lo + spec.bias
        z_lo, z_hi = spec.coded(line, spec.y_hi + spec.bias)
        placed = []
        for i, top in enumerate(tops):
            low, high = z_lo[group == i], z_hi[group == i]
            windows = Windows.from_function(
                FUNCTIONS[spec.activation],
                (float(low.min()), float(high.max())),
                (float(spec.out_lo[0]), float(top)),
                bits=bits,
            )
            placed.append((windows.bit, *windows.on_data_line(line[group == i], high)))
        floor = FLAT_BELOW.get(spec.activation or "", -np.inf)
        flat = bool((z_lo <= floor + 1e-6).all())  # what falls below the line saturates as meant
        return self._program_windows(*_gather(placed, group), part, flat)

    def _program_identity(self, part: int) -> AcamUnit:
        windows = Windows.from_function(
            FUNCTIONS[None], (0.0, 1.0), (0.0, 1.0), bits=self.hardware.mapping.output_bits
        )
        start = self.spec.start
        lo, hi = windows.on_data_line(-start / (1.0 - start), 1.0)
        return self._program_windows(windows.bit, lo, hi, part)

    def _program_windows(
        self, bit: NDArray[np.int64], lo: Float, hi: Float, part: int, flat: bool = False
    ) -> AcamUnit:
        mapping, key = self.hardware.mapping, (*self.chip.stream(self.spec.name, part), 1)
        noisy, bits = self.chip.noise != "none", mapping.output_bits
        copies = mapping.output_copies if noisy else 1  # without noise they are equal
        units = [
            self.hardware.acam.program(
                lo,
                hi,
                bit,
                bits,
                seed=key if i == 0 else (*key, i),
                noise=noisy,
                columns=len(self.spec.gain),
                # sums of codes take two bytes: half the points, the same memory
                cells=self.hardware.cells if copies == 1 else self.hardware.cells // 2,
                values=np.linspace(0.0, 1.0, 2**bits, dtype=np.float32),
                flat_below=flat,
                floor=self.spec.start,
                keep_thresholds=self.hardware.keep_devices,
                keep_conductances=self.hardware.keep_devices,
            )
            for i in range(copies)
        ]
        if copies == 1 or self.hardware.keep_devices:
            self.first_units.append(units[0])
        return add_codes(units)

    def drive(self, x: Float) -> Float:
        """Return the row drives in [-1, 1] for activations x (n, in)."""
        return self.spec.drive(x)[0]

    def multiply(self, drive: Float, tile: int) -> Float:
        """Return the normalised column outputs (n, out) of one row tile."""
        rows = np.ascontiguousarray(drive[:, self.tiles[tile]])
        return self._read(self.hardware.crossbar.drive(self.arrays[tile], rows), tile)

    def forward(self, x: Float) -> Float:
        """Return values (n, out) for activations x (n, in)."""
        drive, scale = self.spec.drive(x)
        out = self._convert_sum(self.multiply(drive, i) for i in range(len(self.tiles)))
        if scale is not None:
            out *= scale
        return out

    def convolve(self, x: Float, shape: Convolution) -> Float:
        """Return images (B, out, height, width) for images x (B, C, H, W)."""
        return shape.by_blocks(x, lambda few: self._convolve(few, shape))

    def _convolve(self, x: Float, shape: Convolution) -> Float:
        """Make codes before pixels are copied into the patches that see them."""
        if self.spec.smoothing is not None or self.spec.blocks:
            padded = shape.pad(x)
            return as_images(self.forward(shape.patches(padded)), padded, shape)
        padded = shape.pad(self.spec.codes.normalise(x))
        parts = (self._multiply_patches(padded, shape, i) for i in range(len(self.tiles)))
        return as_images(self._convert_sum(parts), padded, shape)

    def _multiply_patches(self, padded: Float, shape: Convolution, tile: int) -> Float:
        """Return the column outputs of one row tile for every patch of drives."""
        array, crossbar, rows = self.arrays[tile], self.hardware.crossbar, self.tiles[tile]
        if array.correction.pointwise:
            parts = [shape.patches(bent, rows) for bent in crossbar.bend(array, padded)]
            return self._read(parts[0] if len(parts) == 1 else np.hstack(parts), tile)
        return self._read(crossbar.drive(array, shape.patches(padded, rows)), tile)

    def _read(self, driven: Float, tile: int) -> Float:
        seed = (*self.chip.stream(self.spec.name, tile), 2)
        first, self.reads[tile] = self.reads[tile], self.reads[tile] + len(driven)
        return self.hardware.crossbar.read(self.arrays[tile], driven, seed=seed, first_sample=first)

    def _convert_sum(self, parts: Iterator[Float]) -> Float:
        """Return what the ACAM units, or the digital sum of their codes, give for row tiles."""
        spec = self.spec
        out = spec.out_lo, spec.out_hi
        if not self.digital_sum:
            total = next(parts)
            for part in parts:
                total += part
            found = self._convert(self.units[0], total, spec.gain, (spec.y_lo, spec.y_hi), out)
            return found if spec.fine is None else self._refine(found, total, spec.fine)
        ends = [(spec.tile_lo[i], spec.tile_hi[i]) for i in range(len(self.tiles))]
        codes = (
            self._convert(unit, part, spec.gain, end, spec.coded(*end))
            for unit, part, end in zip(self.units, parts, ends, strict=False)
        )
        z = next(codes)
        for code in codes:
            z += code
        if spec.activation is None:
            return z + spec.bias
        one = np.ones_like(spec.gain)
        z = fake_quantize(z, spec.y_lo, spec.y_hi, self.hardware.mapping.input_bits)
        return self._convert(self.units[-1], z, one, (spec.y_lo, spec.y_hi), out)

    def _refine(self, out: Float, y: Float, fine: LayerSpec) -> Float:
        """Return the outputs with the fine unit's codes where they lie in its range."""
        assert self.fine_unit is not None
        clipped = self.hardware.counters.clipped
        ends = (fine.y_lo, fine.y_hi), (fine.out_lo, fine.out_hi)
        take_inside(out, self._convert(self.fine_unit, y, fine.gain, *ends), fine)
        self.hardware.counters.clipped = clipped  # what leaves the fine range is meant to
        return out

    def _convert(self, unit: AcamUnit, y: Float, gain: Float, line: Ends, out: Ends) -> Float:
        """Return values between the ends `out` of a unit's codes; `line` is its data line."""
        (low, high), (bottom, top) = line, out
        width = high - low
        values, clipped = self.hardware.acam.convert_values(
            unit, y, gain / width, -low / width, base=bottom, width=top - bottom
        )
        self.hardware.counters.conversions += y.size
        if self.spec.activation not in FLAT_ABOVE:  # there, what leaves the line saturates as meant
            self.hardware.counters.clipped += clipped
        return values

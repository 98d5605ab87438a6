"""One linear layer on tiles: DAC codes in, crossbar columns, ACAM units, values out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamUnit
from behavioral.array import ProgrammedArray
from behavioral.decision import disturb
from behavioral.stack import Stack
from behavioral.threads import blocks, in_place, run_all
from system.calibration import Ranges, tiles
from system.conversion import Conversion, RangedConversion
from system.hardware import Chip, Hardware
from system.layer_spec import (
    FLAT_ABOVE,
    FLAT_BELOW,
    Ends,
    LayerSpec,
    layer_spec,
    take_inside,
)
from system.layer_state import LayerState
from system.models.ops import Activation, as_images
from system.models.patches import Convolution
from system.quantization import Float, Mapping, fake_quantize

FINE_PART = 1 << 16  # random streams of the fine units, beyond those of tiles
TRIM_READS = 3  # random stream of the reads that measure the mean errors of columns

Rows = tuple[NDArray[np.int64], Float, Float]
Place = tuple[slice, slice]
# Writes one block of outputs, given each tile's first sample; returns the number of clipped inputs.
Fill = Callable[[Float, Place, list[int]], int]
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

    Attributes
    ----------
    threads : int or None
        Threads that share the blocks of an output; None: as many as there are.
    together : bool
        Whether row tiles and read-out ranges may be computed in one go; no for layers that look
        at what lies between.
    """

    threads: int | None = None
    together = True  # all row tiles in one product, both read-out ranges in one pass

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
            name, weight, bias, activation, ranges, hardware.mapping.of(name), hardware.tile_rows
        )
        self._cut(tiles(len(w), hardware.tile_rows))
        rows, trim = (self._recorded(ranges, key) for key in ("rows", "trim"))
        self.arrays = [self._program_tile(w[t], rows, i) for i, t in enumerate(self.tiles)]
        if self.mapping.output_trim and trim is not None:
            self.spec = self.spec.trimmed(self._mean_errors(w, trim))
        elif self.mapping.ground_trim:
            ground = [self.ground(w[part]) * self.spec.gain for part in self.tiles]
            self.spec = self.spec.trimmed(np.stack(ground))
        self._stack = self._stacked()
        self.units = self._program_units()
        fine = self.spec.fine
        self.fine_unit = None if fine is None else self._program_function(fine, FINE_PART)
        self._conversions = self._lay_out()

    @classmethod
    def from_state(cls, state: LayerState, hardware: Hardware, chip: Chip) -> AnalogLinear:
        """Return a layer that was programmed before."""
        layer = cls.__new__(cls)
        layer.hardware, layer.chip, layer.spec = hardware, chip, state.spec
        layer._cut([slice(*part) for part in state.inputs])
        layer.arrays = state.arrays()
        layer._stack = state.stack(layer.arrays)
        layer.units, layer.fine_unit = state.units, state.fine_unit
        layer._conversions = layer._lay_out()
        return layer

    @cached_property
    def mapping(self) -> Mapping:
        """How this layer is laid on tiles and units."""
        return self.hardware.mapping.of(self.spec.name)

    def state(self) -> LayerState:
        """Return what programming left behind."""
        return LayerState.of(
            self.spec, self.arrays, self.tiles, self._stack, self.units, self.fine_unit
        )

    def _cut(self, parts: list[slice]) -> None:
        """Split the inputs over row tiles; every read of each has noise of its own."""
        self.tiles = parts
        self._seeds = [(*self.chip.stream(self.spec.name, i), 2) for i in range(len(parts))]
        self.reads = [0] * len(parts)  # samples so far
        self.digital_sum = self.mapping.partial_sums == "digital" and len(parts) > 1

    def _recorded(self, ranges: Ranges, key: str) -> Float | None:
        """Return the even row drives of inputs that calibration kept, if it did."""
        found = ranges.get(f"{self.spec.name}.{key}")
        if found is None or not len(found):
            return None
        return self.spec.drive(found.astype(np.float32))[0]

    def _program_tile(self, w: Float, rows: Float | None, tile: int) -> ProgrammedArray:
        mapping = self.mapping
        if rows is not None:
            rows = self._levels(np.ascontiguousarray(rows[:, self.tiles[tile]]))
        return self.hardware.crossbar.program(
            w,
            seed=self.chip.stream(self.spec.name, tile),
            noise=self.chip.noise,
            slices=mapping.slices,
            predistort=mapping.predistort,
            linearize=mapping.linearize,
            inputs=rows,
            tiles=1 if self.digital_sum else len(self.tiles),
            keep_devices=self.hardware.keep_devices,
        )

    def ground(self, w: Float) -> Float:
        """Return what the virtual ground of their read-out adds to columns w (rows, out)."""
        ground: Float = np.float32(-self.hardware.crossbar.rest) * w.sum(axis=0)
        return ground

    def _mean_errors(self, w: Float, rows: Float) -> Float:
        """Measure the mean error (tiles, out) of every column over drives, in units of y."""
        found = []
        for i, tile in enumerate(self.tiles):
            seed = (*self.chip.stream(self.spec.name, i), TRIM_READS)
            driven = self._drive_tile(self._levels(rows), i)
            y = self.hardware.crossbar.read(self.arrays[i], driven, seed=seed)
            found.append((y - rows[:, tile] @ w[tile]).mean(axis=0) * self.spec.gain)
        return np.stack(found)

    def _stacked(self) -> Stack | None:
        """Put the tiles below one another, if their currents add and nobody looks at the parts."""
        if self.digital_sum or not self.together:
            return None
        stack = Stack.of(self.arrays, self.tiles)
        if stack is not None:
            self.arrays = stack.arrays
        return stack

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
        bits = self.mapping.output_bits
        if spec.activation is None and self.mapping.output_range == "column":
            return self._program_identity(part)
        placed, group = [], np.zeros(len(spec.gain), np.intp)
        for i, place in enumerate(spec.placements(bits)):
            placed.append((place.windows.bit, *place.on_data_line()))
            group[place.columns] = i
        z_lo, _ = spec.coded(spec.y_lo + spec.bias, spec.y_hi + spec.bias)
        floor = FLAT_BELOW.get(spec.activation or "", -np.inf)
        flat = bool((z_lo <= floor + 1e-6).all())  # what falls below the line saturates as meant
        return self._program_windows(*_gather(placed, group), part, flat)

    def _program_identity(self, part: int) -> AcamUnit:
        place = self.spec.identity(self.mapping)
        return self._program_windows(place.windows.bit, *place.on_data_line(), part)

    def _program_windows(
        self, bit: NDArray[np.int64], lo: Float, hi: Float, part: int, flat: bool = False
    ) -> AcamUnit:
        mapping, key = self.mapping, (*self.chip.stream(self.spec.name, part), 1)
        noisy, bits = self.chip.noise != "none", mapping.output_bits
        return self.hardware.acam.program(
            lo,
            hi,
            bit,
            bits,
            seed=key,
            noise=noisy,
            columns=len(self.spec.gain),
            flat_below=flat,
            floor=self.spec.start,
            keep_thresholds=self.hardware.keep_devices,
            keep_conductances=self.hardware.keep_devices,
            # Without noise they are equal.
            copies=mapping.output_copies if noisy and not self.hardware.one_copy else 1,
        )

    def drive(self, x: Float) -> Float:
        """Return the row drives in [-1, 1] for activations x (n, in)."""
        return self._levels(self.spec.drive(x)[0])

    def _levels(self, even: Float) -> Float:
        """Return what the DAC gives for row drives of even steps."""
        return self.hardware.crossbar.levels(even) if self.mapping.linearize else even

    def _lay_out(self) -> list[Conversion]:
        """Return what the units convert: parts of the sum, if their codes are added; the sum."""
        spec, gain = self.spec, self.spec.gain
        line, out = (spec.y_lo, spec.y_hi), (spec.out_lo, spec.out_hi)
        if not self.digital_sum:
            return [Conversion(self.units[0], gain, self._off(line, self.arrays, 0), out)]
        ends = zip(spec.tile_lo, spec.tile_hi, strict=True)
        found = [
            Conversion(
                unit, gain, self._off(end, self.arrays[i : i + 1], 1 + i), spec.coded(*end), 1 + i
            )
            for i, (unit, end) in enumerate(zip(self.units, ends, strict=False))
        ]
        if spec.activation is not None:
            found.append(Conversion(self.units[-1], np.ones_like(gain), line, out))
        return found

    def _off(self, line: Ends, arrays: list[ProgrammedArray], part: int) -> Ends:
        """Return the column outputs at the ends of a data line behind amplifiers with offsets."""
        offset = self.hardware.crossbar.readout_offset
        if offset is None or self.mapping.output_trim:
            return line
        (low, high), gain = line, self.spec.gain
        key = self.chip.stream(self.spec.name, part)
        total = offset.of_sums((high - low) / gain, self.hardware.v_line, key)
        for array in arrays:
            assert array.offset is not None
            total += array.offset
        return low - total * gain, high - total * gain

    @property
    def _line_noise(self) -> float:
        """Noise on the data lines over their range; it differs from read to read."""
        return self.hardware.line_noise if self.chip.noise == "per-read" else 0.0

    @cached_property
    def _ranged(self) -> RangedConversion | None:
        fine, unit = self.spec.fine, self.fine_unit
        if fine is None or unit is None:
            return None
        assert fine.inside is not None
        line, out = (fine.y_lo, fine.y_hi), (fine.out_lo, fine.out_hi)
        line = self._off(line, self.arrays, FINE_PART)
        own = Conversion(unit, fine.gain, line, out, FINE_PART)
        return RangedConversion(self._conversions[0], own, fine.inside)

    def multiply(self, drive: Float, tile: int) -> Float:
        """Return the normalised column outputs (n, out) of one row tile."""
        driven, first = self._drive_tile(drive, tile), self.reads[tile]
        self.reads[tile] += len(driven)
        out = np.empty((len(driven), len(self.spec.gain)), np.float32)

        def fill(place: tuple[slice, slice]) -> None:
            rows, columns = place
            with in_place(out, place) as block:
                self._read(driven[rows], tile, columns, first + rows.start, block)

        run_all(fill, blocks(*out.shape), self.threads)
        return out

    def forward(self, x: Float) -> Float:
        """Return values (n, out) for activations x (n, in)."""
        even, scale = self.spec.drive(x)
        drive = self._levels(even)
        if self._stack is None:
            out = self._convert_sum([self._drive_tile(drive, i) for i in range(len(self.tiles))])
        else:
            return self._convert_stack(self._stack, drive, scale)
        return out if scale is None else out * scale

    def convolve(self, x: Float, shape: Convolution) -> Float:
        """Return images (B, out, height, width) for images x (B, C, H, W)."""
        return shape.by_blocks(x, lambda few: self._convolve(few, shape))

    def _convolve(self, x: Float, shape: Convolution) -> Float:
        """Make codes before pixels are copied into the patches that see them."""
        if self.spec.smoothing is not None or self.spec.blocks:
            padded = shape.pad(x)
            return as_images(self.forward(shape.patches(padded)), padded, shape)
        padded = shape.pad(self._levels(self.spec.codes.normalise(x)))
        driven = [self._drive_patches(padded, shape, i) for i in range(len(self.tiles))]
        return as_images(self._convert_sum(driven), padded, shape)

    def _drive_tile(self, drive: Float, tile: int) -> Float:
        """Return what the matrix of one row tile is multiplied with."""
        rows = np.ascontiguousarray(drive[:, self.tiles[tile]])
        return self.hardware.crossbar.drive(self.arrays[tile], rows)

    def _drive_patches(self, padded: Float, shape: Convolution, tile: int) -> Float:
        """Do `_drive_tile` for every patch of an image of drives."""
        array, crossbar, rows = self.arrays[tile], self.hardware.crossbar, self.tiles[tile]
        if array.correction.pointwise and array.levels is None:
            bent = crossbar.bend(array, padded)
            parts = [shape.patches(bent[0], rows)]
            if array.correction.second.size:
                parts.append(shape.patches(bent[1], array.correction.second + rows.start))
            return parts[0] if len(parts) == 1 else np.hstack(parts)
        return crossbar.drive(array, shape.patches(padded, rows))

    def _read(self, driven: Float, tile: int, columns: slice, first: int, out: Float) -> None:
        """Write the column outputs of one row tile, of samples from number `first` on."""
        self.hardware.crossbar.read_block(
            self.arrays[tile], driven, columns, seed=self._seeds[tile], first_sample=first, out=out
        )

    def _count_reads(self, samples: int) -> list[int]:
        """Return the number of each tile's first sample, and count these."""
        before = list(self.reads)
        self.reads = [count + samples for count in self.reads]
        return before

    def _convert_sum(self, driven: list[Float]) -> Float:
        """Return what the ACAM units, or the digital sum of their codes, give for row tiles."""

        def fill(whole: Float, place: Place, first: list[int]) -> int:
            rows, columns = place
            samples = [(part[rows], n) for part, n in zip(driven, first, strict=True)]
            with in_place(whole, place) as out:
                return self._fill(out, samples, columns)

        return self._convert_blocks(len(driven[0]), fill)

    def _convert_stack(self, stack: Stack, drive: Float, scale: Float | None) -> Float:
        """Do `_convert_sum` for drives (n, in), all row tiles in one product; times `scale`."""
        driven = stack.drive(self.hardware.crossbar, np.ascontiguousarray(drive))

        def fill(whole: Float, place: Place, first: list[int]) -> int:
            (rows, columns), seed = place, self._seeds[0]
            with in_place(whole, place) as out:
                stack.read_block(
                    driven[rows], columns, seed=seed, first_sample=first[0], out=out
                )  # fmt: skip
                clipped = self._convert_ranges(out, columns, first[0])
                if scale is not None:
                    out *= scale[rows]
            return clipped

        return self._convert_blocks(len(driven), fill)

    def _convert_blocks(self, samples: int, fill: Fill) -> Float:
        """Return outputs (samples, out) that `fill` writes block by block; counts the clipped."""
        out = np.empty((samples, len(self.spec.gain)), np.float32)
        before = self._count_reads(samples)

        def run(place: Place) -> int:
            return fill(out, place, [count + place[0].start for count in before])

        clipped = sum(run_all(run, blocks(*out.shape), self.threads))
        counters = self.hardware.counters
        counters.conversions += out.size * (len(self._conversions) + (self._ranged is not None))
        if self.spec.activation not in FLAT_ABOVE:  # there, what leaves the line saturates as meant
            counters.clipped += clipped
        return out

    def _fill(self, out: Float, samples: list[tuple[Float, int]], columns: slice) -> int:
        """Fill one block of outputs; returns how many inputs of ACAM units were clipped."""
        clipped = 0
        for tile, (driven, first) in enumerate(samples):
            y = np.empty_like(out) if tile else out
            self._read(driven, tile, columns, first, y)
            if self.digital_sum:
                clipped += self._convert(self._conversions[tile], y, columns, first)
            if tile:
                out += y
        if not self.digital_sum:
            return self._convert_ranges(out, columns, samples[0][1])
        if self.spec.activation is None:
            out += self.spec.bias[columns]
            return clipped
        ends = self.spec.y_lo[columns], self.spec.y_hi[columns]
        out[:] = fake_quantize(out, *ends, self.mapping.input_bits)
        return clipped + self._convert(self._conversions[-1], out, columns, samples[0][1])

    def _convert_ranges(self, out: Float, columns: slice, first: int) -> int:
        """Convert, and take the fine unit's codes where outputs lie in its range."""
        if self._ranged is None:
            return self._convert(self._conversions[0], out, columns, first)
        if self.together and not self._line_noise:
            return self._ranged.run(out, columns)
        y = out.copy()
        clipped = self._convert(self._conversions[0], out, columns, first)
        self._convert(self._ranged.fine, y, columns, first)  # what leaves its range is meant to
        take_inside(out, y, self._ranged.inside, columns)
        return clipped

    def _convert(self, conversion: Conversion, y: Float, columns: slice, first: int) -> int:
        """Replace column outputs by values of codes; returns how many inputs were clipped.

        `first` is the number of the first sample among all reads.
        """
        if self._line_noise:
            seed = self.chip.stream(self.spec.name, conversion.part)
            deviation = conversion.span[columns] * np.float32(self._line_noise)
            disturb(y, deviation, seed, columns.start, first)
        return conversion.run(y, columns)

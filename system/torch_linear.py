"""A linear layer whose products, noise and conversions torch computes, on a processor or a GPU.

The arithmetic is that of the kernels, operation by operation, and the draws are the same; products
are added up in another order, so a sum may differ by float32 rounding, and a code where a sum lies
at its edge. Digital partial sums stay with the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from behavioral.acam import AcamUnit
from behavioral.array import ProgrammedArray
from behavioral.decision import line_seed
from behavioral.kernels import noise as kernels
from behavioral.kernels.steps import CELLS, EDGES, INSIDE, LANE, POSITIONS
from behavioral.noise import panel_key, quantiles
from behavioral.spread import Spread
from behavioral.stack import Stack
from behavioral.threads import BLOCK, PANEL
from circuits.errors import ParameterError
from system.conversion import Conversion
from system.layer_spec import FLAT_ABOVE
from system.linear import AnalogLinear
from system.quantization import Float

Tensor = torch.Tensor
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed numbers: torch multiplies those alone, modulo
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)  # 2 to the 64


def mover(device: str) -> Callable[[AnalogLinear], AnalogLinear]:
    """Return what moves a programmed layer to a device of torch.

    Raises
    ------
    ParameterError
        torch knows no such device here.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ParameterError(
            f"--device {device}: torch cannot compute there ({str(error).splitlines()[0]}); "
            "try cpu, or leave --device out to use the kernels"
        ) from error
    return partial(TorchLinear.of, device=device)


class TorchLinear(AnalogLinear):
    """A programmed layer on a device of torch; attributes and methods as of the layer it is of."""

    device: str
    _kept: dict[str, Tensor]

    @classmethod
    def of(cls, layer: AnalogLinear, device: str) -> TorchLinear:
        """Return a layer with its matrices and tables moved to the device."""
        moved = cls.__new__(cls)
        moved.__dict__.update(layer.__dict__)
        moved.device = device
        moved._kept = {}
        return moved

    def _on_device(self, name: str, value: Callable[[], Any]) -> Tensor:
        """Return an array on the device; it is copied there once."""
        if name not in self._kept:
            self._kept[name] = self._send(value())
        return self._kept[name]

    def _send(self, array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _convert_stack(self, stack: Stack, drive: Float, scale: Float | None) -> Float:
        driven = stack.drive(self.hardware.crossbar, np.ascontiguousarray(drive))
        parts, first = len(stack.matrix), self._count_reads(len(driven))
        matrix = self._on_device("matrix", lambda: stack.matrix)
        out = np.empty((len(driven), stack.matrix.shape[1]), np.float32)

        def product(rows: slice) -> Tensor:
            sent = self._send(driven[rows])
            y = sent[:, :parts] @ matrix
            if stack.spread is not None:
                variance = sent[:, parts:] @ self._on_device("spread", lambda: stack.spread)
                y += self._noise(variance, self._seeds[0], first[0] + rows.start)
            return y

        self._convert_rows(out, product, first[0])
        return out if scale is None else out * scale

    def _convert_sum(self, driven: list[Float]) -> Float:
        if self.digital_sum:
            return super()._convert_sum(driven)
        first = self._count_reads(len(driven[0]))
        out = np.empty((len(driven[0]), len(self.spec.gain)), np.float32)

        def product(rows: slice) -> Tensor:
            parts = [
                self._read_tile(i, self._send(part[rows]), first[i] + rows.start)
                for i, part in enumerate(driven)
            ]
            for more in parts[1:]:
                parts[0] += more
            return parts[0]

        self._convert_rows(out, product, first[0])
        return out

    def _read_tile(self, tile: int, driven: Tensor, first: int) -> Tensor:
        """Do `CrossbarModel.read_block` for all columns of a row tile."""
        array: ProgrammedArray = self.arrays[tile]
        found = array.correction
        y = driven @ self._on_device(f"matrix{tile}", lambda: found.matrix)
        direct = driven[:, : array.rows]
        if found.terms.size:
            gain, offset = self._on_device(f"terms{tile}", lambda: found.terms)
            common = direct @ self._on_device(f"common{tile}", lambda: found.common)
            power = direct.square().mean(dim=1, keepdim=True)
            y += power * (gain * y + offset * common[:, None])
        if array.spread is not None:
            y += self._noise(self._variance(tile, array.spread, direct), self._seeds[tile], first)
        return y

    def _variance(self, tile: int, spread: Spread, direct: Tensor) -> Tensor:
        """Do `Spread.variance`."""
        squares = direct.square()
        parts = squares[:, self._on_device(f"own{tile}", lambda: spread.own.astype(np.int64))]
        if spread.parts > len(spread.own):
            shared = squares @ self._on_device(f"weights{tile}", lambda: spread.weights)
            parts = torch.cat([parts, shared[:, None]], dim=1)
        return parts @ self._on_device(f"spread{tile}", lambda: spread.matrix)

    def _convert_rows(self, out: Float, product: Callable[[slice], Tensor], first: int) -> None:
        """Fill `out` with converted products, some rows at a time; counts the clipped.

        `first` is the number of the first row among all reads.
        """
        clipped, ranged = 0, self._ranged
        for low in range(0, len(out), BLOCK):
            rows = slice(low, min(low + BLOCK, len(out)))
            y = product(rows)
            values, outside = self._convert_on("wide", self._conversions[0], y, first + low)
            clipped += outside
            if ranged is not None:
                fine, _ = self._convert_on("fine", ranged.fine, y, first + low)
                least, most = self._on_device("inside", lambda: np.stack(ranged.inside))
                values = torch.where((values > least) & (values < most), fine, values)
            out[rows] = values.cpu().numpy()
        counters = self.hardware.counters
        counters.conversions += out.size * (1 + (ranged is not None))
        if self.spec.activation not in FLAT_ABOVE:
            counters.clipped += clipped

    def _convert_on(
        self, name: str, conversion: Conversion, y: Tensor, first: int
    ) -> tuple[Tensor, int]:
        """Do `AnalogLinear._convert`; returns values and the number clipped."""
        unit: AcamUnit = conversion.unit
        if self._line_noise:
            deviation = conversion.span * np.float32(self._line_noise)
            square = self._on_device(f"{name}.line_noise", lambda: np.square(deviation))
            seed = line_seed(self.chip.stream(self.spec.name, conversion.part))
            y = y + self._noise(square.expand(len(y), -1), seed, first)
        scale, shift = self._on_device(f"{name}.line", lambda: conversion.affine)
        base, step = self._on_device(f"{name}.ends", lambda: conversion.ends)
        table = self._on_device(f"{name}.table", lambda: unit.table)
        t = (y * scale + shift) * POSITIONS
        inside = int(((t >= float(unit.bottom)) & (t <= POSITIONS)).sum())
        t = torch.where(t > 0, t, torch.zeros_like(t)).clamp(max=POSITIONS)  # NaN becomes 0
        code = _look_up(table, t.to(torch.int64).clamp(max=POSITIONS - 1))
        return base + step * code.to(torch.float32), y.numel() - inside

    def _noise(self, variance: Tensor, seed: tuple[int, ...], first: int) -> Tensor:
        """Return the normals of `behavioral.kernels.noise.add_noise`, times the deviations."""
        table, out = self._on_device("quantiles", quantiles), torch.empty_like(variance)
        for low in range(0, variance.shape[1], PANEL):
            panel = variance[:, low : low + PANEL]
            key = int(np.int64(np.uint64(panel_key(seed, low))))
            normals = _normals(key, first, len(panel), panel.shape[1], table)
            out[:, low : low + PANEL] = panel.clamp(min=0).sqrt() * normals
        return out


def _look_up(table: Tensor, position: Tensor) -> Tensor:
    """Return the codes at positions (samples, cols) of step tables (cols or 1, cells, 2)."""
    cell, place = position // INSIDE, position % INSIDE
    if len(table) > 1:
        cell += torch.arange(len(table), device=table.device) * CELLS
    edges, codes = table.reshape(-1, 2)[cell].unbind(-1)
    passed = torch.zeros_like(place)
    for i in range(EDGES):
        passed += place >= (edges >> LANE * i & 0xFFFF)
    return codes >> LANE * passed & 0xFFFF


def _normals(key: int, first: int, samples: int, cols: int, table: Tensor) -> Tensor:
    """Draw normals (samples, cols); a sample takes whole words of the stream, two draws each."""
    halves = (cols + 1) // 2
    count = torch.arange(samples * halves, dtype=torch.int64, device=table.device)
    words = _mix(key + (count + (first * halves + 1)) * GOLDEN)
    parts = torch.stack([words & 0xFFFFFFFF, _shift(words, 32)], dim=1).reshape(-1)
    stratum, fraction = parts >> 20, (parts & 0xFFFFF).to(torch.float32) * 2.0**-20
    low = table[stratum]
    out = low + fraction * (table[stratum + 1] - low)
    (rare,) = torch.nonzero((stratum == 0) | (stratum == 4095), as_tuple=True)
    if rare.numel():  # one draw in 2048, by rejection: on the processor
        states = _mix(words[rare >> 1] + (rare & 1)).cpu().numpy().view(np.uint64)
        edges = table[stratum[rare].clamp(min=1)].cpu().numpy()
        out[rare] = torch.from_numpy(kernels.tails(states, edges)).to(table.device)
    return out.reshape(samples, 2 * halves)[:, :cols]


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift right, zeros coming in."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """Splitmix64 finaliser, as in `behavioral.kernels.noise`."""
    z = (z ^ _shift(z, 30)) * MIX_1
    z = (z ^ _shift(z, 27)) * MIX_2
    return z ^ _shift(z, 31)

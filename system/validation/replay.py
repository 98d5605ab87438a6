"""Replays in ngspice: columns at transistor level, ACAM searches as transients of every row."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamUnit
from behavioral.crossbar import TILE_COLUMNS
from circuits import acam, crossbar
from circuits.errors import ParameterError, SimulationError
from circuits.plan import Job
from system.linear import AnalogLinear, Hardware
from system.models.ops import Array
from system.validation.sampling import (
    Conversions,
    Index,
    Sampling,
    Stimuli,
    choose_conversions,
    choose_stimuli,
    spread,
)

Floats = NDArray[np.float64]


def lsb(layer: AnalogLinear) -> Array:
    """Return 1/256 of the read-out range of every column, in normalised units (out,)."""
    spec = layer.spec
    return np.asarray((spec.y_hi - spec.y_lo) / spec.gain / 256, np.float32)


def column_circuits(
    layer: AnalogLinear, tile: int, columns: Index, drive: Array
) -> tuple[Floats, Floats]:
    """Return conductances (physical columns, rows) [S] and row voltages (n, rows) [V] of a replay.

    One logical column is two physical ones, or four with the error pair of analog slicing.
    """
    devices = layer.arrays[tile].devices
    if devices is None:
        raise ParameterError(f"{layer.spec.name} keeps no devices: Hardware(keep_devices=True)")
    g = devices[:, :, columns].transpose(2, 0, 1).reshape(-1, devices.shape[1]).astype(float)
    v_read = layer.hardware.library.technology.column.v_read_v
    return g, drive[:, layer.tiles[tile]].astype(float) * v_read


def column_outputs(
    layer: AnalogLinear, tile: int, columns: Index, drive: Array, **run_options: Any
) -> Floats:
    """Return what ngspice gives for columns of a tile, in normalised units (n, columns).

    Parameters
    ----------
    drive : (n, in) row drives of the whole layer, in [-1, 1].
    **run_options
        As `circuits.plan.run`.

    Raises
    ------
    SimulationError
        A circuit failed in ngspice.
    """
    library, model = layer.hardware.library, layer.hardware.crossbar
    g, v = column_circuits(layer, tile, columns, drive)
    current = crossbar.replay(library.device, library.technology, g, v, **run_options)
    current = current.reshape(len(v), len(columns), -1)  # (n, columns, 2 or 4)
    total = current[..., 0] - current[..., 1]
    if current.shape[2] == 4:
        scale = layer.arrays[tile].error_scale[columns // TILE_COLUMNS]
        total += (current[..., 2] - current[..., 3]) / scale
    if not np.isfinite(total).all():
        raise SimulationError(
            f"{layer.spec.name} tile {tile}: ngspice failed on a replayed column; the kept "
            "netlists are listed above"
        )
    return np.asarray(total / (model.v_read * model.span))


def search_circuits(
    hardware: Hardware, unit: AcamUnit, columns: Index, u: Array
) -> tuple[Floats, Floats, Floats]:
    """Return g_lo, g_hi [S] and the data line [V] of every row (n, rows) of n searches."""
    device = hardware.library.device
    if unit.g_lo is None or unit.g_hi is None:
        raise ParameterError("the ACAM unit keeps no conductances: Hardware(keep_devices=True)")
    at = columns if len(unit.g_lo) > 1 else np.zeros_like(columns)
    # A branch that is off is a bound beyond the data line: the least and the largest conductance.
    g_lo = np.where(unit.g_lo[at] > 0, unit.g_lo[at], device.g_min_s).astype(float)
    g_hi = np.where(unit.g_hi[at] > 0, unit.g_hi[at], device.g_max_s).astype(float)
    v_dl = np.repeat(hardware.acam.voltage(u)[:, None], g_lo.shape[1], axis=1)
    return g_lo, g_hi, v_dl


def search_codes(
    hardware: Hardware, unit: AcamUnit, columns: Index, u: Array, **run_options: Any
) -> Index:
    """Return the output codes (n,) that ngspice gives for data-line positions u (n,).

    Raises
    ------
    SimulationError
        A circuit failed in ngspice.
    """
    library = hardware.library
    g_lo, g_hi, v_dl = search_circuits(hardware, unit, columns, u)
    v_ml = acam.replay(
        library.device, library.technology, g_lo.ravel(), g_hi.ravel(), v_dl.ravel(), **run_options
    )
    if not np.isfinite(v_ml).all():
        raise SimulationError(
            "ngspice failed on a replayed search; the kept netlists are listed above"
        )
    match = acam.is_match(library.technology, v_ml).reshape(g_lo.shape)
    assert unit.lo is not None
    at = columns if len(unit.lo) > 1 else np.zeros_like(columns)
    match &= ~np.isposinf(unit.lo[at])  # rows that are switched off: stuck, or out of reach
    return decode_rows(match, unit.bit, unit.bits, unit.gray)


def decode_rows(match: NDArray[np.bool_], bit: Index, bits: int, gray: bool) -> Index:
    """OR the matching rows (searches, rows) of each output bit and decode the word."""
    word = np.zeros(len(match), np.int64)
    for b in range(bits):
        word |= match[:, bit == b].any(axis=1).astype(np.int64) << b
    shift = 1
    while gray and shift < bits:
        word ^= word >> shift
        shift *= 2
    return word


@dataclass(frozen=True)
class ColumnErrors:
    """Outputs of columns of one row tile, in LSB of the layer's read-out range.

    Attributes
    ----------
    ours, spice : (stimuli, columns) float arrays [LSB]
    on_line : (stimuli, columns) bool array
        The column's whole output, all tiles, lies on its data line; beyond it the conversion
        saturates, and an error of the product changes nothing.
    """

    tile: int
    columns: Index
    stimuli: Stimuli
    ours: Floats
    spice: Floats
    on_line: NDArray[np.bool_]

    @property
    def errors(self) -> Floats:
        """Model minus ngspice (stimuli, columns) [LSB]."""
        return self.ours - self.spice


@dataclass(frozen=True)
class CodeErrors:
    """ACAM output codes of one unit: a tile's, or the layer's (tile None)."""

    tile: int | None
    chosen: Conversions
    ours: Index
    spice: Index

    @property
    def differences(self) -> Index:
        """Model minus ngspice (searches,)."""
        return self.ours - self.spice


def replay_columns(
    layer: AnalogLinear, x: Array, sampling: Sampling, rng: np.random.Generator, **run_options: Any
) -> list[ColumnErrors]:
    """Compare columns with ngspice on recorded inputs x (n, in)."""
    found, drive = [], layer.drive(x)
    for tile in np.sort(spread(np.arange(len(layer.tiles)), sampling.tiles, rng)).tolist():
        devices = layer.arrays[tile].devices
        assert devices is not None
        columns = np.sort(spread(devices[:2].sum(axis=(0, 1)), sampling.columns, rng))
        ours = layer.multiply(drive, tile)[:, columns]
        stimuli = choose_stimuli(drive[:, layer.tiles[tile]], ours, sampling, rng)
        index, step = stimuli.index, lsb(layer)[columns].astype(float)
        spice = column_outputs(layer, tile, columns, drive[index], **run_options)
        u = data_line(layer, drive[index], tile)[:, columns]
        inside = (u > 0.0) & (u < 1.0)
        found.append(ColumnErrors(tile, columns, stimuli, ours[index] / step, spice / step, inside))
    return found


def data_line(layer: AnalogLinear, drive: Array, unit: int) -> Array:
    """Return data-line positions (n, out) in [0, 1] before a unit: a tile's, or the layer's."""
    spec = layer.spec
    if layer.digital_sum:
        y = layer.multiply(drive, unit)
        low, high = spec.tile_lo[unit], spec.tile_hi[unit]
    else:
        y = layer.multiply(drive, 0)
        for tile in range(1, len(layer.tiles)):
            y += layer.multiply(drive, tile)
        low, high = spec.y_lo, spec.y_hi
    return line_position(y, spec.gain, (low, high))


def line_position(y: Array, gain: Array, line: tuple[Array, Array]) -> Array:
    """Return the positions on the data line that the conversion kernel sees, clipped to [0, 1]."""
    width = line[1] - line[0]
    return np.clip(y * (gain / width) - line[0] / width, 0.0, 1.0).astype(np.float32)


def replay_searches(
    layer: AnalogLinear, x: Array, sampling: Sampling, rng: np.random.Generator, **run_options: Any
) -> list[CodeErrors]:
    """Compare ACAM output codes with ngspice at the data-line positions of recorded inputs."""
    units = np.arange(len(layer.tiles) if layer.digital_sum else 1)
    units = np.sort(spread(units, min(sampling.tiles, sampling.searches), rng))
    found, drive = [], layer.drive(x)
    for k, unit in enumerate(units.tolist()):
        count = (sampling.searches + k) // len(units)
        u = data_line(layer, drive, unit)
        chosen = choose_conversions(layer.first_units[unit], u, count, rng)
        ours = unit_codes(layer, unit, chosen.column, chosen.u)
        spice = search_codes(
            layer.hardware, layer.first_units[unit], chosen.column, chosen.u, **run_options
        )
        found.append(CodeErrors(unit if layer.digital_sum else None, chosen, ours, spice))
    return found


def unit_codes(layer: AnalogLinear, unit: int, columns: Index, u: Array) -> Index:
    """Return the model's codes (n,) for positions u (n,) of columns (n,)."""
    wide = np.repeat(u[:, None], layer.first_units[unit].columns, axis=1)
    codes, _ = layer.hardware.acam.convert(layer.first_units[unit], wide)
    return codes[np.arange(len(u)), columns].astype(np.int64)


def dry_run(simulate: Callable[..., Any]) -> list[Job]:
    """Return the netlists that a replay would simulate; `simulate` takes run options."""
    jobs: list[Job] = []
    with contextlib.suppress(SimulationError):  # a dry run returns no data
        simulate(record=jobs)
    return jobs

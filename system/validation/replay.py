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
from behavioral.reference import row_voltages
from circuits import acam, crossbar
from circuits.errors import ParameterError, SimulationError
from circuits.plan import Job
from system.hardware import Hardware
from system.linear import AnalogLinear
from system.models.ops import Array
from system.validation.bracket import row_matches
from system.validation.sampling import (
    Conversions,
    Index,
    RecordedLinear,
    Sampling,
    Stimuli,
    choose_conversions,
    choose_stimuli,
    spread,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def lsb(layer: AnalogLinear, fine: bool = False) -> Array:
    """Return 1/256 of a read-out range of every column, in normalised units (out,)."""
    spec = layer.spec
    if fine and spec.fine is not None:
        spec = spec.fine
    return np.asarray((spec.y_hi - spec.y_lo) / spec.gain / 256, np.float32)


def column_circuits(
    layer: AnalogLinear, tile: int, columns: Index, drive: Array
) -> list[tuple[Floats, Floats]]:
    """Return conductances (physical columns, rows) [S] and row voltages (n, rows) [V] of replays.

    One logical column is two physical ones, or four with the error pair of analog slicing. Ideal
    row drivers give all the same voltages: one replay. Others see the load of their own array: as
    many replays as a column has arrays, with one physical column each for every logical one.
    """
    devices, model = layer.arrays[tile].devices, layer.hardware.crossbar
    if devices is None:
        raise ParameterError(f"{layer.spec.name} keeps no devices: Hardware(keep_devices=True)")
    x = drive[:, layer.tiles[tile]].astype(float)
    if model.row_transfer is None:
        g = devices[:, :, columns].transpose(2, 0, 1).reshape(-1, devices.shape[1])
        return [(g.astype(float), x * model.v_read)]
    side = columns[0] // TILE_COLUMNS * TILE_COLUMNS
    arrays = devices[:, :, side : side + TILE_COLUMNS]
    return [
        (device[:, columns].T.astype(float), row_voltages(model, array, x))
        for device, array in zip(devices, arrays, strict=True)
    ]


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
    side = columns // TILE_COLUMNS
    if model.row_transfer is not None and len(sides := np.unique(side)) > 1:
        parts = [columns[side == one] for one in sides]
        found = [column_outputs(layer, tile, part, drive, **run_options) for part in parts]
        return np.concatenate(found, axis=1)[:, np.argsort(np.argsort(side, kind="stable"))]
    replays = [
        crossbar.replay(library.device, library.technology, g, v, **run_options)
        for g, v in column_circuits(layer, tile, columns, drive)
    ]
    current = np.stack(replays, axis=-1).reshape(len(drive), len(columns), -1)  # 2 or 4 arrays
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
    hardware: Hardware,
    unit: AcamUnit,
    columns: Index,
    u: Array,
    *,
    bracketed: bool = False,
    **run_options: Any,
) -> Index:
    """Return the output codes (n,) that ngspice gives for data-line positions u (n,).

    Parameters
    ----------
    bracketed : bool
        Simulate each half only where its answer does not follow from its other answers, as
        `system.validation.bracket` says; needs two match lines, and ignored with one.

    Raises
    ------
    SimulationError
        A circuit failed in ngspice.
    """
    if bracketed and hardware.library.technology.acam.match_lines == 2:
        match = row_matches(hardware, unit, columns, u, **run_options)
    else:
        match = _replay_rows(hardware, unit, columns, u, run_options)
    assert unit.lo is not None
    at = columns if len(unit.lo) > 1 else np.zeros_like(columns)
    match &= ~np.isposinf(unit.lo[at])  # rows that are switched off: stuck, or out of reach
    return decode_rows(match, unit.bit, unit.bits, unit.gray)


def _replay_rows(
    hardware: Hardware, unit: AcamUnit, columns: Index, u: Array, run_options: dict[str, Any]
) -> Bools:
    """Simulate every row (n, rows) of every search."""
    library = hardware.library
    g_lo, g_hi, v_dl = search_circuits(hardware, unit, columns, u)
    v_ml = acam.replay(
        library.device, library.technology, g_lo.ravel(), g_hi.ravel(), v_dl.ravel(), **run_options
    )
    if not np.isfinite(v_ml).all():
        raise SimulationError(
            "ngspice failed on a replayed search; the kept netlists are listed above"
        )
    return acam.is_match(library.technology, v_ml).reshape(g_lo.shape)


def decode_rows(match: Bools, bit: Index, bits: int, gray: bool) -> Index:
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
    on_fine : (stimuli, columns) bool array or None
        It lies in the column's second read-out range, whose code is then taken.
    fine_gain : (columns,) float array or None
        LSB of the second range in one of the first. Both None without a second range.
    """

    tile: int
    columns: Index
    stimuli: Stimuli
    ours: Floats
    spice: Floats
    on_line: Bools
    on_fine: Bools | None = None
    fine_gain: Floats | None = None

    @property
    def errors(self) -> Floats:
        """Model minus ngspice (stimuli, columns) [LSB]."""
        return self.ours - self.spice

    @property
    def fine_errors(self) -> Floats:
        """Errors (points,) of outputs that the second range reads, in LSB of that range."""
        if self.on_fine is None or self.fine_gain is None:
            return np.empty(0)
        return np.asarray((self.errors * self.fine_gain)[self.on_fine])


@dataclass(frozen=True)
class CodeErrors:
    """ACAM output codes of one unit: a tile's, or the layer's (tile None).

    Attributes
    ----------
    searched : the model's codes without the step table, row by row.
    fine : of the second read-out range.
    copy : its number among the units on the same data lines.
    unit : "log" or "exp" unit of a block of products; else empty.
    """

    tile: int | None
    chosen: Conversions
    ours: Index
    searched: Index
    spice: Index
    fine: bool = False
    copy: int = 0
    unit: str = ""

    @property
    def differences(self) -> Index:
        """Model minus ngspice (searches,)."""
        return self.ours - self.spice


@dataclass(frozen=True)
class Place:
    """ACAM units on the same data lines: their place in a layer.

    Attributes
    ----------
    number : in `RecordedLinear.copies`.
    tile : None: the layer's, after the sum of all tiles.
    fine : of the second read-out range.
    """

    number: int
    tile: int | None
    fine: bool = False


def places(layer: RecordedLinear) -> list[Place]:
    """Return where a layer has ACAM units, in the order of `RecordedLinear.copies`."""
    tiles = len(layer.tiles) if layer.digital_sum else 0
    found = [Place(k, k) for k in range(tiles)]
    found += [Place(k, None) for k in range(tiles, len(layer.units))]
    return found + [Place(k, None, True) for k in range(len(found), len(layer.copies))]


def replay_columns(
    layer: RecordedLinear,
    x: Array,
    sampling: Sampling,
    rng: np.random.Generator,
    **run_options: Any,
) -> list[ColumnErrors]:
    """Compare columns with ngspice on recorded inputs x (n, in)."""
    found, drive = [], layer.drive(x)
    lines = [is_inside(u) for u in layer.data_lines(drive)]
    fine = layer.spec.fine is not None
    for tile in np.sort(spread(np.arange(len(layer.tiles)), sampling.tiles, rng)).tolist():
        devices = layer.arrays[tile].devices
        assert devices is not None
        columns = np.sort(spread(devices[:2].sum(axis=(0, 1)), sampling.columns, rng))
        ours = layer.multiply(drive, tile)[:, columns]
        stimuli = choose_stimuli(drive[:, layer.tiles[tile]], ours, sampling, rng)
        index, step = stimuli.index, lsb(layer)[columns].astype(float)
        spice = column_outputs(layer, tile, columns, drive[index], **run_options)
        whole = lines[tile if layer.digital_sum else 0]
        at = np.ix_(index, columns)
        refined = (lines[-1][at], step / lsb(layer, fine=True)[columns]) if fine else (None, None)
        ours = ours[index] / step
        found.append(ColumnErrors(tile, columns, stimuli, ours, spice / step, whole[at], *refined))
    return found


def is_inside(u: Array) -> Bools:
    """Tell which positions lie on the data line, not at or beyond its ends."""
    return np.asarray((u > 0.0) & (u < 1.0))


def replay_searches(
    layer: RecordedLinear,
    x: Array,
    sampling: Sampling,
    rng: np.random.Generator,
    **run_options: Any,
) -> list[CodeErrors]:
    """Compare output codes of single ACAM units with ngspice at recorded data-line positions."""
    tiles = [p for p in places(layer) if p.tile is not None]
    chosen = np.sort(spread(np.arange(len(tiles)), sampling.tiles, rng))
    used = [tiles[k] for k in chosen] + [p for p in places(layer) if p.tile is None]
    units = [(place, copy) for place in used for copy in range(len(layer.copies[place.number]))]
    if len(units) > sampling.searches:
        units = [units[k] for k in np.sort(spread(np.arange(len(units)), sampling.searches, rng))]
    found, lines = [], layer.data_lines(layer.drive(x))
    for k, (place, copy) in enumerate(units):
        count = (sampling.searches + k) // len(units)
        unit, u = layer.copies[place.number][copy], lines[place.number]
        chosen_here = choose_conversions(unit, u, count, rng, is_inside(u) if place.fine else None)
        at = chosen_here.column, chosen_here.u
        ours, searched = unit_codes(layer.hardware, unit, *at)
        spice = search_codes(layer.hardware, unit, *at, **run_options)
        found.append(CodeErrors(place.tile, chosen_here, ours, searched, spice, place.fine, copy))
    return found


def unit_codes(hardware: Hardware, unit: AcamUnit, columns: Index, u: Array) -> tuple[Index, Index]:
    """Return the model's codes (n,) for positions u (n,) of columns (n,), and those of a search.

    An inference takes codes from a step table; the search compares row by row.
    """
    wide = np.repeat(u[:, None], unit.columns, axis=1)
    at = np.arange(len(u)), columns
    codes, _ = hardware.acam.convert(unit, wide)
    return codes[at].astype(np.int64), hardware.acam.search(unit, wide)[at].astype(np.int64)


def dry_run(simulate: Callable[..., Any]) -> list[Job]:
    """Return the netlists that a replay would simulate; `simulate` takes run options."""
    jobs: list[Job] = []
    with contextlib.suppress(SimulationError):  # a dry run returns no data
        simulate(record=jobs)
    return jobs

"""Analog CAM units: a function's windows programmed into noisy cells, compiled to step tables."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from behavioral.acam_cell import check_curves, sample_cell
from behavioral.acam_unit import (
    AcamUnit,
    check_input,
    check_rows,
    convert,
    copy_seeds,
    per_column,
    refuse_nan,
)
from behavioral.kernels import acam as kernels
from behavioral.kernels import steps
from behavioral.noise import generator, normal, stream_key
from behavioral.overlap import Overlap
from behavioral.spares import add_spares, take_over
from behavioral.windows import Windows
from circuits.errors import ParameterError, TableRangeError
from circuits.parameters import Device

__all__ = ["AcamModel", "AcamUnit", "Windows"]

FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]
Bounds = tuple[SingleArray, SingleArray]
Seed = int | tuple[int, ...]

_BLOCK = 64  # columns programmed together: tables and draws of theirs stay in the cache


class AcamModel:
    """The characterised 6T2M cell on one device: programs and evaluates ACAM units.

    Parameters
    ----------
    g : (n,) float array [S]
        Conductance axis, increasing, covering the device's range.
    th_lower, th_upper : (n,) float arrays [V]
        Threshold of the lower and the upper bound on the data line, increasing with ``g``.
    device : Device
        Range, noise laws and stuck-off rate.
    overlap : Overlap or None
        Interaction of the two halves of a cell on one match line. None: independent halves.
    v_range : (float, float) or None [V]
        Voltages that the read-out can drive. None: all.

    Attributes
    ----------
    v_lo, v_hi : float [V]
        Data-line range: the voltages that the read-out drives and that both bounds reach with a
        programmable conductance, windows of any width included.

    Raises
    ------
    ParameterError
        Curves that are not finite, not increasing, do not cover the device, or do not overlap.
    """

    def __init__(
        self,
        g: ArrayLike,
        th_lower: ArrayLike,
        th_upper: ArrayLike,
        device: Device,
        overlap: Overlap | None = None,
        v_range: tuple[float, float] | None = None,
    ) -> None:
        axis = np.asarray(g, dtype=np.float64)
        curves = [np.asarray(th, dtype=np.float64) for th in (th_lower, th_upper)]
        check_curves(axis, curves, device)
        self.device = device
        self.overlap = overlap
        self.spare_rows = 0  # for each output bit, to stand in for stuck ones
        self.g_range = (float(axis[0]), float(axis[-1]))
        forward = [PchipInterpolator(np.log(axis), th, extrapolate=True) for th in curves]
        logs = np.linspace(np.log(device.g_min_s), np.log(device.g_max_s), 1 << 16)
        reach = np.stack([th(logs) for th in forward])
        widest = overlap.widen.max(axis=(1, 2)) if overlap else (0.0, 0.0)
        driven = (-np.inf, np.inf) if v_range is None else v_range
        self.v_lo = float(max(reach[0, 0] + widest[0], reach[1, 0], driven[0]))
        self.v_hi = float(min(reach[0, -1], reach[1, -1] - widest[1], driven[1]))
        if self.v_lo >= self.v_hi:
            raise ParameterError(
                f"the two bounds and the read-out share no data-line voltage ({self.v_lo:.4g} to"
                f" {self.v_hi:.4g} V) between {device.g_min_s:g} and {device.g_max_s:g} S:"
                " resize the cell or change readout.v_dl_lo_v and v_dl_hi_v"
            )
        driven = self.v_lo, self.v_hi
        self._cell = sample_cell(device, self.g_range, driven, forward, logs, reach, overlap)

    @classmethod
    def from_library(
        cls, library: Any, thresholds: str = "dynamic", *, overlap: bool | None = None
    ) -> Self:
        """Use the characterised curves of a library.

        Parameters
        ----------
        library : behavioral.library.Library
        thresholds : {"dynamic", "static"}
            Threshold at the sense time, or at the trip current without time limit.
        overlap : bool or None
            Let the halves of a cell interact on a shared match line. None: if the technology has
            one match line for both.
        """
        data = library.acam
        names = {"dynamic": ("lower_v", "upper_v"), "static": ("lower_static_v", "upper_static_v")}
        if thresholds not in names:
            raise ParameterError(f"thresholds = {thresholds!r}: use 'dynamic' or 'static'")
        lower, upper = (getattr(data, name) for name in names[thresholds])
        shared = library.technology.acam.match_lines == 1 if overlap is None else overlap
        tables = None
        if shared:
            tables = Overlap.from_curves(
                lower, upper, data.overlap_offset_v, data.lower_overlap, data.upper_overlap
            )
        readout = library.technology.readout
        driven = (readout.v_dl_lo_v, readout.v_dl_hi_v)
        return cls(data.g, lower, upper, library.device, tables, driven)

    def voltage(self, u: ArrayLike) -> FloatArray:
        """Return the data-line voltage [V] of normalised positions ``u``."""
        return np.asarray(self.v_lo + np.asarray(u, np.float64) * (self.v_hi - self.v_lo))

    def conductance(self, u: ArrayLike, bound: str = "lower") -> FloatArray:
        """Return the RRAM conductance [S] that puts a bound at ``u`` (within [0, 1])."""
        side = _which(bound)
        start, gain = self._cell.inverse_start[side], self._cell.inverse_gain[side]
        position = (self.voltage(u) - start) * gain
        table = self._cell.inverse[side]
        return np.asarray(np.interp(position, np.arange(table.size), table), dtype=np.float64)

    def threshold(self, g: ArrayLike, bound: str = "lower") -> FloatArray:
        """Return the threshold voltage [V] of a conductance [S].

        Raises
        ------
        TableRangeError
            A conductance outside the characterised axis.
        """
        g = np.asarray(g, dtype=np.float32)
        low, high = np.float32(self.g_range[0]), np.float32(self.g_range[1])
        if g.size and not (np.all(g >= low) and np.all(g <= high)):
            raise TableRangeError(
                f"conductances from {g.min():.3g} to {g.max():.3g} S leave the characterised"
                f" {low:.3g} to {high:.3g} S; characterise a wider axis"
            )
        table = self._cell.forward[_which(bound)]
        flat = [kernels.octave_lookup(table, self._cell.base, value) for value in g.ravel()]
        return np.asarray(flat, dtype=np.float64).reshape(g.shape)

    def program(
        self,
        lo: ArrayLike,
        hi: ArrayLike,
        bit: ArrayLike,
        bits: int,
        *,
        seed: Seed = 0,
        noise: bool | float = True,
        gray: bool = True,
        columns: int | None = None,
        levels: int | None = None,
        flat_below: bool = False,
        floor: float = 0.0,
        keep_thresholds: bool = True,
        keep_conductances: bool = False,
        copies: int = 1,
    ) -> AcamUnit:
        """Write windows into cells and compile each column's step table.

        Bounds at or beyond the ends of the data line become open: that branch of the cell is
        disabled and noise-free. The others go through the characterised curve to a conductance,
        receive programming and read noise, and come back through the curve. Stuck-off devices
        disable their row. Bounds that noise makes cross (``lo >= hi``) leave an empty row.

        Parameters
        ----------
        lo, hi : (columns or 1, rows) float arrays
            Wanted bounds on the data line, in u.
        bit : (rows,) int array
        bits : int
        seed : int or tuple of int
            For example (seed, chip, layer, tile); the same seed gives the same bits on any number
            of threads.
        noise : bool or float
            False: ideal cells, none stuck; a number scales both standard deviations.
        gray : bool
        columns : int or None
            Number of columns when ``lo`` and ``hi`` have one shared row set. Noise still differs
            per column; without noise one table is shared.
        levels : int or None
            Instead of a step table, make a table over this many uniform DAC levels.
        flat_below : bool
            The function is constant below the data line; see `AcamUnit`.
        floor : float
            Data-line position at which the codes begin; see `AcamUnit`.
        keep_thresholds, keep_conductances : bool
            Keep what `search` and what a SPICE replay need, of the first copy.
        copies : int
            Units on every data line, whose codes are added digitally.

        Raises
        ------
        ParameterError
            Shapes that do not fit, NaN bounds, or bits that the codes cannot hold.
        """
        lo, hi, bit, count = check_rows(lo, hi, bit, bits, columns, copies)
        scale, keys = float(noise), copy_seeds(seed, copies)
        wanted = self._wanted(lo, hi, count, keys)
        spared = self.spare_rows > 0 and scale > 0.0 and self.device.stuck_off_rate > 0.0
        if spared:  # in every copy other rows
            added = [add_spares(*w, bit, bits, self.spare_rows, count) for w in wanted]
            wanted, bit = [(lo, hi) for lo, hi, _ in added], added[0][2]
        width = len(wanted[0][0]) if scale == 0.0 else count
        stuck = [self._draw_stuck((width, bit.size, 2), key, scale) for key in keys]
        if spared:
            for bounds, off in zip(wanted, stuck, strict=True):
                take_over(*bounds, bit, off)
        table = _empty_table(width, levels, copies * (2**bits - 1))
        empty = clipped = 0
        size = width if keep_thresholds or keep_conductances else min(width, _BLOCK)
        for first in range(0, width, size):
            part = slice(first, min(first + size, width))
            ends = np.empty((copies, 2, part.stop - first, bit.size), np.float32)
            for copy, key in reversed(list(enumerate(keys))):  # what is kept is the first one's
                if copy == copies - 1 or wanted[copy] is not wanted[copy + 1]:
                    aims, branches = self._aim(*wanted[copy], part, scale)
                normals = _draw_normals((*ends.shape[2:], 2, 2), key, scale, first)
                g = np.empty_like(ends[copy])
                outside = kernels.program(
                    aims, branches, self._cell, normals, stuck[copy][part], ends[copy], g
                )
            actual, clipped = ends[0], clipped + outside
            empty += int(np.count_nonzero(actual[0] >= actual[1]))
            _compile(ends, bit, gray, table[part])
        return AcamUnit(
            columns=count,
            bits=bits,
            gray=gray,
            table=table,
            bit=bit,
            lo=actual[0].copy() if keep_thresholds else None,
            hi=actual[1].copy() if keep_thresholds else None,
            g_lo=g[0] if keep_conductances else None,
            g_hi=g[1] if keep_conductances else None,
            flat_below=flat_below,
            floor=floor,
            empty_rows=empty,
            stuck_devices=int(np.count_nonzero(stuck[0])),
            clipped_devices=int(clipped),
            copies=copies,
        )

    def _wanted(
        self, lo: SingleArray, hi: SingleArray, columns: int, keys: list[tuple[int, ...]]
    ) -> list[Bounds]:
        """Return the bounds to program into each unit on the same data lines."""
        return [(lo, hi)] * len(keys)

    def _aim(
        self, lo: SingleArray, hi: SingleArray, part: slice, scale: float
    ) -> tuple[SingleArray, NDArray[np.int8]]:
        """Find what the devices of some columns, or of all alike, are programmed to."""
        if len(lo) > 1:
            lo, hi = lo[part], hi[part]
        aims = np.empty((len(lo), 2, 3, lo.shape[1]), np.float32)
        branches = np.empty((len(lo), 2, lo.shape[1]), np.int8)
        kernels.aim(lo, hi, self._cell, np.float32(scale), aims, branches)
        return aims, branches

    def _draw_stuck(
        self, shape: tuple[int, int, int], seed: Seed, scale: float
    ) -> NDArray[np.bool_]:
        """Draw which devices (columns, rows, 2) are stuck off; no rows where none can be."""
        rate = self.device.stuck_off_rate if scale else 0.0
        if not rate:
            return np.zeros((shape[0], 0, 2), np.bool_)
        return generator(seed, "acam/stuck").random(shape, dtype=np.float32) < rate

    def convert(self, unit: AcamUnit, u: ArrayLike) -> tuple[NDArray[Any], int]:
        """Convert data-line positions to codes; see `convert_affine`."""
        return self.convert_affine(unit, u, 1.0, 0.0)

    def convert_affine(
        self, unit: AcamUnit, y: ArrayLike, scale: ArrayLike, shift: ArrayLike
    ) -> tuple[NDArray[Any], int]:
        """Convert ``u = y * scale + shift`` to codes in one pass.

        Parameters
        ----------
        unit : AcamUnit
        y : (batch, columns) float array
        scale, shift : float or (columns,) float arrays

        Returns
        -------
        codes : (batch, columns) uint8 or uint16 array
        clipped : int
            Inputs outside [0, 1]; they take the code of the nearest end.

        Raises
        ------
        ParameterError
            Shapes that do not fit, or NaN in the input.
        """
        line, ends = per_column(unit.columns, scale, shift), per_column(unit.columns, 0.0, 1.0)
        return convert(unit, y, line, ends, np.min_scalar_type(unit.top))

    def convert_values(
        self,
        unit: AcamUnit,
        y: ArrayLike,
        scale: ArrayLike,
        shift: ArrayLike,
        *,
        base: ArrayLike = 0.0,
        width: ArrayLike = 1.0,
    ) -> tuple[SingleArray, int]:
        """Like `convert_affine`, but emit ``base + width * code / unit.top`` in float32.

        `base` and `width` are one number, or (columns,) arrays.
        """
        step = np.asarray(width, np.float32) / np.float32(unit.top)
        line, ends = per_column(unit.columns, scale, shift), per_column(unit.columns, base, step)
        return convert(unit, y, line, ends, np.dtype(np.float32))

    def search(self, unit: AcamUnit, u: ArrayLike) -> NDArray[np.uint16]:
        """Compare inputs with every row: exact and slow, for validation.

        Inputs are clipped to [0, 1] as in `convert`.

        Parameters
        ----------
        u : (batch, columns) float array

        Returns
        -------
        codes : (batch, columns) uint16 array
        """
        if unit.lo is None or unit.hi is None:
            raise ParameterError("the unit keeps no thresholds; program with keep_thresholds=True")
        u = check_input(u, unit.columns)
        refuse_nan(u)
        out = np.empty(u.shape, np.uint16)
        kernels.search(unit.lo, unit.hi, unit.bit, unit.gray, np.clip(u, 0, 1), out)
        return out


def _empty_table(columns: int, levels: int | None, top: int) -> NDArray[Any]:
    """Return a step table, or codes at DAC levels to add to, of so many columns."""
    if levels is None:
        return np.empty((columns, steps.CELLS, 2), np.int64)
    return np.zeros((columns, levels), np.min_scalar_type(top))


def _compile(bounds: SingleArray, bit: NDArray[np.int64], gray: bool, table: NDArray[Any]) -> None:
    """Fill the table of some columns from the bounds (copies, 2, columns, rows) of their units."""
    if table.ndim == 3:
        steps.compile_steps(bounds, bit, gray, table)
        return
    for lower, upper in bounds:
        kernels.compile_levels(lower, upper, bit, gray, table)


def _draw_normals(
    shape: tuple[int, int, int, int], seed: Seed, scale: float, first: int
) -> SingleArray:
    """Draw the normals (columns, rows, bound, write and read) of a unit from column `first` on."""
    if not scale:
        return np.zeros(shape, np.float32)
    start = first * math.prod(shape[1:])
    return normal(stream_key(seed, "acam/noise"), shape, start)


def _which(bound: str) -> int:
    if bound not in ("lower", "upper"):
        raise ParameterError(f"bound = {bound!r}: use 'lower' or 'upper'")
    return 0 if bound == "lower" else 1

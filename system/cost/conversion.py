"""Energy of ACAM conversions, as functions of data.

Cells: the library's tables of each half over conductance and data line. Match lines, sense
amplifiers, OR lines, clocks and decoder: a whole unit at transistor level, row by row
(`circuits.unit_energy`); where it is not known, match lines by the library's table, no more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit
from behavioral.library import Library
from circuits.acam_unit import PARTS
from circuits.errors import SimulationError
from circuits.unit_energy import UnitEnergy
from system.cost.spice import REMEDY, Floats, search_time, shares

SingleArray = NDArray[np.float32]


class ConversionEnergy:
    """Energy of conversions by one ACAM unit, part by part in the order of ``PARTS``.

    Parameters
    ----------
    library : Library
    acam : AcamModel
        With its spare rows: those that no window needs hold least conductances, so that their
        upper bounds keep them from matching, and are precharged and sensed like all others.
    unit : UnitEnergy or None
        What works around the cells.
    """

    def __init__(self, library: Library, acam: AcamModel, unit: UnitEnergy | None = None) -> None:
        data = library.acam
        self.unit = unit
        self._ln_g = np.log(data.energy_g)
        self._v = np.asarray(data.energy_v_dl, float)
        self._halves = [np.asarray(data.energy_lower_j), np.asarray(data.energy_upper_j)]
        self._line = np.asarray(data.energy_match_line_j, float)  # after a match, a mismatch
        self._open = library.device.g_min_s, library.device.g_max_s
        self._shared = library.technology.acam.match_lines == 1
        self._acam = acam
        tables = (*self._halves, self._line)
        if not all(np.isfinite(t).all() for t in tables) or not self._line.size:
            raise SimulationError(f"the library lacks points of the ACAM energy table; {REMEDY}")
        if unit is not None:  # the dividers' current flows in the whole cycle, not in a search only
            longer = unit.cycle_s / search_time(library)
            self._halves = [table * longer for table in self._halves]

    def column(self, unit: AcamUnit, column: int, u: Floats) -> Floats:
        """Return the energy [J] of one unit for conversions at u (n,) in [0, 1]."""
        return np.asarray(self.parts(unit, column, u).sum(axis=1))

    def parts(self, unit: AcamUnit, column: int, u: Floats) -> Floats:
        """Return the same part by part, (n, parts) [J]."""
        assert unit.lo is not None
        assert unit.hi is not None
        k = column if len(unit.lo) > 1 else 0
        used = programmed_rows(unit, k)
        spare = unit.bits * self._acam.spare_rows
        u = np.clip(np.asarray(u, float), 0.0, 1.0)
        out = np.zeros((len(u), len(PARTS)))
        out[:, 0] = self._cells(unit, k, used, spare, self._acam.voltage(u))
        lo, hi = unit.lo[k][used], unit.hi[k][used]
        below = len(lo) - np.searchsorted(np.sort(lo), u, side="left")  # rows with lo >= u
        above = np.searchsorted(np.sort(hi), u, side="right") + spare  # rows with hi <= u
        rows = len(lo) + spare
        if self.unit is None:
            lines = rows if self._shared else 2 * rows
            fallen = np.minimum(below + above, lines)
            out[:, 1] = fallen * self._line[1] + (lines - fallen) * self._line[0]
            return out
        states = np.stack([rows - below - above, below, above], axis=1)
        out[:, 1] = states @ self.unit.match_line_j
        out[:, 2] = states @ self.unit.sense_j
        bit = np.concatenate([unit.bit[used], np.repeat(np.arange(unit.bits), spare // unit.bits)])
        out[:, 3], out[:, 4] = or_lines(self.unit, lo, hi, bit, u)
        if unit.gray:
            out[:, 3] += (unit.bits - 1) * self.unit.gate_j
        return out

    def _cells(
        self, unit: AcamUnit, k: int, used: NDArray[np.bool_], spare: int, volts: Floats
    ) -> Floats:
        """Return the energy of all cells, (n,) [J]."""
        assert unit.g_lo is not None
        assert unit.g_hi is not None
        energy = np.zeros(len(volts))
        for g, table, off in zip(
            (unit.g_lo[k], unit.g_hi[k]), self._halves, self._open, strict=True
        ):
            held = g[used].astype(float)
            # nothing switches a half off: an open bound is the device's end of range
            held[held == 0.0] = off
            held = np.append(held, np.full(spare, self._open[0]))
            ln_g = np.clip(np.log(held), self._ln_g[0], self._ln_g[-1])
            energy += np.interp(volts, self._v, (shares(self._ln_g, ln_g[None]) @ table)[0])
        return energy


def or_lines(
    unit: UnitEnergy, lo: SingleArray, hi: SingleArray, bit: NDArray[np.int64], u: Floats
) -> tuple[Floats, float]:
    """Return the energy of all OR lines (n,) [J], and of their clocks and the rows' [J].

    Parameters
    ----------
    unit : UnitEnergy
    lo, hi : (rows,) float32 arrays
        Bounds of the rows that may match.
    bit : (rows or more,) int array
        Output bit of each row; rows without bounds never match.
    u : (n,) float array
        Data line.
    """
    never = len(bit) - len(lo)
    matches = (u[:, None] > lo) & (u[:, None] < hi)
    matches = np.pad(matches, ((0, 0), (0, never)))
    rest, down = unit.or_line_j
    energy, lines = np.zeros(len(u)), 0
    for k in np.unique(bit):
        mine = matches[:, bit == k]
        starts = np.arange(0, mine.shape[1], unit.rows_per_or_line)
        pulled = np.logical_or.reduceat(mine, starts, axis=1)
        lengths = np.diff(np.append(starts, mine.shape[1]))
        if len(starts) > 1:  # one more line joins the results
            pulled = np.column_stack([pulled, pulled.any(axis=1)])
            lengths = np.append(lengths, len(starts))
        cost = np.where(pulled[:, :, None], down, rest)  # (n, lines, 2)
        energy += (cost[..., 0] + cost[..., 1] * lengths).sum(axis=1)
        lines += len(lengths)
    return energy, float(lines * unit.clock_j[0] + len(bit) * unit.clock_j[1])


def programmed_rows(unit: AcamUnit, column: int) -> NDArray[np.bool_]:
    """Tell which rows of a column hold a bound; columns of one unit may need fewer than others."""
    assert unit.g_lo is not None
    assert unit.g_hi is not None
    return np.asarray((unit.g_lo[column] > 0.0) | (unit.g_hi[column] > 0.0))

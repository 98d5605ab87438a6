"""Many searches of the same ACAM units in ngspice, without simulating every row at every voltage.

On two match lines the halves of a cell do not interact, and each is a monotonic function of the
data line: on one side of its threshold it keeps its line, on the other it discharges it. So a half
needs only the two searched voltages between which it changes: those between which the model sees
it change, and where ngspice does not agree, those that bisection finds. The answer is that of
simulating every row at every voltage, with at most two transients a half where the model is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamUnit
from circuits.errors import SimulationError
from circuits.search import Half, SearchBench
from system.hardware import Hardware

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]


def row_matches(
    hardware: Hardware, unit: AcamUnit, columns: Index, u: NDArray[Any], **run_options: Any
) -> Bools:
    """Return which rows (n, rows) match in searches at u (n,) of columns (n,).

    Parameters
    ----------
    hardware, unit
        With two match lines per row; the unit keeps conductances and thresholds.
    columns, u : (n,) arrays
        Column and data-line position of each search.
    **run_options
        As `circuits.plan.run`.

    Raises
    ------
    SimulationError
        A circuit failed in ngspice.
    """
    assert unit.lo is not None
    assert unit.hi is not None
    assert unit.g_lo is not None
    assert unit.g_hi is not None
    device = hardware.library.device
    bench = SearchBench(device, hardware.library.technology, run_options)
    volts = hardware.acam.voltage(u)
    # A branch that is off is a bound beyond the data line: the least and the largest conductance.
    lower = _Side("lower", 1.0, unit.g_lo, unit.lo, device.g_min_s)
    upper = _Side("upper", -1.0, unit.g_hi, unit.hi, device.g_max_s)
    matches = np.ones((len(volts), unit.bit.size), np.bool_)
    for side in (lower, upper):
        ladders = _Ladders.of(columns, side.sign * volts)
        first = _first_match(bench, hardware, side, ladders)
        matches &= ladders.step[:, None] >= first[ladders.ladder]
    return matches


@dataclass(frozen=True)
class _Side:
    """One half of every cell; it keeps its line where sign times voltage is large enough."""

    half: Half
    sign: float
    g: NDArray[np.float32]
    bound: NDArray[np.float32]
    off: float

    def rows(self, columns: Index) -> tuple[Floats, NDArray[np.float32]]:
        """Return conductances [S] and bounds of the rows of some columns, (columns, rows)."""
        at = columns if len(self.g) > 1 else np.zeros_like(columns)
        return np.where(self.g[at] > 0, self.g[at], self.off).astype(float), self.bound[at]


@dataclass(frozen=True)
class _Ladders:
    """The different signed voltages of each column, increasing.

    Attributes
    ----------
    column, start, count : (ladders,) int arrays
        Column, place of its first voltage among `values`, and number of its voltages.
    values : (m,) float array [V]
    ladder, step : (n,) int arrays
        Ladder of each search, and its voltage's number on it.
    """

    column: Index
    start: Index
    count: Index
    values: Floats
    ladder: Index
    step: Index

    @classmethod
    def of(cls, columns: Index, signed: Floats) -> _Ladders:
        """Sort the searches of each column."""
        pairs, place = np.unique(np.stack([columns, signed], axis=1), axis=0, return_inverse=True)
        column, start, ladder, count = np.unique(
            pairs[:, 0], return_index=True, return_inverse=True, return_counts=True
        )
        place, ladder = place.ravel(), ladder.ravel()
        step = (np.arange(len(pairs)) - start[ladder])[place]
        return cls(column.astype(np.int64), start, count, pairs[:, 1], ladder[place], step)


def _first_match(bench: SearchBench, hardware: Hardware, side: _Side, ladders: _Ladders) -> Index:
    """Return the first step at which each row keeps its line, (ladders, rows); count: never."""
    g, bound = side.rows(ladders.column)
    predicted = np.empty(g.shape, np.int64)
    for k, (start, count) in enumerate(zip(ladders.start, ladders.count, strict=True)):
        steps = ladders.values[start : start + count]
        predicted[k] = np.searchsorted(steps, side.sign * hardware.acam.voltage(bound[k]))
    last = np.broadcast_to(ladders.count[:, None], g.shape)
    below, above = np.full(g.shape, -1), last.copy()  # known to discharge, known to keep
    probes: tuple[Index, ...] = (
        predicted - 1,
        np.minimum(predicted, last),
    )  # both ends of the predicted place
    while probes:
        wanted = [(p, (p > below) & (p < above)) for p in probes]
        row = np.concatenate([np.flatnonzero(w) for _, w in wanted])
        at = np.concatenate([p[w] for p, w in wanted])
        volts = side.sign * ladders.values[ladders.start[row // g.shape[1]] + at]
        kept = _keeps_line(bench, side.half, g.ravel()[row], volts)
        np.minimum.at(above.reshape(-1), row[kept], at[kept])
        np.maximum.at(below.reshape(-1), row[~kept], at[~kept])
        probes = ((below + above) // 2,) if (above - below > 1).any() else ()
    return above


def _keeps_line(bench: SearchBench, half: Half, g: Floats, volts: Floats) -> Bools:
    """Simulate halves (n,) on match lines of their own."""
    lines = [bench.half(half, *point) for point in zip(g, volts, strict=True)]
    v_ml, _ = bench.search(lines, f"search-{half}")
    if not np.isfinite(v_ml).all():
        raise SimulationError(
            "ngspice failed on a replayed search; the kept netlists are listed above"
        )
    return np.asarray(v_ml > bench.technology.acam.v_sense_v)

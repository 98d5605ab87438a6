"""Energy of what surrounds the cells of an ACAM unit, term by term, from small units in ngspice.

Match lines, sense amplifiers, OR lines, their clocks and the decoder of a whole unit are sums over
rows, OR lines and gates: short units of one OR line, and eight rows with a decoder, tell each term.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from circuits import plan
from circuits.acam_unit import PARTS, Rows, UnitBench, cycle_time
from circuits.errors import SimulationError
from circuits.parameters import Device, Technology
from circuits.search import Floats

# Of neighbouring bits of these codes, every pair of values occurs once.
CODES = (0b00000000, 0b11111111, 0b01010101, 0b10101010)
BITS = 8
LONGEST = 4  # rows of a simulated OR line; longer ones follow from constant and slope


@dataclass(frozen=True)
class UnitEnergy:
    """Energy of a conversion by what works in it, cells aside.

    Attributes
    ----------
    match_line_j, sense_j : (3,) float arrays [J]
        Match lines and sense amplifiers of a row that matches, of one that only its lower bound,
        and of one that only its upper bound keeps from matching.
    clock_j : (2,) float array [J]
        Clock drivers of an OR line, and of a row.
    or_line_j : (2, 2) float array [J]
        An OR line that no row pulls down, and one that some row does: constant, and per row.
    gate_j : float [J]
        An exclusive-or gate of the decoder, mean over the codes.
    cycle_s : float [s]
        From one conversion to the next.
    rows_per_or_line : int
        Rows of one output bit on one OR line; of more, a second line joins the results.
    """

    match_line_j: Floats
    sense_j: Floats
    clock_j: Floats
    or_line_j: Floats
    gate_j: float
    cycle_s: float
    rows_per_or_line: int


def measure(device: Device, technology: Technology, **run_options: Any) -> UnitEnergy:
    """Measure the terms of a unit's energy in ngspice.

    A row fails at its lower bound with the largest conductance there, at its upper bound with the
    least; the data line stands in the middle of its range. A second stage of OR lines is taken to
    cost what the first does.

    Parameters
    ----------
    device, technology : Device, Technology
    **run_options
        As ``circuits.plan.run``.

    Raises
    ------
    ParameterError
        The technology has no sizes for a unit.
    SimulationError
        A conversion failed in ngspice.
    """
    most = min(max(technology.unit.rows_per_or_line, 2), LONGEST)
    units = {
        "below": _one_line(device, "below", most),
        "above": _one_line(device, "above", most),
        "one matches": _one_line(device, "below", most, matching=1),
        "single below": _one_line(device, "below", 1),
        "single above": _one_line(device, "above", 1),
        "single matches": _one_line(device, "below", 1, matching=1),
    } | {code: _decoded(device, code) for code in CODES}
    readout = technology.readout
    middle = (readout.v_dl_lo_v + readout.v_dl_hi_v) / 2
    benches = [UnitBench(device, technology, rows) for rows in units.values()]
    results = plan.run([bench.job(middle) for bench in benches], **run_options)
    joules = {}
    for name, bench, result in zip(units, benches, results, strict=True):
        energy = bench.read(result)[1]
        if not np.isfinite(energy).all():
            raise SimulationError(f"ngspice failed on an ACAM unit: {result.message}")
        joules[name] = dict(zip(PARTS, energy.tolist(), strict=True))
    return _terms(joules, technology, most)


def _one_line(device: Device, fails: str, rows: int, matching: int = 0) -> Rows:
    """Return rows of one bit that fail at one bound; the first ``matching`` ones match."""
    lo, hi = np.full(rows, device.g_min_s), np.full(rows, device.g_max_s)
    if fails == "below":
        lo[matching:] = device.g_max_s
    else:
        hi[matching:] = device.g_min_s
    return Rows(lo, hi, np.zeros(rows, np.int64), 1, gray=False)


def _decoded(device: Device, code: int) -> Rows:
    """Return a row for each bit, which matches where the Gray word of a code is one."""
    on = (code ^ (code >> 1)) >> np.arange(BITS) & 1
    lo = np.where(on, device.g_min_s, device.g_max_s)
    return Rows(lo, np.full(BITS, device.g_max_s), np.arange(BITS), BITS)


def _terms(joules: dict[Any, dict[str, float]], technology: Technology, most: int) -> UnitEnergy:
    """Solve the sums of the small units for their terms."""
    _, lines, sense, logic, clocks = PARTS

    def by_row(part: str) -> Floats:
        below, above = joules["below"][part] / most, joules["above"][part] / most
        match = joules["one matches"][part] - (most - 1) * below
        return np.array([match, below, above])

    def by_length(long: list[str], single: list[str], part: str) -> Floats:
        """Return constant and slope over the rows of an OR line."""
        at_most = float(np.mean([joules[name][part] for name in long]))
        at_one = float(np.mean([joules[name][part] for name in single]))
        slope = (at_most - at_one) / (most - 1)
        return np.array([at_one - slope, slope])

    fails = ["below", "above"], ["single below", "single above"]
    or_line = np.stack(
        [by_length(*fails, logic), by_length(["one matches"], ["single matches"], logic)]
    )
    single = joules["single below"][logic], joules["single matches"][logic]
    decoder = [
        joules[code][logic]
        - sum(single[(code ^ (code >> 1)) >> k & 1] for k in range(BITS))
        for code in CODES
    ]  # fmt: skip
    return UnitEnergy(
        match_line_j=by_row(lines),
        sense_j=by_row(sense),
        clock_j=by_length(*fails, clocks),
        or_line_j=or_line,
        gate_j=float(np.mean(decoder)) / (BITS - 1),
        cycle_s=cycle_time(technology),
        rows_per_or_line=technology.unit.rows_per_or_line,
    )

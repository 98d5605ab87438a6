"""Writing a 1T1R cell and what reads do to it: dynamic RRAM, transistor-level access device.

A pulse and the read that verifies it are one transient of many cells, each with its own sources, so
that every cell gets the pulse that its own last read asks for. The cell conductance, which the read
sees, is compared with that of a cell whose RRAM has the target's conductance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.errors import ParameterError
from circuits.netlist import chunks, number, program_models, render
from circuits.parameters import Device, Programming, Technology
from circuits.plan import Job, Result

Floats = NDArray[np.float64]

CELLS_PER_NETLIST = 40
STEPS = 20  # of a pulse or hold, at least; 800 and reltol 1e-6 move ln(G) by 0.0004 at most


@dataclass(frozen=True)
class Pulses:
    """One pulse for each of n cells.

    Attributes
    ----------
    v_set : (n,) float array [V]
        On the row; 0 where the cell is reset or only read.
    v_reset : (n,) float array [V]
        On the bit line.
    rate_factor : (n,) float array
        Switching speed during this pulse over the nominal one.
    """

    v_set: Floats
    v_reset: Floats
    rate_factor: Floats


@dataclass(frozen=True)
class Written:
    """What write-verify came to, a row a cell.

    Attributes
    ----------
    target_s, g_s : (n,) float arrays [S]
        Wanted and reached conductance of the RRAM near zero volts; NaN where a simulation failed.
    pulses : (n,) int array
        Pulses that were applied.
    v_last_v : (n,) float array [V]
        Height of the last pulse, negative for reset.
    done : (n,) bool array
        Whether the last read was within the tolerance.
    """

    target_s: Floats
    g_s: Floats
    pulses: NDArray[np.int64]
    v_last_v: Floats
    done: NDArray[np.bool_]


class Bench:
    """Cells with dynamic RRAM in one technology.

    Raises
    ------
    ParameterError
        The device has no dynamic model or no section [programming].
    """

    def __init__(self, device: Device, technology: Technology, **run_options: Any) -> None:
        self.device, self.technology = device, technology
        self.model = device.dynamics
        self.settings = require_programming(device)
        self._options = run_options
        self._models = program_models(device, technology)

    def apply(self, states: Floats, pulses: Pulses) -> tuple[Floats, Floats]:
        """Apply a pulse to each cell, and read.

        Parameters
        ----------
        states : (n,) float array [nm]
            State of the RRAM before the pulse.

        Returns
        -------
        (n,) float array [nm]
            State at the end of the read; NaN where the simulation failed.
        (n,) float array [S]
            Cell conductance that the read saw.
        """
        v_read = self.technology.column.v_read_v
        last = self._measure(lambda part: self._pulse_job(states[part], pulses, part), len(states))
        return last[:, 0], -last[:, 1] / v_read

    def hold(self, states: Floats, v_row: Floats, time_s: float) -> tuple[Floats, Floats]:
        """Hold rows at a voltage above the bit line, as a long read does.

        Returns
        -------
        (n,) float array [nm]
            State at the end.
        (n,) float array [nm/ns]
            Rate of the state then, without the windows at its limits.
        """
        last = self._measure(
            lambda part: self._hold_job(states[part], v_row[part], time_s), len(states)
        )
        return last[:, 0], last[:, 1]

    def _measure(self, build: Callable[[slice], Job], count: int) -> Floats:
        """Return both last values of every cell (n, 2); NaN where its simulation failed.

        One cell that does not converge fails its netlist: those cells are then simulated singly.
        """
        found = np.full((count, 2), np.nan)
        parts = list(chunks(count, CELLS_PER_NETLIST))
        while parts:
            jobs = [build(part) for part in parts]
            failed = []
            for part, job, result in zip(parts, jobs, self._run(jobs), strict=True):
                if result.status < 2:
                    last = [result.vectors[name][-1] for name in job.vectors]
                    found[part] = np.reshape(last, (-1, 2))
                elif part.stop - part.start > 1:
                    failed += [slice(k, k + 1) for k in range(part.start, part.stop)]
            parts = failed
        return found

    def _run(self, jobs: list[Job]) -> list[Result]:
        return plan.run(jobs, **self._options)

    def _pulse_job(self, states: Floats, pulses: Pulses, part: slice) -> Job:
        """Build the transient: pulse, return to zero, read at the end."""
        edge, column = self.settings.t_edge_s, self.technology.column
        down = edge + self.settings.t_pulse_s
        read = down + 3 * edge
        stop = read + self.settings.t_read_s
        lines = []
        heights = (pulses.v_set[part], pulses.v_reset[part], pulses.rate_factor[part])
        for k, (s0, v_set, v_reset, factor) in enumerate(zip(states, *heights, strict=True)):
            gate = self.settings.v_gate_reset_v if v_reset else self.settings.v_gate_set_v
            ends = (column.v_cm_v + column.v_read_v, column.v_cm_v, column.v_word_line_v)
            starts = ((0.0, v_set), (0.0, v_reset), (gate, gate))
            for name, (rest, height), end in zip("rbw", starts, ends, strict=True):
                knots = [(0.0, rest), (edge, height), (down, height), (down + edge, rest)]
                knots += [(down + 2 * edge, rest), (read, end)]
                lines.append(f"v{name}{k} {name}{k} 0 pwl({_knots(knots)})")
            lines.append(_cell(k, s0, factor))
        vectors = tuple(f"{v}{k})" for k in range(len(states)) for v in ("v(s", "i(vr"))
        return self._job("pulse", lines, vectors, self.settings.t_pulse_s / STEPS, stop)

    def _hold_job(self, states: Floats, v_row: Floats, time_s: float) -> Job:
        column = self.technology.column
        lines = []
        for k, (s0, v) in enumerate(zip(states, v_row, strict=True)):
            levels = (column.v_cm_v + v, column.v_cm_v, column.v_word_line_v)
            lines += [f"v{n}{k} {n}{k} 0 {number(x)}" for n, x in zip("rbw", levels, strict=True)]
            lines.append(_cell(k, s0, 1.0))
        vectors = tuple(f"v({v}{k})" for k in range(len(states)) for v in ("s", "q"))
        return self._job("hold", lines, vectors, time_s / STEPS, time_s)

    def _job(
        self, title: str, lines: Sequence[str], vectors: tuple[str, ...], step: float, stop: float
    ) -> Job:
        text = render(
            "bench_program",
            title=title,
            models=self._models,
            cells="\n".join(lines),
            temperature=self.technology.temperature_c,
            save=" ".join(vectors),
            step=step,
            stop=stop,
        )
        return Job(title, text, vectors)


def program(
    device: Device,
    technology: Technology,
    targets: Floats,
    *,
    start_s: float | None = None,
    seed: int = 0,
    **run_options: Any,
) -> Written:
    """Write cells by pulses and reads until each is within the tolerance of its target.

    Parameters
    ----------
    targets : (n,) float array [S]
        Wanted conductance of each cell's RRAM near zero volts.
    start_s : float, optional [S]
        Conductance before the first pulse; default: the device's highest, from where resets are
        gradual.
    seed : int
        Of the spread from pulse to pulse. Equal calls meet the same netlists, so that an
        interrupted experiment resumes from the cache.
    **run_options
        As ``circuits.plan.run``.

    Raises
    ------
    ParameterError
        No dynamic model, no [programming], or a conductance outside the device's range.
    """
    bench = Bench(device, technology, **run_options)
    check_range(device, targets, "target")
    start = device.g_max_s if start_s is None else start_s
    check_range(device, np.array([start]), "start")
    count, settings = len(targets), bench.settings
    _, wanted = bench.apply(bench.model.state(targets), _no_pulse(count))
    state, seen = bench.apply(np.full(count, bench.model.state(start)), _no_pulse(count))
    height, pulses = np.zeros(count), np.zeros(count, int)
    for k in range(settings.most_pulses):
        active = np.flatnonzero(np.abs(seen / wanted - 1) > settings.tolerance)  # not NaN
        if len(active) == 0:
            break
        sign = np.where(seen[active] < wanted[active], 1.0, -1.0)
        height[active] = next_pulse(height[active], sign, settings)
        rng = np.random.default_rng([seed, k])
        factor = np.exp(settings.rate_sigma * rng.standard_normal(count))[active]
        v = height[active]
        shot = Pulses(np.maximum(v, 0), np.maximum(-v, 0), factor)
        state[active], seen[active] = bench.apply(state[active], shot)
        pulses[active] += 1
    done = np.abs(seen / wanted - 1) <= settings.tolerance
    return Written(targets, bench.model.conductance(state), pulses, height, done)


def next_pulse(height: Floats, sign: Floats, settings: Programming) -> Floats:
    """Return the next pulses [V]: a step higher in the same direction, or begun anew.

    Parameters
    ----------
    height : (n,) float array [V]
        Last pulses, negative for reset; 0: none yet.
    sign : (n,) float array
        +1 where the cell must be set, -1 where it must be reset.
    """
    same = height * sign > 0
    first = np.where(sign > 0, settings.v_set_v, settings.v_reset_v)
    higher = np.minimum(np.abs(height) + settings.v_step_v, settings.v_most_v)
    return np.asarray(sign * np.where(same, higher, first))


def require_programming(device: Device) -> Programming:
    """Return the section [programming] of a device.

    Raises
    ------
    ParameterError
        There is none.
    """
    settings = device.programming
    if settings is None:
        raise ParameterError(
            f"device {device.name!r} has no section [programming]; copy that of sky130.toml"
        )
    return settings


def check_range(device: Device, conductance: Floats, what: str) -> None:
    """Refuse conductances that the device's card does not have."""
    low, high = device.g_min_s, device.g_max_s
    wrong = conductance[(conductance < low * 0.999) | (conductance > high * 1.001)]
    if len(wrong):
        raise ParameterError(
            f"{what} {wrong[0] * 1e6:g} uS is out of the range of {device.name}; permitted"
            f" {low * 1e6:g} to {high * 1e6:g} uS"
        )


def _no_pulse(count: int) -> Pulses:
    return Pulses(np.zeros(count), np.zeros(count), np.ones(count))


def _cell(k: int, state: float, factor: float) -> str:
    ports = " ".join(f"{name}{k}" for name in "rbwstq")
    return f"x{k} {ports} cell_program s0={number(state)} rate_factor={number(factor)}"


def _knots(knots: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(t)} {number(v)}" for t, v in knots)

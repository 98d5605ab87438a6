"""Match lines of many cells, and thresholds of a data line that has only just moved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.bracket import bracket, finish, narrow
from circuits.netlist import acam_models, chunks, half_cell, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job
from circuits.search import HALVES, T_EDGE, T_EVAL, Floats, Half, SearchBench, Status

CELLS = (1, 2, 4, 8, 16, 32, 64, 128)
BEYOND_V = (0.01, 0.03, 0.1, 0.3)  # of the data line from the bound, in mismatches
SETTLE_S = (0.0, 1e-10, 3e-10, 1e-9, 3e-9, 1e-8, 3e-8)
# Around the settled threshold; a history moves it by far more than by the noise of the search.
TRIALS_V = np.array([-0.6, -0.3, -0.15, -0.07, -0.03, -0.01, -3e-3, 3e-3, 0.01, 0.05, 0.2])


@dataclass(frozen=True)
class LongLines:
    """Match lines over the number of their cells; precharge devices grow with the line.

    Attributes
    ----------
    cells : (n,) int array
    g : (k,) float array [S]
        Conductances of the cell that decides; all others match.
    threshold_v : (n, k) float array [V]
        Lower bound at the sense time; NaN where one cell cannot discharge the line in time.
    beyond_v : (b,) float array [V]
        Distance of the data line below the bound of one cell.
    delay_s : (n, k, b) float array [s]
        Until the line stands at ``v_sense_v``; inf when later than the sense time.
    energy_j : (n, k, b) float array [J]
        To restore the line after this mismatch.
    match_energy_j : (n,) float array [J]
        To restore it after a match.
    droop_v : (n,) float array [V]
        Fall of a line whose cells all match, from the end of the precharge to the sense time: the
        leakage of its idle pull-downs.
    """

    cells: NDArray[np.int64]
    g: Floats
    threshold_v: Floats
    beyond_v: Floats
    delay_s: Floats
    energy_j: Floats
    match_energy_j: Floats
    droop_v: Floats


class LineBench(SearchBench):
    """Lower halves on one line: the first decides, the others match."""

    def __init__(
        self, device: Device, technology: Technology, cells: int, options: dict[str, Any]
    ) -> None:
        acam = technology.acam
        wide = replace(acam, cells_per_row=cells, w_precharge_m=acam.w_precharge_m * cells)
        technology = replace(technology, acam=wide)
        super().__init__(device, technology, options)
        self.others, self.g_min = cells - 1, device.g_min_s

    def line(self, g: float, v_dl: float) -> list[str]:
        """Return a line; # stands for its number."""
        readout = self.technology.readout
        high = number((readout.v_dl_lo_v + readout.v_dl_hi_v) / 2)
        idle = [
            half_cell(self.technology, "lower", self.g_min, "o# ml# slhi sllo", name=f"l{k}_#")
            for k in range(self.others)
        ]
        return [
            f"vd# d# 0 {number(v_dl)}", *([f"vo# o# 0 {high}"] if idle else []),
            *self._half("lower", g, "d#", "ml#"), "xm# ml# pcb vddp match_line", *idle,
        ]  # fmt: skip

    def threshold(self, g: float, guess: float) -> float:
        """Return the lower bound of the first cell [V]."""

        def over(index: NDArray[np.intp], v: Floats) -> tuple[Floats, Status]:
            v_ml, status = self.search([self.line(g, x) for x in v], "match-line")
            return v_ml - self.technology.acam.v_sense_v, status

        found, _ = bracket(over, guess + np.linspace(-0.35, 0.05, 9)[None])
        return float(finish(over, narrow(over, found, 5), check=False)[0])

    def cycle(self, g: float, v_dl: float) -> tuple[float, float, float]:
        """Return delay [s], energy of the line [J] and its fall at the sense time [V]."""
        acam = self.technology.acam
        start = T_EVAL + acam.t_sense_s
        lines = [t.replace("#", "0") for t in self.line(g, v_dl)]
        supplies = [
            f"vslhi slhi 0 {number(acam.v_sl_hi_v)}", f"vsllo sllo 0 {number(acam.v_sl_lo_v)}",
            f"vdd vdd 0 {number(self.technology.vdd_v)}",
            f"vp0 vddp 0 {number(self.technology.vdd_v)}",
        ]  # fmt: skip
        vectors = ("time", "v(ml0)", "i(vp0)")
        text = render(
            "bench_energy",
            title="match-line-cycle",
            models=self.models,
            cells="\n".join([*supplies, *lines]),
            temperature=self.temperature,
            save=" ".join(vectors[1:]),
            step=self.step,
            stop=start + acam.t_precharge_s + acam.t_sense_s,
        )
        result = self.run([Job("match-line-cycle", text, vectors)])[0]
        if result.status == 2:
            return np.nan, np.nan, np.nan
        time, v_ml = result.vectors["time"], result.vectors["v(ml0)"]
        cycle = time >= start
        joules = -self.technology.vdd_v * np.trapezoid(result.vectors["i(vp0)"][cycle], time[cycle])
        t_eval = start + acam.t_precharge_s
        low = np.flatnonzero((time > t_eval) & (v_ml < acam.v_sense_v))
        delay = float(time[low[0]] - t_eval) if len(low) else float("inf")
        fall = float(np.interp(t_eval + T_EDGE, time, v_ml) - v_ml[-1])
        return delay, float(joules), fall


def measure_lines(
    device: Device,
    technology: Technology,
    g: Floats,
    lower_v: Floats,
    *,
    cells: Sequence[int] = CELLS,
    **run_options: Any,
) -> LongLines:
    """Measure match lines of 1 to 128 cells.

    Parameters
    ----------
    device, technology : Device, Technology
    g, lower_v : (k,) float arrays [S], [V]
        Conductances of the deciding cell, and their bounds on a line of one cell.
    cells : sequence of int
    **run_options
        As ``circuits.plan.run``.
    """
    shape = len(cells), len(g), len(BEYOND_V)
    threshold = np.full(shape[:2], np.nan)
    delay, energy = np.full(shape, np.nan), np.full(shape, np.nan)
    match = np.full((2, shape[0]), np.nan)
    high = technology.readout.v_dl_hi_v
    for i, count in enumerate(cells):
        bench = LineBench(device, technology, count, run_options)
        match[:, i] = bench.cycle(device.g_min_s, high)[1:]
        for j, (x, v) in enumerate(zip(g, lower_v, strict=True)):
            threshold[i, j] = bench.threshold(x, v)
            for k, beyond in enumerate(BEYOND_V):
                delay[i, j, k], energy[i, j, k], _ = bench.cycle(x, v - beyond)
    return LongLines(
        np.array(cells), g, threshold, np.array(BEYOND_V), delay, energy, match[0], match[1]
    )


@dataclass(frozen=True)
class History:
    """Thresholds of a data line that moved some time before the evaluation.

    Attributes
    ----------
    g : (n,) float array [S]
    settle_s : (t,) float array [s]
        From the step of the data line to the start of the evaluation.
    shift_v : (2, n, t) float array [V]
        Threshold of the lower and the upper half less that of a settled line, after a step from
        the upper end of the data line. NaN where it lies more than 0.6 V below: the half then
        answers as before the step.
    """

    g: Floats
    settle_s: Floats
    shift_v: Floats

    def needed_s(self, tolerance_v: float) -> Floats:
        """Return the least measured settling time within a tolerance, (2, n) [s]; inf if none."""
        late = ~(np.abs(self.shift_v) <= tolerance_v)
        first = np.where(late.any(axis=2), late.shape[2] - late[..., ::-1].argmax(axis=2), 0)
        return np.append(self.settle_s, np.inf)[first]


def measure_history(
    device: Device,
    technology: Technology,
    g: Floats,
    lower_v: Floats,
    upper_v: Floats,
    *,
    settle_s: Sequence[float] = SETTLE_S,
    **run_options: Any,
) -> History:
    """Measure thresholds of a data line that falls from its upper end before the evaluation.

    This is the slow direction: the divider's node rises through the RRAM, and falls through the
    transistor.

    Parameters
    ----------
    device, technology : Device, Technology
    g, lower_v, upper_v : (n,) float arrays [S], [V], [V]
        Conductances and the thresholds of a settled line.
    settle_s : sequence of float [s]
    **run_options
        As ``circuits.plan.run``.
    """
    shift = np.full((2, len(g), len(settle_s)), np.nan)
    for t, settle in enumerate(settle_s):
        bench = HistoryBench(device, technology, settle, run_options)
        for side, (half, settled) in enumerate(zip(HALVES, (lower_v, upper_v), strict=True)):
            shift[side, :, t] = bench.thresholds(half, g, settled) - settled
    return History(g, np.array(settle_s), shift)


class HistoryBench(SearchBench):
    """Halves whose data lines step from the upper end to their value before the evaluation."""

    def __init__(
        self, device: Device, technology: Technology, settle: float, options: dict[str, Any]
    ) -> None:
        super().__init__(device, technology, options)
        self.settle = settle
        self.t_eval = T_EVAL + settle
        self.models = acam_models(device, technology, self.t_eval, T_EDGE)

    def thresholds(self, half: Half, g: Floats, settled: Floats) -> Floats:
        """Return the thresholds (n,) [V] after the step."""

        def over(index: NDArray[np.intp], v: Floats) -> tuple[Floats, Status]:
            cells = [self._stepped(half, g[k], x) for k, x in zip(index, v, strict=True)]
            v_ml, status = self._search(cells)
            return v_ml - self.technology.acam.v_sense_v, status

        found, _ = bracket(over, settled[:, None] + TRIALS_V)
        return finish(over, narrow(over, found, 3), check=False)

    def _stepped(self, half: Half, g: float, v_dl: float) -> list[str]:
        high = number(self.technology.readout.v_dl_hi_v)
        start = self.t_eval - self.settle - T_EDGE
        step = f"pwl(0 {high} {number(start)} {high} {number(start + T_EDGE)} {number(v_dl)})"
        return [f"vd# d# 0 {step}", *self._half(half, g, "d#", "ml#"), *self._line("#")]

    def _search(self, cells: list[list[str]]) -> tuple[Floats, Status]:
        """As ``search``, with the evaluation later and a coarser step while the node settles."""
        jobs, parts = [], list(chunks(len(cells), 20))
        stop = self.t_eval + self.technology.acam.t_sense_s
        for part in parts:
            lines = [t.replace("#", str(k)) for k, cell in enumerate(cells[part]) for t in cell]
            vectors = tuple(f"v(ml{k})" for k in range(len(cells[part])))
            text = render(
                "bench_search",
                title="history",
                models=self.models,
                cells="\n".join(lines),
                temperature=self.temperature,
                save=" ".join(vectors),
                step=max(self.step, self.settle / 2000),
                stop=stop,
            )
            jobs.append(Job("history", text, vectors))
        v, status = np.full(len(cells), np.nan), np.full(len(cells), 2, np.int8)
        for part, job, result in zip(parts, jobs, plan.run(jobs, **self.options), strict=True):
            if result.status < 2:
                v[part] = [result.vectors[name][-1] for name in job.vectors]
                status[part] = result.status
        return v, status

"""Search netlists of the ACAM: halves and whole rows, transient, static and energy runs."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.netlist import acam_models, chunks, half_cell, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job, Result, RunLog

Half = Literal["lower", "upper"]
HALVES: tuple[Half, Half] = ("lower", "upper")
Floats = NDArray[np.float64]
Status = NDArray[np.int8]

CELLS_PER_NETLIST = 40
T_EVAL = (
    40e-12  # start of the evaluation in a search netlist [s]; the operating point is precharged
)
T_EDGE = 10e-12  # rise of the precharge signal [s]
V_STEP = 5e-3  # static sweep [V]; an inverter of high gain may switch within one step
V_FINE = V_STEP / 20  # of the sweep around what it found


class SearchBench:
    """Runs searches and sweeps of one device and technology, and logs its jobs."""

    def __init__(self, device: Device, technology: Technology, options: dict[str, Any]) -> None:
        self.technology = technology
        self.options = options
        self.log = RunLog()
        self.models = acam_models(device, technology, T_EVAL, T_EDGE)
        self.temperature = technology.temperature_c
        acam = technology.acam
        self.v_sweep = (min(0.0, acam.v_sl_lo_v) - 0.1, max(1.8, 2 * technology.vdd_v))
        # 2 ps resolves the 300 ps window to 0.1 mV on the match line; scaled for other windows.
        self.step = min(2e-12 * max(acam.t_sense_s / 300e-12, 1.0), acam.t_sense_s / 50)

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Run a plan and log it for the provenance."""
        results = plan.run(jobs, **self.options)
        self.log.add(jobs, results)
        return results

    def search(self, lines: Sequence[Sequence[str]], what: str) -> tuple[Floats, Status]:
        """Simulate rows given as cell lines; return the lowest match line at the sense time."""
        jobs = []
        for part in chunks(len(lines), CELLS_PER_NETLIST):
            # Cells are numbered within their netlist, so equal searches give equal texts.
            rows = [[t.replace("#", str(k)) for t in row] for k, row in enumerate(lines[part])]
            nodes = [line.split()[1] for row in rows for line in row if line.startswith("xm")]
            jobs.append(self._search_job(what, [t for row in rows for t in row], nodes))
        results = self.run(jobs)
        volts = np.full(len(lines), np.nan)
        status = np.full(len(lines), 2, dtype=np.int8)
        for part, job, result in zip(
            chunks(len(lines), CELLS_PER_NETLIST), jobs, results, strict=True
        ):
            if result.status < 2:
                last = np.array([result.vectors[name][-1] for name in job.vectors])
                volts[part] = last.reshape(len(lines[part]), -1).min(axis=1)
                status[part] = result.status
        return volts, status

    def _search_job(self, what: str, lines: list[str], nodes: list[str]) -> Job:
        vectors = tuple(f"v({node})" for node in nodes)
        text = render(
            "bench_search",
            title=what,
            models=self.models,
            cells="\n".join(lines),
            temperature=self.temperature,
            save=" ".join(vectors),
            step=self.step,
            stop=T_EVAL + self.technology.acam.t_sense_s,
        )
        return Job(what, text, vectors)

    def half(self, half: Half, g: float, v_dl: float) -> list[str]:
        """Return one half with its own match line and data line; # stands for its number.

        On a shared match line the other half is there too, with its data line tied so that it
        never discharges: its pull-down still loads the line.
        """
        lines = [f"vd# d# 0 {number(v_dl)}", *self._half(half, g, "d#", "ml#"), *self._line("#")]
        if self.technology.acam.match_lines == 1:
            other: Half = "upper" if half == "lower" else "lower"
            tie = {"upper": "0", "lower": "on#"}[other]
            lines += self._half(other, g if other == "upper" else 1e-9, tie, "ml#")
            if other == "lower":
                lines.append(f"von# on# 0 {number(self.v_sweep[1])}")
        return lines

    def row(self, g_lo: float, g_hi: float, v_dl: float) -> list[str]:
        """Return a whole row: both halves on one data line, on one or two match lines."""
        second = "ml#" if self.technology.acam.match_lines == 1 else "mlu#"
        lines = [f"vd# d# 0 {number(v_dl)}"]
        lines += self._half("lower", g_lo, "d#", "ml#") + self._half("upper", g_hi, "d#", second)
        lines += self._line("#")
        return lines if second == "ml#" else lines + self._line("u#")

    def _half(self, half: Half, g: float, dl: str, ml: str) -> list[str]:
        nodes = f"{dl} {ml} slhi sllo"
        return [half_cell(self.technology, half, g, nodes, name=f"{half[0]}#")]

    def _line(self, name: str) -> list[str]:
        lines = [f"xm{name} ml{name} pcb vddp match_line"]
        if self.technology.acam.cells_per_row > 1:
            lines.append(f"xi{name} ml{name} idle_pull_down")
        return lines

    def static(self, half: Half, g: Floats, around: Floats | None = None) -> tuple[Floats, Status]:
        """Return for each conductance the data line at which the pull-down carries ``i_trip_a``.

        Thresholds ``around`` which to look, from a sweep before, are found to a fiftieth of a mV.
        """
        jobs, parts = [], list(chunks(len(g), CELLS_PER_NETLIST))
        start, stop, step = *self.v_sweep, V_STEP
        if around is not None:
            start, stop, step = -2 * V_STEP, 2 * V_STEP, V_FINE
        rest = np.zeros(len(g)) if around is None else np.nan_to_num(around)
        for part in parts:
            points = zip(g[part], rest[part], strict=True)
            cells = [self._held(half, x, None if around is None else v) for x, v in points]
            vectors = ("v(dl)", *(f"i(vm{k})" for k in range(len(cells))))
            jobs.append(self._sweep(f"static-{half}", cells, vectors, start, stop, step))
        volts, status = np.full(len(g), np.nan), np.full(len(g), 2, dtype=np.int8)
        for part, job, result in zip(parts, jobs, self.run(jobs), strict=True):
            if result.status < 2:
                v_dl = result.vectors["v(dl)"]
                currents = [-result.vectors[name] for name in job.vectors[1:]]
                volts[part] = [self._crossing(v_dl, i) for i in currents] + rest[part]
                status[part] = np.where(np.isnan(volts[part]), 2, result.status)
        return volts, status

    def _sweep(
        self,
        title: str,
        cells: list[list[str]],
        vectors: tuple[str, ...],
        start: float,
        stop: float,
        step: float,
    ) -> Job:
        """Return a sweep of the common data line; # in the lines of a cell is its number."""
        lines = [t.replace("#", str(k)) for k, cell in enumerate(cells) for t in cell]
        text = render(
            "bench_threshold",
            title=title,
            models=self.models,
            cells="\n".join(lines),
            temperature=self.temperature,
            save=" ".join(vectors),
            start=start,
            stop=stop,
            step=step,
        )
        return Job(title, text, vectors)

    def _held(self, half: Half, g: float, rest: float | None) -> list[str]:
        """Return a half on the common data line, or on one of its own, some volts above."""
        own = [] if rest is None else [f"vd# d# dl {number(rest)}"]
        held = f"vm# ml# 0 {number(self.technology.vdd_v / 2)}"
        return [*own, *self._half(half, g, "d#" if own else "dl", "ml#"), held]

    def _crossing(self, v_dl: Floats, current: Floats) -> float:
        """Interpolate where ``current`` passes the trip current: cubic in ln I, four points."""
        y = np.log(np.maximum(current, 1e-18) / self.technology.acam.i_trip_a)
        found = np.flatnonzero(np.diff(np.signbit(y)))
        if len(found) == 0:
            return float("nan")
        k = int(np.clip(found[0], 1, len(y) - 3))
        four = slice(k - 1, k + 3)
        return float(_inverse_lagrange(v_dl[four], y[four]))

    def energy(self, half: Half, g: Floats, v_dl: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return energy of the half, of its match line, delay, and match line at the sense time.

        All have shape ``(len(g),)``; NaN where the simulation failed.
        """
        acam = self.technology.acam
        start = T_EVAL + acam.t_sense_s
        stop = start + acam.t_precharge_s + acam.t_sense_s
        out = np.full((4, len(g)), np.nan)
        jobs, parts = [], list(chunks(len(g), CELLS_PER_NETLIST // 2))
        for part in parts:
            pairs = list(zip(g[part], v_dl[part], strict=True))
            lines = [
                t.replace("#", str(k))
                for k, (x, v) in enumerate(pairs)
                for t in self._metered(half, x, v)
            ]
            names = [f"i(v{s}{k})" for k in range(len(pairs)) for s in ("s", "l", "c", "p")]
            vectors = ("time", *names, *(f"v(ml{k})" for k in range(len(pairs))))
            text = render(
                "bench_energy",
                title=f"energy-{half}",
                models=self.models,
                cells="\n".join(lines),
                temperature=self.temperature,
                save=" ".join(vectors[1:]),
                step=self.step,
                stop=stop,
            )
            jobs.append(Job(f"energy-{half}", text, vectors))
        for part, result in zip(parts, self.run(jobs), strict=True):
            if result.status < 2:
                count = len(g[part])
                out[:, part] = np.transpose([self._meter(result, k, start) for k in range(count)])
        return out[0], out[1], out[2], out[3]

    def power(self, half: Half, g: Floats, v_dl: Floats) -> Floats:
        """Return the power that a half takes at rest [W], (len(g), len(v_dl)); v_dl evenly spaced.

        The match line, whose supply is not counted, is held at half the supply.
        """
        acam, step = self.technology.acam, float(v_dl[1] - v_dl[0])
        volts = np.array([acam.v_sl_hi_v, acam.v_sl_lo_v, self.technology.vdd_v])
        jobs, parts = [], list(chunks(len(g), CELLS_PER_NETLIST))
        for part in parts:
            held = f"vm# ml# 0 {number(self.technology.vdd_v / 2)}"
            cells = [[*self._supplied(half, x, "dl"), held] for x in g[part]]
            vectors = tuple(f"i(v{s}{k})" for k in range(len(cells)) for s in "slc")
            stop = float(v_dl[-1] + step * 1e-3)  # so that rounding loses no point
            jobs.append(self._sweep(f"power-{half}", cells, vectors, float(v_dl[0]), stop, step))
        watts = np.full((len(g), len(v_dl)), np.nan)
        for part, job, result in zip(parts, jobs, self.run(jobs), strict=True):
            if result.status < 2:
                drawn = -np.array([result.vectors[name] for name in job.vectors])
                watts[part] = np.tensordot(volts, drawn.reshape(-1, 3, len(v_dl)), (0, 1))
        return watts

    def _supplied(self, half: Half, g: float, dl: str) -> list[str]:
        """Return a half on a data line, with its own supplies: s and l search lines, c inverter."""
        acam = self.technology.acam
        return [
            f"vs# slhi# 0 {number(acam.v_sl_hi_v)}",
            f"vl# sllo# 0 {number(acam.v_sl_lo_v)}",
            f"vc# vdd# 0 {number(self.technology.vdd_v)}",
            half_cell(self.technology, half, g, f"{dl} ml# slhi# sllo#", name="h#", vdd="vdd#"),
        ]

    def _metered(self, half: Half, g: float, v_dl: float) -> list[str]:
        """Return a half with its own supplies, p that of its precharged line."""
        lines = [
            *self._supplied(half, g, "d#"),
            f"vp# vddp# 0 {number(self.technology.vdd_v)}",
            f"vd# d# 0 {number(v_dl)}",
            "xm# ml# pcb vddp# match_line",
        ]
        more = self.technology.acam.cells_per_row > 1
        return [*lines, "xi# ml# idle_pull_down"] if more else lines

    def _meter(self, result: Result, k: int, start: float) -> tuple[float, float, float, float]:
        acam, vdd = self.technology.acam, self.technology.vdd_v
        time = result.vectors["time"]
        cycle = time >= start

        def joules(source: str, volts: float) -> float:
            return float(
                -volts * np.trapezoid(result.vectors[f"i({source}{k})"][cycle], time[cycle])
            )

        half = joules("vs", acam.v_sl_hi_v) + joules("vl", acam.v_sl_lo_v) + joules("vc", vdd)
        v_ml = result.vectors[f"v(ml{k})"]
        t_eval = start + acam.t_precharge_s
        low = np.flatnonzero((time > t_eval) & (v_ml < acam.v_sense_v))
        delay = float("inf")
        if len(low):
            j = int(low[0])
            delay = (
                float(np.interp(-acam.v_sense_v, -v_ml[j - 1 : j + 1], time[j - 1 : j + 1]))
                - t_eval
            )
        return half, joules("vp", vdd), delay, float(v_ml[-1])


def _inverse_lagrange(x: Floats, y: Floats) -> float:
    """Return x at y = 0 of the polynomial x(y) through the points."""
    total = 0.0
    for i in range(len(x)):
        others = np.delete(y, i)
        total += float(x[i] * np.prod(others / (others - y[i])))
    return total

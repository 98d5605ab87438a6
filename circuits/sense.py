"""The sense amplifier of a match line, measured where it works: on lines that just trip.

Its decision is compared with the one that characterisation assumes, ``acam.v_sense_v`` at the sense
time: the data line is put on a characterised threshold, and the reference sought at which the
amplifier's decision turns over.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.acam_unit import cycle_time, unit_models
from circuits.bracket import bracket, finish, narrow
from circuits.netlist import chunks, half_cell, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job, Result, RunLog
from circuits.search import CELLS_PER_NETLIST, HALVES, T_EVAL, Floats, Half, Status

PART_AFTER = 40e-12  # the strobe: noise counts until the outputs part [s]
DECIDE_AFTER = 100e-12  # they stand at the rails, whatever the falling line does from now on [s]
STEP_V = 2e-3  # of a data line or a threshold in a sensitivity [V]
OVERDRIVES_V = np.array([0.5e-3, 1e-3, 2e-3, 5e-3, 20e-3, 50e-3, 100e-3])
NOISE_VECTORS = ("noise1.frequency", "noise1.inoise_spectrum")

Point = tuple[Half, float, float]  # of a line: half, conductance [S], data line [V]


@dataclass(frozen=True)
class SenseData:
    """Measured sense amplifier.

    Attributes
    ----------
    g : (n,) float array [S]
        Conductances whose lines were sensed.
    reference_v : (2, n) float array [V]
        Reference at which the decision turns over while the data line is on the threshold of the
        lower and of the upper half.
    slope : (2, n) float array [V/V]
        How far this reference moves for the data line.
    overdrive_v, delay_s : (m,) float arrays [V], [s]
        Distance of the reference from the turn-over, and time from the strobe until the outputs
        stand half the supply apart; inf where that is later than the cycle.
    regeneration_s : float
        Time constant of the outputs' difference near balance [s].
    noise_v : float
        Input-referred noise [V rms], an estimate: ngspice has no noise in transients. Its density
        as the strobe begins, integrated for ``PART_AFTER``, is a variance of density² / (2 t).
    energy_j : float
        From the supply for one strobe and reset [J].
    """

    g: Floats
    reference_v: Floats
    slope: Floats
    overdrive_v: Floats
    delay_s: Floats
    regeneration_s: float
    noise_v: float
    energy_j: float

    def trimmed_reference(self) -> float:
        """Return the reference [V] that errs least over both halves, in data-line voltage."""
        weight = 1.0 / self.slope**2
        return float((self.reference_v * weight).sum() / weight.sum())

    def data_line_error(self, reference_v: float) -> Floats:
        """Return how far thresholds move with a reference, (2, n) [V]."""
        return (reference_v - self.reference_v) / self.slope


def measure(
    device: Device,
    technology: Technology,
    g: Floats,
    lower_v: Floats,
    upper_v: Floats,
    **run_options: Any,
) -> SenseData:
    """Measure the sense amplifier on lines that just trip.

    Parameters
    ----------
    device, technology : Device, Technology
    g : (n,) float array [S]
    lower_v, upper_v : (n,) float arrays [V]
        Characterised thresholds at these conductances.
    **run_options
        As ``circuits.plan.run``.
    """
    bench = SenseBench(device, technology, run_options)
    points = [
        (half, float(x), float(v))
        for half, volts in zip(HALVES, (lower_v, upper_v), strict=True)
        for x, v in zip(g, volts, strict=True)
    ]
    moved = [bench.references(points, dv) for dv in (-STEP_V, 0.0, STEP_V)]
    low, reference, high = (x.reshape(2, len(g)) for x in moved)
    middle = points[len(g) // 2]
    at = float(reference[0, len(g) // 2])
    delay = bench.delays(middle, at, OVERDRIVES_V)
    regeneration = float(-np.polyfit(np.log(OVERDRIVES_V[:4]), delay[:4], 1)[0])
    return SenseData(
        g=g,
        reference_v=reference,
        slope=(high - low) / (2 * STEP_V),
        overdrive_v=OVERDRIVES_V,
        delay_s=delay,
        regeneration_s=regeneration,
        noise_v=bench.noise_density() / float(np.sqrt(2 * PART_AFTER)),
        energy_j=bench.energy(middle, at),
    )


class SenseBench:
    """Halves on their match lines, each with a sense amplifier and a reference of its own."""

    def __init__(
        self,
        device: Device,
        technology: Technology,
        options: dict[str, Any],
        log: RunLog | None = None,
    ) -> None:
        self.technology, self.options, self.log = technology, options, log or RunLog()
        self.models = unit_models(device, technology)
        self.drawn = unit_models(device, technology, draws=True)

    def _job(
        self, what: str, cells: list[list[str]], vectors: list[str], stop: float, models: str
    ) -> Job:
        lines = [line.replace("#", str(k)) for k, cell in enumerate(cells) for line in cell]
        text = render(
            "bench_unit",
            title=what,
            models=models,
            v_dl=0.0,
            cells="\n".join(lines),
            temperature=self.technology.temperature_c,
            save=" ".join(v for v in vectors if v != "time"),
            step=2e-12,
            stop=stop,
        )
        return Job(what, text, tuple(vectors))

    def cell(self, point: Point, reference: float, tail: str = "") -> list[str]:
        """Return the lines of a half, its match line and its amplifier; # stands for their number.

        ``tail`` are draws of the amplifier's transistors.
        """
        half, g, v_dl = point
        return [
            f"vd# d# 0 {number(v_dl)}",
            f"vr# r# 0 {number(reference)}",
            half_cell(self.technology, half, g, "d# ml# slhi sllo", name="h#", vdd="vddc"),
            "xm# ml# pcb vddp match_line",
            f"xs# ml# r# seb q# n# vsa sense_amplifier{tail}",
            # what q drives in a unit, the other bound of the row matching
            f"xo# {'q# vsa' if half == 'lower' else 'vsa q#'} or# foot# clk vddl row_on_or_line",
            "xg# or# foot# clk g# vddl or_line",
        ]

    @property
    def _strobe(self) -> float:
        return T_EVAL + self.technology.acam.t_sense_s

    def decide(
        self,
        cells: list[list[str]],
        what: str = "sense",
        models: str | None = None,
    ) -> tuple[Floats, Status]:
        """Return how far the outputs have parted ``DECIDE_AFTER`` the strobe (n,) [V]."""
        parts = list(chunks(len(cells), CELLS_PER_NETLIST))
        jobs = []
        for part in parts:
            vectors = [f"v({node}{k})" for k in range(len(cells[part])) for node in "qn"]
            stop = self._strobe + DECIDE_AFTER
            jobs.append(self._job(what, cells[part], vectors, stop, models or self.models))
        out, status = np.full(len(cells), np.nan), np.full(len(cells), 2, np.int8)
        results = plan.run(jobs, **self.options)
        self.log.add(jobs, results)
        for part, job, result in zip(parts, jobs, results, strict=True):
            if result.status < 2:
                last = np.array([result.vectors[name][-1] for name in job.vectors]).reshape(-1, 2)
                out[part], status[part] = last[:, 0] - last[:, 1], result.status
        return out, status

    def references(self, points: list[Point], dv: float) -> Floats:
        """Return the reference at which each decision turns over, data lines moved by dv [V]."""

        def over(index: NDArray[np.intp], reference: Floats) -> tuple[Floats, Status]:
            moved = [(points[k][0], points[k][1], points[k][2] + dv) for k in index]
            return self.decide([self.cell(*x) for x in zip(moved, reference, strict=True)])

        trials = self.technology.acam.v_sense_v + np.linspace(-0.2, 0.3, 9)
        found, _ = bracket(over, np.tile(trials, (len(points), 1)))
        for _ in range(3):  # the outputs are at their rails: only a narrow bracket tells
            found = narrow(over, found, 4)
        return finish(over, found, check=False)

    def delays(self, point: Point, reference: float, overdrive: Floats) -> Floats:
        """Return strobe to outputs half the supply apart, for references below ``reference``."""
        cells = [self.cell(point, reference - x) for x in overdrive]
        vectors = ["time", *(f"v({node}{k})" for k in range(len(cells)) for node in "qn")]
        stop = T_EVAL + cycle_time(self.technology)
        result = self._run(self._job("sense-delay", cells, vectors, stop, self.models))
        if result.status == 2:
            return np.full(len(cells), np.nan)
        time, out = result.vectors["time"] - self._strobe, []
        for k in range(len(cells)):
            apart = np.abs(result.vectors[f"v(q{k})"] - result.vectors[f"v(n{k})"])
            late = np.flatnonzero((time > 0) & (apart > self.technology.unit.v_supply_v / 2))
            out.append(float(time[late[0]]) if len(late) else np.inf)
        return np.array(out)

    def noise_density(self) -> float:
        """Return the input-referred noise as the strobe begins [V / sqrt(Hz)]."""
        text = render(
            "bench_sense",
            title="sense-noise",
            models=self.models,
            temperature=self.technology.temperature_c,
        )
        result = self._run(Job("sense-noise", text, NOISE_VECTORS))
        if result.status == 2:
            return float("nan")
        return float(np.real(result.vectors[NOISE_VECTORS[1]])[-1])

    def energy(self, point: Point, reference: float) -> float:
        """Return the energy from the supply for one strobe and reset [J]."""
        cell = [self.cell(point, reference - OVERDRIVES_V[-1])]
        stop = T_EVAL + cycle_time(self.technology)
        result = self._run(self._job("sense-energy", cell, ["time", "i(vsa)"], stop, self.models))
        if result.status == 2:
            return float("nan")
        current = -result.vectors["i(vsa)"]
        return float(
            self.technology.unit.v_supply_v * np.trapezoid(current, result.vectors["time"])
        )

    def _run(self, job: Job) -> Result:
        return plan.run([job], **self.options)[0]

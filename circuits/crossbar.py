"""The 1T1R column: cell table, settling, and replay of whole transistor-level columns.

Rows are numbered from the far end: row 0 is farthest from the read-out, a wire segment follows
every row, and the last segment ends at the transimpedance stage's input.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import cell_mismatch, plan
from circuits.errors import ParameterError
from circuits.netlist import chunks, column_models, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job, Provenance, Result, RunLog
from circuits.readout_bench import gbw_hz
from circuits.refine import refine, spline

Floats = NDArray[np.float64]

COLUMNS_PER_NETLIST = 4
SAMPLES_PER_NETLIST = 64
ADAPTIVE_START, ADAPTIVE_MOST = 6, 257  # conductances of the first round, and no more than
SEED = 20  # of the held-out points; fixed, so that a library is the same every time


def _empty() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class CrossbarData:
    """Characterised column.

    Attributes
    ----------
    g : (n_g,) float array [S]
        Logarithmic RRAM conductance axis, from below g_min to well above g_max, so that the *cell*
        (RRAM and transistor in series) reaches g_max.
    v_row : (n_v,) float array [V]
    v_bl : (n_b,) float array [V]
        Row and bit line relative to the virtual ground ``v_cm``.
    current : (n_g, n_v, n_b) float array [A]
        From the row into the bit line.
    status : (n_g,) int8 array
        0 ok, 1 ok after a retry, 2 failed (current NaN).
    held_out_g, held_out_v_row, held_out_v_bl, held_out_current : (h,) float arrays
        Cell currents off the grid.
    settle_g : (l,) float array [S]
        Conductance of all RRAM of a loaded column.
    settle_s : (l,) float array [s]
        From the step of all rows to full swing until the read-out stays within half an LSB (1/512
        of the step); inf when it does not. A transistor-level amplifier gets a smaller step where
        full swing would drive more than half of ``readout.i_full_scale_a`` into it.
    settle_energy_j : (l,) float array [J]
        Dissipated in cells and wires of the column during that time.
    held_out_settle_g, held_out_settle_s, held_out_settle_energy_j : (m,) float arrays
        The same at other loads.
    held_out_mismatch_g, held_out_mismatch_parts : (n,), (n, m, 2) float arrays
        As ``mismatch_parts``, at other conductances.
    column_g : (c, rows) float array [S]
    column_v : (s, rows) float array [V]
    column_current : (s, c) float array [A]
        Held-out whole columns, and the current into their read-out.
    mismatch_g, mismatch_v_row : (p,), (m,) float arrays [S], [V]
        RRAM conductances and row voltages of the spread of cell currents by mismatch.
    mismatch_parts : (p, m, 2) float array
        Relative change of the current for one standard deviation of the access transistor's
        threshold and of its current factor.
    monte_carlo_g : (c,) float array [S]
    monte_carlo_change : (c, samples, m) float array
        Relative change of the current in drawn cells.
    provenance : Provenance
    """

    g: Floats
    v_row: Floats
    v_bl: Floats
    current: Floats
    status: NDArray[np.int8]
    held_out_g: Floats
    held_out_v_row: Floats
    held_out_v_bl: Floats
    held_out_current: Floats
    settle_g: Floats
    settle_s: Floats
    settle_energy_j: Floats
    column_g: Floats
    column_v: Floats
    column_current: Floats
    provenance: Provenance
    held_out_settle_g: Floats = field(default_factory=_empty)
    held_out_settle_s: Floats = field(default_factory=_empty)
    held_out_settle_energy_j: Floats = field(default_factory=_empty)
    held_out_mismatch_g: Floats = field(default_factory=_empty)
    held_out_mismatch_parts: Floats = field(default_factory=_empty)
    mismatch_g: Floats = field(default_factory=_empty)
    mismatch_v_row: Floats = field(default_factory=_empty)
    mismatch_parts: Floats = field(default_factory=_empty)
    monte_carlo_g: Floats = field(default_factory=_empty)
    monte_carlo_change: Floats = field(default_factory=_empty)


def characterize(
    device: Device,
    technology: Technology,
    *,
    quick: bool = False,
    checks: bool = True,
    samples: int = 0,
    adaptive_lsb: float | None = None,
    **run_options: Any,
) -> CrossbarData:
    """Measure the cell table, settling, mismatch and a held-out set of whole columns in ngspice.

    Parameters
    ----------
    device, technology : Device, Technology
    quick : bool
        A coarse plan of a few seconds, for tests and first looks.
    checks : bool
        Measure too what only checks the tables: cells off the grid, whole columns.
    samples : int
        Cells of a mismatch Monte-Carlo at each of three conductances.
    adaptive_lsb : float, optional
        Instead of a uniform conductance axis of the cell table, start with few and halve intervals
        whose middle misses the interpolated current by more than this, in 1/256 of the largest.
    **run_options
        As ``circuits.plan.run``: workers, executor, cache, progress.
    """
    bench = _Bench(device, technology, run_options)
    rng = np.random.default_rng(SEED)
    v_read = technology.column.v_read_v
    g = np.geomspace(0.2 * device.g_min_s, 2.5 * device.g_max_s, 9 if quick else 33)
    v_row = np.linspace(-v_read, v_read, 9 if quick else 17)
    v_bl = np.linspace(-v_read, v_read, 5 if quick else 9)
    if adaptive_lsb is None:
        current, status = bench.cell_table(g, v_row, v_bl)
    else:
        g, current, status = bench.adaptive_cells(g, v_row, v_bl, adaptive_lsb)
    held_out = _held_out_points(device, v_read, 8 if quick else 96, rng)
    # close together: a line that rings settles a half period sooner or later, all at once
    loads = 4 if quick else 21 if checks else 11
    settle_g = np.geomspace(device.g_max_s / 100, device.g_max_s, loads)
    settle_s, settle_energy = bench.settling(settle_g)
    off_load = np.sqrt(settle_g[1:] * settle_g[:-1])[1::3][: None if checks else 0]
    off_s, off_energy = bench.settling(off_load)
    column_g, column_v = held_out_columns(
        device, technology, 2 if quick else 6, 6 if quick else 32, rng
    )
    if not checks:
        none = np.zeros(0)
        held_out, column_g, column_v = (none, none, none), none, none
    return CrossbarData(
        g=g,
        v_row=v_row,
        v_bl=v_bl,
        current=current,
        status=status,
        held_out_g=held_out[0],
        held_out_v_row=held_out[1],
        held_out_v_bl=held_out[2],
        held_out_current=bench.cells(*held_out) if checks else none,
        settle_g=settle_g,
        settle_s=settle_s,
        settle_energy_j=settle_energy,
        column_g=column_g,
        column_v=column_v,
        column_current=bench.columns(column_g, column_v) if checks else none,
        held_out_settle_g=off_load,
        held_out_settle_s=off_s,
        held_out_settle_energy_j=off_energy,
        **cell_mismatch.characterize(
            device, technology, samples=samples, checks=checks, log=bench.log, **run_options
        ),
        provenance=bench.log.provenance(),
    )


def replay(
    device: Device, technology: Technology, g: Floats, v: Floats, **run_options: Any
) -> Floats:
    """Simulate whole columns: every cell, wire segment and the transimpedance stage.

    Parameters
    ----------
    g : (columns, rows) float array [S]
        RRAM conductances; fewer rows than ``technology.column.rows`` make a shorter column.
    v : (samples, rows) float array [V]
        Row voltages relative to ``v_cm``.

    Returns
    -------
    (samples, columns) float array [A]
        Current into each column's read-out; NaN where the simulation failed. It holds the
        stage's own rest current: the bit line rests ``v_cm / (opamp_gain + 1)`` below ``v_cm``.

    Raises
    ------
    ParameterError
        When the shapes do not fit each other or the column.
    """
    g, v = np.atleast_2d(np.asarray(g, dtype=float)), np.atleast_2d(np.asarray(v, dtype=float))
    rows, r_row = technology.column.rows, technology.column.r_row_wire_ohm_per_cell
    if r_row > 0.0:
        raise ParameterError(
            f"r_row_wire_ohm_per_cell = {r_row:g}: replayed columns stand alone, on ideal row "
            "lines; take a library without: nldpe characterize --set r_row_wire_ohm_per_cell=0 "
            "--out FILE.h5"
        )
    if g.shape[1] != v.shape[1] or not 1 <= g.shape[1] <= rows:
        raise ParameterError(
            f"g has {g.shape[1]} rows and v has {v.shape[1]}; both must have the same, 1 to {rows}"
        )
    if not (np.isfinite(g).all() and (g > 0).all() and np.isfinite(v).all()):
        raise ParameterError("g must be positive and finite, v finite")
    return _Bench(device, technology, run_options).columns(g, v)


def held_out_columns(
    device: Device, technology: Technology, columns: int, samples: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return conductances and inputs as networks have them: weights near zero, inputs of one sign.

    Odd columns hold Gaussian weights of one sign (half the cells at g_min), even ones log-uniform
    conductances; even inputs are two-sided, odd ones rectified.
    """
    rows = technology.column.rows
    low, high = device.g_min_s, device.g_max_s
    g = np.exp(rng.uniform(np.log(low), np.log(high), (columns, rows)))
    weights = np.clip(rng.normal(0, 0.3, (columns, rows)), 0, 1)
    g[1::2] = low + weights[1::2] * (high - low)
    x = rng.uniform(-1, 1, (samples, rows))
    x[1::2] = np.clip(rng.normal(0, 0.4, (samples, rows))[1::2], 0, 1)
    return g, x * technology.column.v_read_v


def _held_out_points(
    device: Device, v_read: float, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    g = np.exp(rng.uniform(np.log(device.g_min_s), np.log(device.g_max_s), count))
    v_row, v_bl = rng.uniform(-v_read, v_read, (2, count))
    return g, v_row, v_bl


class _Bench:
    """Runs the netlists of one device and technology, and logs its jobs."""

    def __init__(self, device: Device, technology: Technology, options: dict[str, Any]) -> None:
        self.technology = technology
        self.options = options
        self.log = RunLog()
        self.common: dict[str, str | float] = {
            "models": column_models(device, technology),
            "temperature": technology.temperature_c,
        }

    def run(self, jobs: list[Job]) -> list[Result]:
        results = plan.run(jobs, **self.options)
        self.log.add(jobs, results)
        return results

    def _job(
        self, template: str, title: str, vectors: tuple[str, ...], **fields: str | float
    ) -> Job:
        save = " ".join(name for name in vectors if name != "time")
        return Job(
            title, render(template, title=title, save=save, **self.common, **fields), vectors
        )

    def cell_table(self, g: Floats, v_row: Floats, v_bl: Floats) -> tuple[Floats, NDArray[np.int8]]:
        """Sweep row (inner) and bit line (outer) for all conductances at once."""
        lines = [
            f"xc{k} row b{k} wl cell_1t1r g={number(x)}\nvm{k} b{k} bl 0" for k, x in enumerate(g)
        ]
        sweeps = [f"{name} {_sweep(axis)}" for name, axis in (("vrow", v_row), ("vbl", v_bl))]
        vectors = tuple(f"i(vm{k})" for k in range(len(g)))
        analysis = ".dc " + " ".join(sweeps)
        job = self._job("bench_cell", "cell", vectors, cells="\n".join(lines), analysis=analysis)
        result = self.run([job])[0]
        shape = (len(g), len(v_bl), len(v_row))
        if result.status == 2:
            return np.full((len(g), len(v_row), len(v_bl)), np.nan), np.full(
                len(g), 2, dtype=np.int8
            )
        table = np.array([result.vectors[name] for name in vectors]).reshape(shape)
        current = np.ascontiguousarray(table.transpose(0, 2, 1))
        return current, np.full(len(g), result.status, dtype=np.int8)

    def adaptive_cells(
        self, g: Floats, v_row: Floats, v_bl: Floats, bar_lsb: float
    ) -> tuple[Floats, Floats, NDArray[np.int8]]:
        """Return conductances that interpolation needs, within the range of g, and their table."""
        worst, shape = [0], (len(v_row), len(v_bl))
        start = np.linspace(np.log(g[0]), np.log(g[-1]), ADAPTIVE_START)

        def measure(ln_g: Floats) -> Floats:
            current, status = self.cell_table(np.exp(ln_g), v_row, v_bl)
            worst.append(int(status.max()))
            return current.reshape(len(ln_g), -1)

        def per_conductance(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
            curve = spline(x, y * np.exp(-x)[:, None])  # nearly constant, unlike the current
            return lambda at: curve(at) * np.exp(at)[:, None]

        full = np.abs(self.cell_table(g[-1:], v_row, v_bl)[0]).max()
        bar = bar_lsb * full / 256 if np.isfinite(full) else np.inf  # failed: told by the NaN
        ln_g, table = refine(start, measure, bar, most=ADAPTIVE_MOST, interpolate=per_conductance)
        status = np.full(len(ln_g), max(worst), np.int8)
        return np.exp(ln_g), table.reshape(-1, *shape), status

    def cells(self, g: Floats, v_row: Floats, v_bl: Floats) -> Floats:
        """Return the currents of single cells, each with sources of its own."""
        lines = []
        for k, (x, row, line) in enumerate(zip(g, v_row, v_bl, strict=True)):
            lines += [f"vr{k} r{k} cm {number(row)}", f"vm{k} b{k} cm {number(line)}"]
            lines += [f"xc{k} r{k} b{k} wl cell_1t1r g={number(x)}"]
        vectors = tuple(f"i(vm{k})" for k in range(len(g)))
        job = self._job("bench_cell", "cell-op", vectors, cells="\n".join(lines), analysis=".op")
        result = self.run([job])[0]
        if result.status == 2:
            return np.full(len(g), np.nan)
        return np.array([result.vectors[name][0] for name in vectors])

    def columns(self, g: Floats, v: Floats) -> Floats:
        """Return the read-out currents (samples, columns) of whole columns."""
        by_column = list(chunks(len(g), COLUMNS_PER_NETLIST))
        by_sample = list(chunks(len(v), SAMPLES_PER_NETLIST))
        places = [(a, b) for b in by_sample for a in by_column]
        jobs = [self._column_job(g[a], v[b]) for a, b in places]
        out = np.full((len(v), len(g)), np.nan)
        for (a, b), job, result in zip(places, jobs, self.run(jobs), strict=True):
            if result.status < 2:
                count = b.stop - b.start
                out[b, a] = np.transpose([result.vectors[name][:count] for name in job.vectors])
        return out

    def _column_job(self, g: Floats, v: Floats) -> Job:
        """Build a netlist in which the voltage ``idx`` selects the input of a ``.dc`` sweep."""
        samples = v if len(v) > 1 else np.repeat(v, 2, axis=0)
        rows = []
        for r, levels in enumerate(samples.T):
            knots = ", ".join(f"{k}, {number(x)}" for k, x in enumerate(levels))
            rows.append(f"bv{r} r{r} cm v=pwl(v(idx), {knots})")
        columns = [
            line for k, cells in enumerate(g) for line in self._column_lines(k, cells, "r{r}")
        ]
        vectors = tuple(f"i(vs{k})" for k in range(len(g)))
        return self._job(
            "bench_column",
            "column",
            vectors,
            rows="\n".join(rows),
            columns="\n".join(columns),
            last=float(len(samples) - 1),
        )

    def settling(self, loads: Floats) -> tuple[Floats, Floats]:
        """Return settling time and energy per product for columns of equal cells."""
        column, readout = self.technology.column, self.technology.readout
        jobs, t_step, gbw = [], 0.1e-9, gbw_hz(self.technology)
        swings = np.full(len(loads), column.v_read_v)
        if readout.amplifier != "model":  # rails: no more than full scale on one line
            swings = np.minimum(swings, readout.i_full_scale_a / 2 / (loads * column.rows))
        for g, swing in zip(loads, swings, strict=True):
            noise_gain = 1 + readout.r_feedback_ohm * g * column.rows
            tau = noise_gain / (2 * np.pi * gbw)
            wire = column.r_wire_ohm_per_cell * column.rows
            tau += 0.5 * wire * column.rows * (column.c_wire_f_per_cell + 0.2e-15)
            # the stage's inductive input rings with a lightly loaded line: never below 10 / GBW
            stop = t_step + 20 * tau + 10 / gbw
            lines = self._column_lines(0, np.full(column.rows, g), "row")
            vectors = ("time", "v(o0)", "i(vin)")
            jobs.append(
                self._job(
                    "bench_column_step",
                    "settle",
                    vectors,
                    columns="\n".join(lines),
                    swing="{v_read}" if swing == column.v_read_v else float(swing),
                    step=(stop - t_step) / 500,
                    stop=stop,
                )
            )
        results = self.run(jobs)
        found = [_settle(*pair, t_step) for pair in zip(results, swings, strict=True)]
        return np.array([x[0] for x in found]), np.array([x[1] for x in found])

    def _column_lines(self, k: int, g: Floats, row: str) -> list[str]:
        """Return the cells, wires, current sense and transimpedance stage of column ``k``."""
        lines = []
        for r, x in enumerate(g):
            after = f"b{k}_{r + 1}" if r + 1 < len(g) else f"s{k}"
            lines.append(f"xc{k}_{r} {row.format(r=r)} b{k}_{r} wl cell_1t1r g={number(x)}")
            lines.append(f"xw{k}_{r} b{k}_{r} {after} wire_segment")
        if self.technology.readout.amplifier != "model":  # transistors feel what they drive
            lines.append(f"xl{k} o{k} stage_load")
        return [*lines, f"vs{k} s{k} t{k} 0", f"xt{k} t{k} o{k} cm tia"]


def _settle(result: Result, swing: float, t_step: float) -> tuple[float, float]:
    if result.status == 2:
        return np.nan, np.nan
    time, v, i = (result.vectors[name] for name in ("time", "v(o0)", "i(vin)"))
    outside = np.flatnonzero(np.abs(v - v[-1]) > abs(v[-1] - v[0]) / 512)
    if len(outside) == 0 or outside[-1] > 0.9 * len(time):
        return np.inf, np.nan
    end = int(outside[-1]) + 2
    drive = np.interp(time[:end], [t_step, t_step + 10e-12], [0.0, swing])
    return float(time[end - 1] - t_step), float(-np.trapezoid(drive * i[:end], time[:end]))


def _sweep(axis: Floats) -> str:
    """Return start, stop and step; a slightly later stop, so that rounding loses no point."""
    step = float(axis[1] - axis[0])
    return f"{number(axis[0])} {number(axis[-1] + step * 1e-3)} {number(step)}"

"""Testbenches of the read-out: netlists of its stages, the full-scale step, what to read off."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from circuits.netlist import number, readout_models, render
from circuits.parameters import Technology
from circuits.plan import Job, Result

Floats = NDArray[np.float64]

LINES = ("p", "n", "pe", "ne")
AXES = ("time", "frequency")
NOISE_VECTORS = ("noise1.frequency", "noise1.onoise_spectrum")  # of the first of its two plots
GM_OVER_ID_PER_V = 13.0  # of the input pair, for the length of transients only


def gbw_hz(technology: Technology) -> float:
    """Return the gain-bandwidth product: of the model, or by hand ``gm / (2 pi c_miller)``."""
    if technology.readout.amplifier == "model":
        return technology.readout.opamp_gbw_hz
    sized = technology.amplifier
    pair = sized.i_reference_a * sized.w_tail_m / sized.w_reference_m / 2
    return GM_OVER_ID_PER_V * pair / (2 * np.pi * max(sized.c_miller_f, 1e-18))


def readout_job(
    technology: Technology, title: str, drive: dict[str, str], analysis: str, *vectors: str
) -> Job:
    """Return a job on the read-out of one column; ``drive`` gives the source of a bit line."""
    # A current into the bit line is a source from ground to the line.
    sources = "\n".join(f"i{line} 0 {line} {drive.get(line, 'dc 0')}" for line in LINES)
    return bench_job(technology, title, sources, analysis, vectors, template="bench_readout")


def bench_job(
    technology: Technology,
    title: str,
    circuit: str,
    analysis: str,
    vectors: tuple[str, ...],
    template: str = "bench_amplifier",
) -> Job:
    """Return a job on a circuit that is written line by line; ``vectors`` come back."""
    text = render(
        template,
        title=title,
        models=readout_models(technology),
        circuit=circuit,
        analysis=analysis,
        temperature=technology.temperature_c,
        save="all" if vectors == NOISE_VECTORS else " ".join(v for v in vectors if v not in AXES),
    )
    return Job(title, text, vectors)


def step_job(technology: Technology, load: float | None = None) -> Job:
    """Return the step of the p line to half of full scale, at the given data-line load [F]."""
    readout = technology.readout
    if load is not None:
        technology = replace(technology, readout=replace(readout, c_load_f=float(load)))
    full = readout.i_full_scale_a / 2
    span = readout.v_dl_hi_v - readout.v_dl_lo_v
    noise_gain = 1 + span / (readout.i_full_scale_a * readout.r_feedback_ohm)
    length = 15 * noise_gain / gbw_hz(technology)  # about 90 time constants of the slower stage
    sweep = f".tran {number(length / 1000)} {number(length)} 0 {number(length / 1000)}"
    pulse = f"pulse(0 {number(full)} {number(length / 50)} {number(length / 1e4)} 1n 1 2)"
    vectors = ("time", "v(dl)", *(() if readout.amplifier == "model" else ("i(vdda)",)))
    return readout_job(technology, "readout-step", {"p": pulse}, sweep, *vectors)


def settling(result: Result) -> float:
    """Return the time [s] from the step until the data line stays within half an LSB."""
    if result.status == 2:
        return np.nan
    time, v = result.vectors["time"], result.vectors["v(dl)"]
    outside = np.flatnonzero(np.abs(v - v[-1]) > abs(v[-1] - v[0]) / 512)
    return float(time[outside[-1] + 1] - time[-1] / 50) if 0 < len(outside) < len(v) else np.inf


def supply_energy(result: Result, v_supply: float, settle: float) -> float:
    """Return what the supply gives [J] from the step until the data line has settled."""
    if result.status == 2 or not np.isfinite(settle):
        return np.nan
    time, current = result.vectors["time"], -result.vectors["i(vdda)"]
    start = time[-1] / 50
    inside = time[(time > start) & (time < start + settle)]
    at = np.concatenate([[start], inside, [start + settle]])
    return float(v_supply * np.trapezoid(np.interp(at, time, current), at))


def crossing(frequency: Floats, size: Floats, level: float) -> float:
    """Return where a falling magnitude first passes a level [Hz]; NaN when it never does."""
    below = np.flatnonzero(size < level)
    if len(below) == 0 or below[0] == 0:
        return np.nan
    k = slice(int(below[0]) - 1, int(below[0]) + 1)
    return float(np.exp(np.interp(-level, -size[k], np.log(frequency[k]))))

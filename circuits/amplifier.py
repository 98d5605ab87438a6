"""The transistor-level amplifier of the read-out, measured where it works.

Its two places are the transimpedance stage of a bit line (unloaded line: the least stable case) and
the summing stage; arrays over the stages hold them in this order. ``readout.amplifier = "model"``
is given by its parameters and has no supply current: then nothing is measured here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.netlist import chunks, number
from circuits.parameters import Technology
from circuits.plan import Job, Result, RunLog
from circuits.readout_bench import (
    NOISE_VECTORS,
    bench_job,
    crossing,
    readout_job,
    settling,
    step_job,
    supply_energy,
)

Floats = NDArray[np.float64]

LOADS = (0.5, 1.0, 2.0, 4.0)  # data-line capacitance over readout.c_load_f
NOISE_BAND_HZ = (1e3, 1e10)  # slower noise is drift, which calibration takes out (ours)
SEED, DRAWN_TOGETHER = 8, 100  # of the Monte-Carlo: a library is the same every time; a netlist
SWEEP = 4.0  # of the transfer sweep, over half the full-scale current


def _empty() -> NDArray[Any]:
    return np.zeros(0)


@dataclass(frozen=True, kw_only=True)
class AmplifierData:
    """Measured amplifiers; all empty or NaN with ``readout.amplifier = "model"``.

    Attributes
    ----------
    amplifier_gain : (2,) float array [V/V]
        Output over differential input, at DC, loaded by its feedback network.
    unity_gain_hz : (2,) float array [Hz]
        Where that falls to 1.
    loop_crossover_hz, phase_margin_deg : (2,) float arrays [Hz], [degrees]
        Where the loop gain falls to 1, and its phase above -180 degrees there.
    amplifier_offset_v : (2,) float array [V]
        Systematic: inverting minus non-inverting input at rest.
    amplifier_offset_sigma_v : float
        Standard deviation from the thresholds of pair and mirror (``process.a_vt_v_m``) [V].
    monte_carlo_offset_v : (samples,) float array [V]
        Offsets of drawn amplifiers, less that of the matched one.
    output_lo_v, output_hi_v : (2,) float arrays [V]
        Output range in which the gain is at least half of that at rest.
    nonlinearity_v : float
        Largest distance of the data line from the straight line through its ends, main pair.
    noise_v, noise_a : float
        Noise of the whole read-out on the data line [V rms] and as current of a bit line [A rms].
    amplifier_power_w : (3,) float array [W]
        From the supply at rest: a transimpedance stage, the summing stage, the bias generator.
    load_f : (l,) float array [F]
        Capacitance of the data line.
    load_settle_s : (l,) float array [s]
        Full-scale step of one bit line until the data line stays within half an LSB.
    load_energy_j : (l,) float array [J]
        From the supply in that time: four transimpedance stages, summing stage, bias generator.
    amplifier_status : (6,) int8 array
        Of loops, mismatch, supply, transfer, noise, loads: 0 ok, 1 after a retry, 2 failed.
    """

    amplifier_gain: Floats = field(default_factory=_empty)
    unity_gain_hz: Floats = field(default_factory=_empty)
    loop_crossover_hz: Floats = field(default_factory=_empty)
    phase_margin_deg: Floats = field(default_factory=_empty)
    amplifier_offset_v: Floats = field(default_factory=_empty)
    amplifier_offset_sigma_v: float = np.nan
    monte_carlo_offset_v: Floats = field(default_factory=_empty)
    output_lo_v: Floats = field(default_factory=_empty)
    output_hi_v: Floats = field(default_factory=_empty)
    nonlinearity_v: float = np.nan
    noise_v: float = np.nan
    noise_a: float = np.nan
    amplifier_power_w: Floats = field(default_factory=_empty)
    load_f: Floats = field(default_factory=_empty)
    load_settle_s: Floats = field(default_factory=_empty)
    load_energy_j: Floats = field(default_factory=_empty)
    amplifier_status: NDArray[np.int8] = field(default_factory=_empty)


def measure(
    technology: Technology, log: RunLog, *, samples: int = 0, **run_options: Any
) -> dict[str, Any]:
    """Measure the chosen amplifier in ngspice.

    Parameters
    ----------
    technology : Technology
    log : RunLog
        Notes the jobs.
    samples : int
        Amplifiers of the mismatch Monte-Carlo.
    **run_options
        As ``circuits.plan.run``.

    Returns
    -------
    dict
        The fields of ``AmplifierData``; empty with ``readout.amplifier = "model"``.
    """
    if technology.readout.amplifier == "model":
        return {}
    loads = technology.readout.c_load_f * np.array(LOADS)
    jobs = [
        *loop_jobs(technology),
        _mismatch_job(technology),
        *(_supply_job(technology, stages) for stages in (0, 1)),
        *transfer_jobs(technology),
        _noise_job(technology),
        *(step_job(technology, load) for load in loads),
    ]
    results = plan.run(jobs, **run_options)
    log.add(jobs, results)
    loops, (mismatch, bias, stage), steps = results[:4], results[4:7], results[10:]
    transfers, noise = results[7:9], results[9]
    settled = np.array([settling(step) for step in steps])
    groups = (loops, [mismatch], [bias, stage], transfers, [noise], steps)
    return {
        **_loops(loops),
        "amplifier_offset_sigma_v": _mismatch(mismatch),
        "monte_carlo_offset_v": _monte_carlo(technology, samples, log, run_options),
        **_transfer(transfers, technology),
        **_noise(noise, transfers[0], technology),
        "amplifier_power_w": _powers(bias, stage, transfers[0], technology.amplifier.v_supply_v),
        "load_f": loads,
        "load_settle_s": settled,
        "load_energy_j": np.array(
            [
                supply_energy(step, technology.amplifier.v_supply_v, time)
                for step, time in zip(steps, settled, strict=True)
            ]
        ),
        "amplifier_status": np.array([_worst(group) for group in groups], np.int8),
    }


def _worst(results: Sequence[Result]) -> int:
    return max(result.status for result in results)


# -- loop gain: voltage and current injected at the amplifier's inverting input (Middlebrook 1975).
# One netlist for each: two copies would share the bias lines and disturb each other.

PROBES = {
    "voltage": (("vprobe g s dc 0 ac 1",), ("frequency", "v(g)", "v(s)", "v(o)")),
    "current": (
        ("vg n g 0", "vs n s 0", "iprobe 0 n dc 0 ac 1"),
        ("frequency", "i(vg)", "i(vs)"),
    ),
}


def loop_jobs(technology: Technology) -> list[Job]:
    """Return the injections into transimpedance stage (empty line) and summing stage."""
    line = technology.column.rows * technology.column.c_wire_f_per_cell
    main_and_error = "{r_sum*error_scale/(error_scale+1)}"  # two resistors side by side
    transimpedance = [
        "xa cm g o amplifier",
        "rf s o {r_feedback}",
        "cf s o {c_feedback}",
        f"cb s 0 {number(line)}",
        "xl o stage_load",
    ]
    summing = [
        f"rp cm s {main_and_error}",
        "rfb s o {r_sum*sum_gain}",
        "cfb s o {c_sum}",
        f"rn cm p {main_and_error}",
        "rref p ref {r_sum*sum_gain}",
        "vref ref 0 {v_ref}",
        "xa p g o amplifier c_comp={c_miller_sum}",
        "cl o 0 {c_load}",
    ]
    return [
        bench_job(
            technology,
            f"amplifier-loop-{stage}-{probe}",
            "\n".join([*circuit, *PROBES[probe][0]]),
            ".ac dec 50 1e3 1e11",
            PROBES[probe][1],
        )
        for stage, circuit in (("transimpedance", transimpedance), ("summing", summing))
        for probe in PROBES
    ]


def _loops(results: Sequence[Result]) -> dict[str, Floats]:
    names = ("amplifier_gain", "unity_gain_hz", "loop_crossover_hz", "phase_margin_deg")
    found = np.full((4, 2), np.nan)
    for k, pair in enumerate((results[:2], results[2:])):
        if _worst(pair) < 2:
            found[:, k] = _loop({**pair[0].vectors, **pair[1].vectors})
    return dict(zip(names, found, strict=True))


def _loop(v: dict[str, NDArray[Any]]) -> tuple[float, float, float, float]:
    frequency, loop = loop_gain(v)
    gain = np.abs(v["v(o)"] / v["v(g)"])
    phase = np.rad2deg(np.unwrap(np.angle(loop)))
    crossover = crossing(frequency, np.abs(loop), 1.0)
    margin = 180.0 + np.interp(np.log(crossover), np.log(frequency), phase)
    return float(gain[0]), crossing(frequency, gain, 1.0), crossover, float(margin)


def loop_gain(v: dict[str, NDArray[Any]]) -> tuple[Floats, NDArray[np.complex128]]:
    """Return frequency [Hz] and loop gain from the vectors of both injections."""
    by_voltage, by_current = -v["v(s)"] / v["v(g)"], v["i(vs)"] / v["i(vg)"]
    loop = (by_voltage * by_current - 1) / (by_voltage + by_current + 2)
    return np.real(v["frequency"]), loop


# -- offset of mismatched thresholds


def _threshold_sigmas(technology: Technology) -> Floats:
    """Return the spread of the threshold differences of pair and mirror, (2,) [V]."""
    sized = technology.amplifier
    gates = [(sized.w_pair_m, sized.l_signal_m), (sized.w_mirror_m, sized.l_mirror_m)]
    return np.asarray(technology.process.a_vt_v_m * np.sqrt(2 / np.prod(gates, axis=1)))


def _mismatch_job(technology: Technology, draws: Floats | None = None) -> Job:
    """Build followers: matched, and with shifts of pair and mirror; by default one sigma each."""
    shifts = np.diag(_threshold_sigmas(technology)) if draws is None else draws
    lines = ["x0 cm o0 o0 amplifier"] + [
        f"x{k} cm o{k} o{k} amplifier vth_pair={number(pair)} vth_mirror={number(mirror)}"
        for k, (pair, mirror) in enumerate(shifts, 1)
    ]
    vectors = tuple(f"v(o{k})" for k in range(len(lines)))
    return bench_job(technology, "amplifier-mismatch", "\n".join(lines), ".op", vectors)


def _monte_carlo(
    technology: Technology, samples: int, log: RunLog, run_options: dict[str, Any]
) -> Floats:
    """Return the offsets of drawn amplifiers less that of the matched one, (samples,) [V]."""
    normals = np.random.default_rng(SEED).standard_normal((samples, 2))
    draws, parts = normals * _threshold_sigmas(technology), list(chunks(samples, DRAWN_TOGETHER))
    jobs = [_mismatch_job(technology, draws[part]) for part in parts] if samples else []
    results = plan.run(jobs, **run_options) if jobs else []
    log.add(jobs, results)
    found = np.full(samples, np.nan)
    for part, job, result in zip(parts, jobs, results, strict=False):
        if result.status < 2:
            matched, *others = (float(result.vectors[name][0]) for name in job.vectors)
            found[part] = np.array(others) - matched
    return found


def _mismatch(result: Result) -> float:
    if result.status == 2:
        return np.nan
    matched, pair, mirror = (float(result.vectors[f"v(o{k})"][0]) for k in range(3))
    return float(np.hypot(pair - matched, mirror - matched))


# -- supply


def _supply_job(technology: Technology, stages: int) -> Job:
    lines = "\n".join(f"xt{k} in{k} o{k} cm tia" for k in range(stages))
    return bench_job(technology, f"amplifier-supply-{stages}", lines, ".op", ("i(vdda)",))


def _powers(bias: Result, stage: Result, transfer: Result, v_supply: float) -> Floats:
    """Return stage, summing stage and bias generator [W], from the currents of their sums."""
    if _worst([bias, stage, transfer]) == 2:
        return np.full(3, np.nan)
    generator, one = (-float(r.vectors["i(vdda)"][0]) for r in (bias, stage))
    everything = -float(transfer.vectors["i(vdda)"][transfer.vectors["i(vdda)"].size // 2])
    stages = one - generator
    return v_supply * np.array([stages, everything - 4 * stages - generator, generator])


# -- transfer over and beyond full scale


def transfer_jobs(technology: Technology) -> list[Job]:
    """Sweep a bit line's current, and the data line over its supply by its reference."""
    full = SWEEP * technology.readout.i_full_scale_a / 2
    current = f".dc ip {number(-full)} {number(full * (1 + 1e-5))} {number(full / 200)}"
    supply = technology.amplifier.v_supply_v
    level = f".dc vref 0 {number(supply * (1 + 1e-5))} {number(supply / 200)}"
    names = ("v(p)", "v(op)", "v(dl)", "i(vdda)")
    return [
        readout_job(technology, "amplifier-transfer", {}, current, *names),
        readout_job(technology, "amplifier-level", {}, level, "v(dl)", "v(xs.vm)", "v(xs.vp)"),
    ]


def _transfer(results: Sequence[Result], technology: Technology) -> dict[str, Any]:
    if _worst(results) == 2:
        blank = np.full(2, np.nan)
        return dict.fromkeys(("amplifier_offset_v", "output_lo_v", "output_hi_v"), blank)
    transfer, level = (result.vectors for result in results)
    readout, dl = technology.readout, level["v(dl)"]
    rest = int(np.argmin(np.abs(dl - (readout.v_dl_lo_v + readout.v_dl_hi_v) / 2)))
    virtual = transfer["v(p)"] - technology.column.v_cm_v
    stages = (
        (transfer["v(op)"], virtual, virtual.size // 2),
        (dl, level["v(xs.vm)"] - level["v(xs.vp)"], rest),
    )
    low, high = np.transpose([_swing(*stage) for stage in stages])
    line = _full_scale(transfer)
    return {
        "amplifier_offset_v": np.array([error[rest] for _, error, rest in stages]),
        "output_lo_v": low,
        "output_hi_v": high,
        "nonlinearity_v": float(np.abs(line - np.linspace(line[0], line[-1], line.size)).max()),
    }


def _full_scale(transfer: dict[str, NDArray[Any]]) -> Floats:
    """Return the data line over the part of the sweep that is in use."""
    middle = transfer["v(dl)"].size // 2
    used = round(middle / SWEEP)
    return np.asarray(transfer["v(dl)"][middle - used : middle + used + 1])


def _swing(out: Floats, error: Floats, rest: int) -> tuple[float, float]:
    """Return the output range around rest in which the gain is at least half of that at rest."""
    inverse = np.abs(np.gradient(error) / np.gradient(out))
    poor = np.flatnonzero(inverse > 2 * inverse[rest])
    first = poor[poor < rest].max(initial=0)
    last = poor[poor > rest].min(initial=len(out) - 1)
    low, high = sorted((out[first], out[last]))
    return float(low), float(high)


# -- noise


def _noise_job(technology: Technology) -> Job:
    low, high = NOISE_BAND_HZ
    sweep = f".noise v(dl) ip dec 20 {number(low)} {number(high)}"
    drive = {"p": "dc 0 ac 1"}
    return readout_job(technology, "amplifier-noise", drive, sweep, *NOISE_VECTORS)


def _noise(noise: Result, transfer: Result, technology: Technology) -> dict[str, float]:
    """Return the noise on the data line, and over the read-out's gain as current of a bit line."""
    if _worst([noise, transfer]) == 2:
        return {}
    line = _full_scale(transfer.vectors)
    frequency, density = (np.real(noise.vectors[name]) for name in NOISE_VECTORS)
    rms = float(np.sqrt(np.trapezoid(density**2, frequency)))
    return {
        "noise_v": rms,
        "noise_a": rms * technology.readout.i_full_scale_a / float(line[-1] - line[0]),
    }

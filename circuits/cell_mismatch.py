"""Mismatch of the 1T1R cell: every access transistor has a threshold and a mobility of its own.

Pelgrom's law gives the spread of both, as for the ACAM cell in :mod:`circuits.mismatch`. Cells
share a row and stand at bit lines held at a voltage, so thousands of them fit one DC sweep.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.netlist import chunks, column_models, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job, RunLog

Floats = NDArray[np.float64]

CELLS_PER_NETLIST = 500
POINTS = 8  # conductances
SWINGS = np.array([-1.0, -0.5, 0.5, 1.0])  # row voltages, of full swing
SEED = 7  # of the draws; fixed, so that a library is the same every time


def standard_deviations(technology: Technology) -> Floats:
    """Return the spread of threshold [V] and ln(current factor) of an access transistor, (2,).

    References
    ----------
    Pelgrom et al., JSSC 1989: both fall with the root of the gate area.
    """
    column, process = technology.column, technology.process
    root = np.sqrt(column.w_access_m * column.l_access_m)
    return np.asarray(np.array([process.a_vt_v_m, process.a_beta_m]) / root)


def draw(technology: Technology, count: int, seed: int) -> Floats:
    """Draw cells: deviations of threshold [V] and ln(current factor), (count, 2)."""
    normals = np.random.default_rng(seed).standard_normal((count, 2))
    return np.asarray(normals * standard_deviations(technology))


def measure(
    device: Device,
    technology: Technology,
    g: Floats,
    draws: Floats,
    *,
    log: RunLog,
    **run_options: Any,
) -> Floats:
    """Measure the current of drawn cells at the row voltages ``SWINGS``, bit line at rest.

    Parameters
    ----------
    device, technology : Device, Technology
    g : (n,) float array [S]
        RRAM conductances.
    draws : (n, 2) float array
        Deviations of threshold [V] and ln(mobility) of each cell's transistor.
    log : RunLog
        Takes the jobs.
    **run_options
        As ``circuits.plan.run``.

    Returns
    -------
    (n, 4) float array [A]
        NaN where a simulation failed.
    """
    places = list(chunks(len(g), CELLS_PER_NETLIST))
    jobs = [_job(device, technology, g[part], draws[part]) for part in places]
    results = plan.run(jobs, **run_options)
    log.add(jobs, results)
    out = np.full((len(g), len(SWINGS)), np.nan)
    for part, job, result in zip(places, jobs, results, strict=True):
        if result.status < 2:
            swept = np.array([result.vectors[name] for name in job.vectors])
            out[part] = np.delete(swept, len(SWINGS) // 2, axis=1)  # nothing flows at rest
    return out


def _job(device: Device, technology: Technology, g: Floats, draws: Floats) -> Job:
    """Return a sweep of the row from end to end in steps of half the swing."""
    lines = [
        f"xc{k} row b{k} wl cell_1t1r g={number(x)} vt1={number(vth)} mu1={number(np.exp(beta))}\n"
        f"vm{k} b{k} bl 0"
        for k, (x, (vth, beta)) in enumerate(zip(g, draws, strict=True))
    ]
    vectors = tuple(f"i(vm{k})" for k in range(len(g)))
    v_read = technology.column.v_read_v
    text = render(
        "bench_cell",
        title="cell-mismatch",
        models=column_models(device, technology, draws=True),
        temperature=technology.temperature_c,
        cells="\n".join(lines),
        save=" ".join(vectors),
        analysis=f".dc vrow {number(-v_read)} {number(v_read * 1.01)} {number(v_read / 2)}",
    )
    return Job("cell-mismatch", text, vectors)


def measure_parts(
    device: Device, technology: Technology, g: Floats, *, log: RunLog, **run_options: Any
) -> Floats:
    """Measure what threshold and current factor add to the spread of a current, to first order.

    Returns
    -------
    (n, 4, 2) float array
        Signed relative change of the current for one standard deviation of each, at conductances
        g (n,) and row voltages ``SWINGS``. NaN where a simulation failed.
    """
    sigma = np.diag(standard_deviations(technology))
    steps = np.concatenate([np.zeros((1, 2)), sigma, -sigma])
    at = np.repeat(g, len(steps))
    found = measure(
        device, technology, at, np.tile(steps, (len(g), 1)), log=log, **run_options
    ).reshape(len(g), len(steps), len(SWINGS))
    change = (found[:, 1:3] - found[:, 3:5]) / (2 * found[:, :1])
    return np.ascontiguousarray(change.transpose(0, 2, 1))


def characterize(
    device: Device,
    technology: Technology,
    *,
    samples: int = 0,
    checks: bool = True,
    log: RunLog,
    **run_options: Any,
) -> dict[str, Any]:
    """Measure the spread of the cell current: fields of ``CrossbarData``.

    Parameters
    ----------
    device, technology : Device, Technology
    samples : int
        Cells of the Monte-Carlo at each of the three largest conductances; 0: none.
    checks : bool
        Measure too what only checks the table: conductances between its own.
    log : RunLog
        Takes the jobs.
    **run_options
        As ``circuits.plan.run``.
    """
    g = np.geomspace(device.g_min_s, 2.5 * device.g_max_s, POINTS)
    out: dict[str, Any] = {
        "mismatch_g": g,
        "mismatch_v_row": SWINGS * technology.column.v_read_v,
        "mismatch_parts": measure_parts(device, technology, g, log=log, **run_options),
    }
    if checks:
        between = np.sqrt(g[1:] * g[:-1])
        out["held_out_mismatch_g"] = between
        out["held_out_mismatch_parts"] = measure_parts(
            device, technology, between, log=log, **run_options
        )
    if samples:
        places = g[-3:]
        draws = np.concatenate([np.zeros((1, 2)), draw(technology, samples, SEED)])
        at, every = np.repeat(places, len(draws)), np.tile(draws, (len(places), 1))
        found = measure(device, technology, at, every, log=log, **run_options)
        found = found.reshape(len(places), len(draws), -1)
        out["monte_carlo_g"] = places
        out["monte_carlo_change"] = found[:, 1:] / found[:, :1] - 1.0
    return out

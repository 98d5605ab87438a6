"""What rows of the ACAM take while they are not searched, and what they do to their match lines."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuits import plan
from circuits.errors import SimulationError
from circuits.netlist import acam_models, half_cell, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job
from circuits.search import HALVES, T_EDGE, T_EVAL, Floats, Half

LEVELS = 9  # of the data line, which moves for the rows that are searched


@dataclass(frozen=True)
class IdleRows:
    """Halves with their search lines on, and at ground; all static.

    Attributes
    ----------
    g : (k,) float array [S]
    power_w : (2 states, 2 halves, k) float array [W]
        From search lines and inverter supply, mean over the data line. States: search lines on,
        search lines at ground.
    line_a : (2 states, 2 halves, k) float array [A]
        Drawn from a match line held at ``vdd_v``: with search lines on, with the data line at the
        end where halves match; at ground, the most over the data line.
    """

    g: Floats
    power_w: Floats
    line_a: Floats


def measure(device: Device, technology: Technology, g: Floats, **run_options: Any) -> IdleRows:
    """Measure single halves in ngspice.

    Parameters
    ----------
    device, technology : Device, Technology
    g : (k,) float array [S]
    **run_options
        As ``circuits.plan.run``.

    Raises
    ------
    SimulationError
        ngspice failed.
    """
    grounded = replace(technology, acam=replace(technology.acam, v_sl_hi_v=0.0, v_sl_lo_v=0.0))
    states = technology, grounded
    jobs = [_job(device, state, half, x) for state in states for half in HALVES for x in g]
    results = plan.run(jobs, **run_options)
    power, line = (np.empty((len(states), len(HALVES), len(g))) for _ in range(2))
    for k, result in enumerate(results):
        if result.status == 2:
            raise SimulationError(f"ngspice failed on an idle row: {result.message}")
        where = np.unravel_index(k, power.shape)
        acam, found = states[where[0]].acam, result.vectors
        drawn = -found["i(vm)"]
        supplies = acam.v_sl_hi_v * found["i(vslhi)"] + acam.v_sl_lo_v * found["i(vsllo)"]
        power[where] = 0.0 - (supplies + technology.vdd_v * found["i(vdd)"]).mean()
        matching = -1 if HALVES[where[1]] == "lower" else 0
        line[where] = drawn.max() if where[0] else drawn[matching]
    return IdleRows(g, power, line)


def _job(device: Device, technology: Technology, half: Half, g: float) -> Job:
    readout = technology.readout
    low, high = readout.v_dl_lo_v, readout.v_dl_hi_v
    step = (high - low) / (LEVELS - 1)
    vectors = ("i(vm)", "i(vslhi)", "i(vsllo)", "i(vdd)")
    cell = half_cell(technology, half, g, "dl ml slhi sllo", name="cell")
    text = render(
        "bench_threshold",
        title="idle-row",
        models=acam_models(device, technology, T_EVAL, T_EDGE),
        cells="\n".join([f"vm ml 0 {number(technology.vdd_v)}", cell]),
        temperature=technology.temperature_c,
        save=" ".join(vectors),
        start=low,
        stop=high + step / 1000,
        step=step,
    )
    return Job("idle-row", text, vectors)

"""Static transfer of the row driver in use: which row voltage an asked-for one becomes, by load.

Measured only where ``driver.circuit`` names a driver; the default is an ideal one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.parameters import Device, Technology
from circuits.plan import Job, Provenance, RunLog
from circuits.row_driver import DriverBench

Floats = NDArray[np.float64]

LOADS = 33
LEVELS = 65


@dataclass(frozen=True)
class RowTransferData:
    """Row voltages against the virtual ground.

    Attributes
    ----------
    load_s : (loads,) float array [S]
        Conductance of all cells of a row, into bit lines at the virtual ground.
    ideal_v : (levels,) float array [V]
        What an ideal driver gives, from ``-v_read`` to ``v_read``.
    row_v : (loads, levels) float array [V]
        What the driver gives.
    status : (loads,) int8 array
        0 ok, 1 ok after a retry, 2 failed (then NaN).
    held_out_load_s : (held out,) float array [S]
    held_out_row_v : (held out, levels) float array [V]
        Rows of other loads.
    provenance : Provenance
    """

    load_s: Floats
    ideal_v: Floats
    row_v: Floats
    status: NDArray[np.int8]
    held_out_load_s: Floats
    held_out_row_v: Floats
    provenance: Provenance


def characterize(
    device: Device,
    technology: Technology,
    *,
    quick: bool = False,
    checks: bool = True,
    **run_options: Any,
) -> RowTransferData:
    """Measure the driver that ``technology.driver.circuit`` names, up to a row of cells at g_max.

    A string's buffer follows every level. A pulse stands at the reference or at rest, and its code
    counts by the pulses: the levels of a row are those of a full pulse, in proportion.

    Parameters
    ----------
    device, technology : Device, Technology
    quick : bool
        Half the loads.
    checks : bool
        Measure too what only checks the table: other loads.
    **run_options
        As ``circuits.plan.run``.
    """
    v_read, heaviest = technology.column.v_read_v, technology.driver.cells * device.g_max_s
    place = np.linspace(0.0, 1.0, (LOADS + 1) // 2 if quick else LOADS)
    load = heaviest * place**2  # most rows are light
    between = heaviest * ((place[1:] + place[:-1]) / 2) ** 2 if checks else np.zeros(0)
    ideal = np.linspace(-v_read, v_read, LEVELS)
    bench = DriverBench(technology, run_options)
    make = {"string": _string_job, "pulses": _pulse_job}[technology.driver.circuit]
    jobs = [make(bench, float(g)) for g in (*load, *between)]
    log, results = RunLog(), plan.run(jobs, **run_options)
    log.add(jobs, results)
    row = np.full((len(jobs), LEVELS), np.nan)
    for k, result in enumerate(results):
        if result.status < 2:
            found = result.vectors["v(row)"] - technology.column.v_cm_v
            row[k] = np.interp(ideal, np.linspace(-v_read, v_read, found.size), found)
    return RowTransferData(
        load_s=load,
        ideal_v=ideal,
        row_v=row[: load.size],
        status=np.array([result.status for result in results[: load.size]], np.int8),
        held_out_load_s=between,
        held_out_row_v=row[load.size :],
        provenance=log.provenance(),
    )


def _string_job(bench: DriverBench, g_row: float) -> Job:
    """Return the job that moves the tap of a buffer through all levels; it carries no current."""
    column = bench.technology.column
    step = 2 * column.v_read_v / (LEVELS - 1)
    ends = column.v_cm_v - column.v_read_v, column.v_cm_v + column.v_read_v
    circuit = ["vtap tap 0 0", "xo tap row row_buffer", "xl row cm row_line"]
    sweep = f".dc vtap {ends[0]!r} {ends[1] + 1e-3 * step!r} {step!r}"
    name, share = f"row-transfer-string {g_row:.3g}", bench.driver.buffers
    return bench.job(name, [], circuit, sweep, ("v(row)",), g_row, share)


def _pulse_job(bench: DriverBench, g_row: float) -> Job:
    """Return the job of a one, with the reference below, at and above the virtual ground."""
    column = bench.technology.column
    ends = column.v_cm_v - column.v_read_v, column.v_cm_v + column.v_read_v
    circuit = [
        "xb bit yes no vddl bit_lines", "xr yes no row hi cm row_switch", "xl row cm row_line",
    ]  # fmt: skip
    sweep = f".dc vhi {ends[0]!r} {ends[1] + 1e-3 * column.v_read_v!r} {column.v_read_v!r}"
    bit = [f"vbit bit 0 {bench.driver.v_supply_v!r}"]
    return bench.job(f"row-transfer-pulses {g_row:.3g}", bit, circuit, sweep, ("v(row)",), g_row)

"""Energy and delay of a search in both halves of an ACAM cell, over conductance and data line.

The data line has settled, so a half takes for a search what it takes at rest: power from a sweep
times the cycle. Transients take 0.3 % (`lp16`) to 4 % (`cmos180`) of the mean energy more or less.
Power has a ridge where the divider and its inverter switch, which moves along the data line with
conductance. Sweeps are cheap enough to resolve it; what transients take beside it is smooth and
measured on a coarse grid.
"""

from typing import Any

import numpy as np

from circuits.parameters import Device
from circuits.search import HALVES, Floats, SearchBench

POINTS = 129, 131  # conductances and data-line voltages of power at rest
STRIDES, QUICK_STRIDES = (16, 13), (64, 65)  # from one transient to the next
SEED = 12  # of held-out points; fixed, so that a library is the same every time


def characterize(
    bench: SearchBench, device: Device, *, quick: bool = False, held_out: int = 0
) -> dict[str, Any]:
    """Measure energy and delay of both halves: fields of ``AcamData``.

    Parameters
    ----------
    bench : SearchBench
        Runs the searches and logs them.
    device : Device
    quick : bool
        Fewer transients.
    held_out : int
        Random points that are measured too.
    """
    readout, acam = bench.technology.readout, bench.technology.acam
    g = np.geomspace(device.g_min_s, device.g_max_s, POINTS[0])
    v_dl = np.linspace(readout.v_dl_lo_v, readout.v_dl_hi_v, POINTS[1])
    every = QUICK_STRIDES if quick else STRIDES
    few = g[:: every[0]], v_dl[:: every[1]]
    points = [x.ravel() for x in np.meshgrid(*few, indexing="ij")]
    rng = np.random.default_rng(SEED)
    off_g = np.exp(rng.uniform(np.log(g[0]), np.log(g[-1]), held_out))
    off_v = rng.uniform(v_dl[0], v_dl[-1], held_out)
    out: dict[str, Any] = {"energy_g": g, "energy_v_dl": v_dl, "delay_g": few[0]}
    out |= {"delay_v_dl": few[1], "held_out_energy_g": off_g, "held_out_energy_v_dl": off_v}
    line: dict[bool, list[Floats]] = {True: [], False: []}
    for half in HALVES:
        off = bench.energy(half, off_g, off_v)
        out[f"held_out_energy_{half}_j"], out[f"held_out_delay_{half}_s"] = off[0], off[2]
        joules, match_line, delay, v_ml = bench.energy(half, *points)
        shape = len(few[0]), len(few[1])
        at_rest = bench.power(half, g, v_dl) * (acam.t_precharge_s + acam.t_sense_s)
        more = joules.reshape(shape) - at_rest[:: every[0], :: every[1]]
        out[f"energy_{half}_j"] = at_rest + _spread(few, more, (g, v_dl))
        out[f"delay_{half}_s"] = delay.reshape(shape)
        for matched in (True, False):
            line[matched].append(match_line[(v_ml > acam.v_sense_v) == matched])
    kinds = [np.concatenate(line[matched]) for matched in (True, False)]
    kinds = [x[np.isfinite(x)] for x in kinds]
    out["energy_match_line_j"] = np.array([x.mean() if len(x) else np.nan for x in kinds])
    return out


def _spread(few: tuple[Floats, Floats], values: Floats, all_: tuple[Floats, Floats]) -> Floats:
    """Interpolate values on few conductances and voltages to all, linearly in ln G and volts."""
    from scipy.interpolate import RegularGridInterpolator

    table = RegularGridInterpolator((np.log(few[0]), few[1]), values, bounds_error=False)
    inside = np.clip(np.log(all_[0]), *np.log(few[0][[0, -1]]))  # rounding of the logarithm
    ln_g, v_dl = np.meshgrid(inside, all_[1], indexing="ij")
    return np.asarray(table((ln_g, v_dl)), float)

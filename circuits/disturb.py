"""What reads do to a state, over far more reads than a transient can hold.

Method: ngspice gives the rate of the state in a 1T1R cell held at the read voltage, self-heating
settled, for states over the whole range; the rate is then integrated over the total time of all
reads. Assumed: a read acts only while it lasts, and the filament cools between reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import SimulationError
from circuits.parameters import Device, Technology
from circuits.programming import Bench, check_range

Floats = NDArray[np.float64]

STATES = 41  # at which the rate is measured
WAY_POINTS = 2000  # of the integral over the way of a state; geometric, 1.4 % apart
POINTS_PER_DECADE = 4  # of the number of reads


@dataclass(frozen=True)
class Disturbed:
    """Conductance after reads.

    Attributes
    ----------
    start_s : (n_g,) float array [S]
    voltage_v : (n_v,) float array [V]
        Of the row above the bit line.
    reads : (n_r,) float array
    change : (n_g, n_v, n_r) float array
        Conductance after so many reads over that before, less 1.
    """

    start_s: Floats
    voltage_v: Floats
    reads: Floats
    change: Floats


def disturb(
    device: Device,
    technology: Technology,
    start_s: Floats,
    voltage_v: Floats,
    *,
    reads: float = 1e6,
    **run_options: Any,
) -> Disturbed:
    """Extrapolate the drift of states under reads.

    Parameters
    ----------
    start_s : (n_g,) float array [S]
        Conductances before the first read.
    voltage_v : (n_v,) float array [V]
        Read voltages, of the row above the bit line.
    reads : float
        How many at most; each lasts ``programming.t_read_s``.
    **run_options
        As ``circuits.plan.run``.

    Raises
    ------
    ParameterError
        No dynamic model, no [programming], or a conductance outside the device's range.
    SimulationError
        A rate could not be simulated.
    """
    bench = Bench(device, technology, **run_options)
    check_range(device, start_s, "state")
    axis = np.geomspace(1.0, reads, round(POINTS_PER_DECADE * np.log10(reads)) + 1)
    low, high = bench.model.limits
    margin = 0.02 * (high - low)
    states = np.linspace(low + margin, high - margin, STATES)
    t_read = bench.settings.t_read_s
    held = np.tile(states, len(voltage_v)), np.repeat(voltage_v, STATES)
    after, rate = (x.reshape(len(voltage_v), STATES) for x in bench.hold(*held, t_read))
    if not np.isfinite(rate).all():
        raise SimulationError("the rate of a state could not be simulated; see the log above")
    s0 = bench.model.state(start_s)
    moved = np.array(
        [
            [_drift(s, after[j], rate[j], axis * t_read * 1e9, bench.model.limits) for s in s0]
            for j in range(len(voltage_v))
        ]
    ).transpose(1, 0, 2)
    before = s0[:, None, None]
    change = bench.model.conductance(before + moved) / bench.model.conductance(before) - 1
    return Disturbed(start_s, voltage_v, axis, change)


def _drift(
    start: float, states: Floats, rates: Floats, times: Floats, limits: tuple[float, float]
) -> Floats:
    """Return the displacement [nm] of a state after times [ns]; it stops at its limits.

    One state, one rate: the time to a displacement is the integral of 1 / rate along the way.
    """
    rate = _rate_law(states, rates)
    direction = float(np.sign(rate(np.array([start]))[0]))
    way = limits[1] - start if direction > 0 else start - limits[0]
    if direction == 0.0 or way <= 0:
        return np.zeros(len(times))
    moved = np.append(0.0, np.geomspace(1e-12 * way, way, WAY_POINTS))
    speed = direction * rate(start + direction * moved)
    rests = np.flatnonzero(speed <= 0)  # beyond, the rate is zero or leads back
    last = rests[0] if len(rests) else len(moved)
    moved, slowness = moved[:last], 1 / speed[:last]
    passed = np.append(0.0, np.cumsum(np.diff(moved) * (slowness[1:] + slowness[:-1]) / 2))
    return np.asarray(direction * np.interp(times, passed, moved))


def _rate_law(states: Floats, rates: Floats) -> Callable[[Floats], Floats]:
    """Return the rate as a function of the state; constant beyond the states measured."""
    from scipy.interpolate import PchipInterpolator

    order = np.argsort(states)
    states, rates = states[order], rates[order]
    if (rates > 0).all() or (rates < 0).all():  # over orders of magnitude: interpolate logarithms
        law, sign = PchipInterpolator(states, np.log(np.abs(rates))), np.sign(rates[0])
        return lambda at: sign * np.exp(law(np.clip(at, states[0], states[-1])))
    law = PchipInterpolator(states, rates)
    return lambda at: np.asarray(law(np.clip(at, states[0], states[-1])))

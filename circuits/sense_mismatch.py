"""Mismatch of sense amplifiers: how far unequal transistors move the voltage at which they decide.

It is the decision that is sought, not a first difference of the outputs: the crossed n devices
begin to conduct after the strobe, and would be missed. A spread of the match line moves a threshold
on the data line by itself over the slope of the line (`circuits.mismatch`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.bracket import bracket, finish, narrow
from circuits.errors import ParameterError
from circuits.netlist import number
from circuits.parameters import Device, Technology
from circuits.plan import RunLog
from circuits.search import Floats, Status
from circuits.sense import Point, SenseBench

PAIRS = ((2, 3), (4, 5), (6, 7))  # input, crossed p, crossed n: netlists/sense_amplifier.cir
DEVICES = tuple(k for pair in PAIRS for k in pair)
TRIALS_V = np.linspace(-0.12, 0.12, 5)  # around the matched reference
NEAR_V = np.array([-9e-3, -3e-3, 3e-3, 9e-3])  # around the first-order guess of a drawn amplifier
SEED = 8  # of the draws; fixed, so that a library is the same every time


def standard_deviations(technology: Technology) -> Floats:
    """Return the spread of threshold [V] and ln(current factor) of each pair's devices, (3, 2)."""
    unit, process = technology.unit, technology.process
    width = np.array([unit.w_pair_m, unit.w_cross_p_m, unit.w_cross_n_m])
    root = np.sqrt(width * unit.l_m)
    return np.stack([process.a_vt_v_m / root, process.a_beta_m / root], axis=1)


def draw(technology: Technology, count: int) -> Floats:
    """Draw amplifiers: deviations of their `DEVICES`, (count, 6, 2)."""
    sigma = np.repeat(standard_deviations(technology), 2, axis=0)
    return np.random.default_rng(SEED).standard_normal((count, *sigma.shape)) * sigma


def references(bench: SenseBench, point: Point, draws: Floats, trials: Floats) -> Floats:
    """Return the reference [V] at which each drawn amplifier's decision turns over.

    Parameters
    ----------
    bench : SenseBench
    point : half, conductance [S], data line [V]
        Of the line that all of them sense.
    draws : (n, 6, 2) float array
        Threshold shifts [V] and ln(current factor) of the `DEVICES`.
    trials : (n, m) float array [V]
        Between which it is sought.
    """
    tails = [tail(one) for one in draws]

    def over(index: NDArray[np.intp], reference: Floats) -> tuple[Floats, Status]:
        cells = [bench.cell(point, x, tails[k]) for k, x in zip(index, reference, strict=True)]
        return bench.decide(cells, "sense-mismatch", bench.drawn)

    found, _ = bracket(over, trials)
    # the outputs are at their rails: only a narrow bracket tells
    while np.nanmax(np.append(found[:, 1] - found[:, 0], 0.0)) > 2e-3:
        found = narrow(over, found, 5)
    return finish(over, found, check=False)


def tail(draw: Floats) -> str:
    """Return what a drawn amplifier's instance line ends in."""
    return "".join(
        f" vt{k}={number(vth)} mu{k}={number(np.exp(beta))}"
        for k, (vth, beta) in zip(DEVICES, draw, strict=True)
    )


def measure_parts(bench: SenseBench, point: Point, reference: float) -> Floats:
    """Return what one standard deviation of each pair's difference moves the reference by.

    Returns
    -------
    (3, 2) float array [V]
        Signed, by threshold and by current factor of the `PAIRS`; their root sum of squares is the
        spread. NaN where a simulation failed.
    """
    sigma = standard_deviations(bench.technology)
    draws = np.zeros((*sigma.shape, len(DEVICES), 2))
    for pair, kind in np.ndindex(sigma.shape):  # a difference of sqrt(2) sigma, half on each
        half = sigma[pair, kind] / np.sqrt(2)
        draws[pair, kind, 2 * pair : 2 * pair + 2, kind] = half, -half
    draws = draws.reshape(-1, len(DEVICES), 2)
    found = references(bench, point, draws, np.tile(reference + TRIALS_V, (len(draws), 1)))
    return found.reshape(sigma.shape) - reference


def monte_carlo(
    bench: SenseBench, point: Point, reference: float, parts: Floats, draws: Floats
) -> Floats:
    """Return how far the reference of every drawn amplifier lies from the matched one's [V]."""
    sigma = standard_deviations(bench.technology)
    apart = draws[:, ::2] - draws[:, 1::2]
    scale = np.divide(parts, np.sqrt(2) * sigma, out=np.zeros_like(sigma), where=sigma > 0)
    guess = reference + np.tensordot(apart, np.nan_to_num(scale), axes=2)
    found = references(bench, point, draws, guess[:, None] + NEAR_V)
    lost = np.flatnonzero(np.isnan(found))
    if len(lost):
        wide = guess[lost, None] + TRIALS_V / 2
        found[lost] = references(bench, point, draws[lost], wide)
    return found - reference


def characterize(
    device: Device,
    technology: Technology,
    g: Floats,
    lower_v: Floats,
    *,
    samples: int = 0,
    log: RunLog,
    **run_options: Any,
) -> dict[str, Any]:
    """Measure the spread on a line that just trips: fields of ``AcamData``.

    Nothing where the technology has no sizes for a sense amplifier.

    Parameters
    ----------
    device, technology : Device, Technology
    g, lower_v : (n,) float arrays [S], [V]
        Conductances, and thresholds of the lower half; the middle one is sensed.
    samples : int
        Amplifiers of a Monte-Carlo; 0: none.
    log : RunLog
        Takes the jobs.
    **run_options
        As ``circuits.plan.run``.
    """
    middle = len(g) // 2
    point: Point = ("lower", float(g[middle]), float(lower_v[middle]))
    try:
        bench = SenseBench(device, technology, run_options, log)
    except ParameterError:
        return {}
    if not np.isfinite(point[2]):
        return {}
    reference = float(bench.references([point], 0.0)[0])
    parts = measure_parts(bench, point, reference)
    out = {"mismatch_sense_parts_v": parts}
    if samples:
        drawn = draw(technology, samples)
        out["monte_carlo_sense_v"] = monte_carlo(bench, point, reference, parts, drawn)
    return out

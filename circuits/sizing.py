"""Sizes and biases of the ACAM cell that come closest to a threshold law and an energy.

Two stages, both reproducible: differential evolution on static thresholds, which cost a tenth of a
second a candidate, then Nelder-Mead on thresholds at the sense time and on the energy. Every
simulation goes through the cache, so a run that was stopped goes on where it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.acam import invert_threshold
from circuits.bracket import bracket, finish, narrow
from circuits.errors import ParameterError
from circuits.parameters import Device, Technology
from circuits.search import HALVES, Floats, Half, SearchBench, Status

PUBLISHED = (0.50070001, -3.75611608, 0.68358110)  # NL-DPE's released code
LOST_V = 0.5  # error of a threshold that does not exist [V]
ENERGY_POINTS = 7
STAGE_ONE = 0.7  # share of the evaluations
# Bounds of keys of [acam]: lengths and widths in least lengths (l2_m), search lines in vdd. Ours:
# in lp16 widths from 50 nm to what a cell of 0.72 um2 (NL-DPE) can hold, lengths to 48 nm.
SHARES = {
    "w1_m": (3.125, 62.5),
    "l1_m": (1.0, 3.0),
    "w2_m": (3.125, 32.0),
    "wp_m": (3.125, 62.5),
    "v_sl_hi_v": (5 / 9, 4 / 3),
    "v_sl_lo_v": (0.0, 4 / 9),
}


@dataclass(frozen=True)
class Target:
    """What to come close to.

    Attributes
    ----------
    law : (a, b, c)
        Threshold ``exp(a ln G[uS] + b) + c`` [V] of both bounds.
    g : (n,) float array [S]
        Conductances at which it is compared, evenly spaced in ln G.
    energy_j : float
        Of one search of a cell: both halves and their match lines.
    energy_weight : float
        What a factor e above this energy costs, in error of the thresholds [V].
    """

    law: tuple[float, float, float] = PUBLISHED
    g: Floats = field(default_factory=lambda: np.geomspace(1e-8, 150e-6, 9))
    energy_j: float = 0.44e-15
    energy_weight: float = 0.0

    def threshold(self, g: Floats) -> Floats:
        """Return the wanted threshold [V]."""
        a, b, c = self.law
        return np.asarray(np.exp(a * np.log(g * 1e6) + b) + c)


@dataclass(frozen=True)
class Design:
    """A sized cell, and how close it comes.

    Attributes
    ----------
    technology : Technology
    threshold_v : (2, n) float array [V]
        Lower and upper bound at the conductances of the target, at the sense time; NaN where the
        data line has none.
    energy_g, energy_j : (m,) float arrays [S], [J]
        Energy of one search of a cell whose two bounds lie at thresholds spread evenly over the
        target's span, data line in the middle of the span.
    delay_s : (2, m) float array [s]
        From the start of the evaluation until the match line of a lower, an upper half of these
        cells stands at ``v_sense_v``; inf where it matches.
    failed : int
        Simulations that failed.
    """

    technology: Technology
    threshold_v: Floats
    energy_g: Floats
    energy_j: Floats
    delay_s: Floats
    failed: int

    def errors(self, target: Target) -> Floats:
        """Return found less wanted thresholds (2, n) [V]."""
        return self.threshold_v - target.threshold(target.g)

    def cost(self, target: Target) -> float:
        """Return what is minimised [V]: rms error, and the weighted logarithm of excess energy."""
        error = np.where(np.isnan(self.threshold_v), LOST_V, self.errors(target))
        excess = max(0.0, float(np.log(np.nanmean(self.energy_j) / target.energy_j)))
        excess = excess if np.isfinite(excess) else 10.0
        return float(np.hypot(np.sqrt((error**2).mean()), target.energy_weight * excess))


def evaluate(device: Device, technology: Technology, target: Target, **run_options: Any) -> Design:
    """Measure a cell at the conductances of a target, at the sense time.

    Parameters
    ----------
    device, technology : Device, Technology
    target : Target
    **run_options
        As ``circuits.plan.run``.
    """
    bench = SearchBench(device, technology, run_options)
    volts = np.stack([_thresholds(bench, half, target.g) for half in HALVES])
    low, high = target.threshold(target.g[[0, -1]])
    wanted = np.linspace(low, high, ENERGY_POINTS)
    joules, energy_g = np.zeros(ENERGY_POINTS), np.full(ENERGY_POINTS, np.nan)
    delay = np.full((2, ENERGY_POINTS), np.nan)
    for k, (half, curve) in enumerate(zip(HALVES, volts, strict=True)):
        energy_g = invert_threshold(target.g, curve, wanted)
        own, line, delay[k], _ = bench.energy(
            half, energy_g, np.full(ENERGY_POINTS, (low + high) / 2)
        )
        joules += own + line
    return Design(technology, volts, energy_g, joules, delay, bench.log.failed)


def _thresholds(bench: SearchBench, half: Half, g: Floats) -> Floats:
    def over(index: NDArray[np.intp], v_dl: Floats) -> tuple[Floats, Status]:
        lines = [bench.half(half, g[k], v) for k, v in zip(index, v_dl, strict=True)]
        v_ml, status = bench.search(lines, f"search-{half}")
        return v_ml - bench.technology.acam.v_sense_v, status

    static = bench.static(half, g)[0]
    guess = np.where(np.isnan(static), np.mean(bench.v_sweep), static)
    found, _ = bracket(over, guess[:, None] + np.linspace(-0.15, 0.15, 7))
    return finish(over, narrow(over, found, 4), check=False)


def size_cell(
    device: Device,
    technology: Technology,
    target: Target,
    *,
    evaluations: int = 300,
    seed: int = 0,
    report: Callable[[str], None] = lambda text: None,
    **run_options: Any,
) -> Design:
    """Find sizes and biases of the cell.

    Parameters
    ----------
    device, technology : Device, Technology
        The technology's own sizes are the first candidate.
    target : Target
    evaluations : int
        Cells that are simulated, about.
    seed : int
        Of the differential evolution.
    report : callable
        Takes a line of progress.
    **run_options
        As ``circuits.plan.run``.

    Raises
    ------
    ParameterError
        Too few evaluations.
    """
    from scipy.optimize import differential_evolution, minimize

    if evaluations < 20:
        raise ParameterError(f"evaluations = {evaluations}: give 20 or more")
    start = _to_unit(technology)

    def static_cost(x: Floats) -> float:
        bench = SearchBench(device, _sized(technology, x), run_options)
        found = np.stack([bench.static(half, target.g)[0] for half in HALVES])
        error = np.where(np.isnan(found), LOST_V, found - target.threshold(target.g))
        return float(np.sqrt((error**2).mean()))

    def full_cost(x: Floats) -> float:
        cell = _sized(technology, np.clip(x, 0, 1))
        outside = float(np.abs(x - np.clip(x, 0, 1)).sum())
        return evaluate(device, cell, target, **run_options).cost(target) + outside

    first = int(evaluations * STAGE_ONE)
    population = max(5, min(20, first // 5))
    rng = np.random.default_rng(seed)
    initial = np.vstack([start, rng.random((population - 1, len(SHARES)))])
    broad = differential_evolution(
        static_cost, [(0.0, 1.0)] * len(SHARES), init=initial, polish=False, tol=0.0, rng=rng,
        maxiter=max(1, first // population - 1),
    )  # fmt: skip
    report(f"static thresholds: {broad.fun * 1e3:.1f} mV rms after {broad.nfev} cells")
    best = min((full_cost(x), tuple(x)) for x in (start, broad.x))
    simplex = np.vstack([best[1], np.array(best[1]) + 0.08 * np.eye(len(SHARES))])
    fine = minimize(
        full_cost, np.array(best[1]), method="Nelder-Mead",
        options={"maxfev": evaluations - first, "initial_simplex": simplex, "xatol": 1e-3},
    )  # fmt: skip
    report(f"at the sense time: {best[0] * 1e3:.1f} mV, then {fine.fun * 1e3:.1f} mV")
    x = np.clip(fine.x, 0, 1) if fine.fun < best[0] else np.array(best[1])
    return evaluate(device, _sized(technology, x), target, **run_options)


def bounds(technology: Technology) -> dict[str, tuple[float, float]]:
    """Return the keys of [acam] that are sized, with their least and largest values [m], [V]."""
    units = {"m": technology.acam.l2_m, "v": technology.vdd_v}
    return {k: (a * units[k[-1]], b * units[k[-1]]) for k, (a, b) in SHARES.items()}


def _to_unit(technology: Technology) -> Floats:
    """Return the sizes as places between their bounds, widths and lengths logarithmic."""
    out = []
    for key, (low, high) in bounds(technology).items():
        value = np.clip(getattr(technology.acam, key), low, high)
        if key.endswith("_m"):
            value, low, high = np.log([value, low, high])
        out.append((value - low) / (high - low))
    return np.array(out)


def _sized(technology: Technology, x: Floats) -> Technology:
    """Return the technology with sizes at these places; widths to 1 nm, voltages to 1 mV."""
    values: dict[str, Any] = {}
    for place, (key, (low, high)) in zip(x, bounds(technology).items(), strict=True):
        if key.endswith("_m"):
            exact = float(np.exp(np.log(low) + place * np.log(high / low)))
            values[key] = round(exact * 1e9) * 1e-9
        else:
            values[key] = round(float(low + place * (high - low)), 3)
    return replace(technology, acam=replace(technology.acam, **values))


def fit_ekv(g: Floats, threshold_v: Floats) -> tuple[Floats, float]:
    """Fit ``v0 + 2 n ln(exp(sqrt(G/G0)) - 1)``, the inverse of the EKV transistor.

    Parameters
    ----------
    g, threshold_v : (n,) float arrays [S], [V]

    Returns
    -------
    (3,) float array
        v0 [V], n [V] and G0 [S].
    float
        Residual, rms [V].

    References
    ----------
    Enz, Krummenacher and Vittoz, Analog Integrated Circuits and Signal Processing 1995.
    """
    from scipy.optimize import least_squares

    good = np.isfinite(threshold_v)

    def law(p: Floats) -> Floats:
        return np.asarray(p[0] + 2 * p[1] * np.log(np.expm1(np.sqrt(g[good] / np.exp(p[2])))))

    found = least_squares(lambda p: law(p) - threshold_v[good], [0.7, 0.035, np.log(10e-6)])
    residual = float(np.sqrt((found.fun**2).mean()))
    return np.array([found.x[0], found.x[1], np.exp(found.x[2])]), residual

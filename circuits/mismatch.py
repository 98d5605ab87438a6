"""Mismatch of the 6T2M cell: what the spread of each transistor does to the thresholds.

Two ways that check each other: first-order sensitivities, a handful of transients per conductance,
and a Monte-Carlo in which every transistor of every cell has a draw of its own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.bracket import bracket, finish, narrow
from circuits.netlist import CELL_TRANSISTORS, acam_models, number
from circuits.parameters import Acam, Device, Technology
from circuits.plan import RunLog
from circuits.search import T_EDGE, T_EVAL, Floats, Half, SearchBench, Status

STEP_V = 1e-4  # of the data line and of thresholds in a sensitivity; far inside the half's slope
STEP_MOBILITY = 2e-3  # of ln(mobility)
TRIALS_V = np.array([-9e-3, -3e-3, 3e-3, 9e-3])  # around the first-order guess
SEED = 6  # of the draws; fixed, so that a library is the same every time


class MismatchBench(SearchBench):
    """Searches in halves whose transistors are all different."""

    def __init__(
        self, device: Device, technology: Technology, options: dict[str, Any], log: RunLog
    ) -> None:
        super().__init__(device, technology, options)
        self.models = acam_models(device, technology, T_EVAL, T_EDGE, draws=True)
        self.log = log

    def drawn(self, half: Half, g: float, v_dl: float, draw: Floats) -> list[str]:
        """Return a half with threshold shifts [V] and ln(mobility factors), (transistors, 2)."""
        lines = self.half(half, g, v_dl)
        tail = "".join(
            f" vt{k}={number(vth)} mu{k}={number(np.exp(beta))}"
            for k, (vth, beta) in zip(
                CELL_TRANSISTORS[self.technology.acam.cell][half], draw, strict=True
            )
        )
        return [t + tail if t.startswith(f"x{half[0]}#") else t for t in lines]

    def overshoot(
        self, half: Half, g: Floats, v_dl: Floats, draws: Floats
    ) -> tuple[Floats, Status]:
        """Return match line at the sense time over the sense threshold [V]; draws (n, k, 2)."""
        points = zip(g, v_dl, draws, strict=True)
        lines = [self.drawn(half, *point) for point in points]
        v_ml, status = self.search(lines, f"mismatch-{half}")
        return v_ml - self.technology.acam.v_sense_v, status


def standard_deviations(technology: Technology, half: Half) -> Floats:
    """Return the spread of threshold [V] and ln(current factor) of each transistor, (k, 2).

    References
    ----------
    Pelgrom et al., JSSC 1989: both fall with the root of the gate area.
    """
    acam, process = technology.acam, technology.process
    numbers = CELL_TRANSISTORS[acam.cell][half]
    root = np.array([np.sqrt(np.prod(_gate(acam, k))) for k in numbers])
    return np.stack([process.a_vt_v_m / root, process.a_beta_m / root], axis=1)


def _gate(acam: Acam, k: int) -> tuple[float, float]:
    """Width and length of transistor k [m]."""
    if k in (1, 3):
        return acam.w1_m, acam.l1_m
    return (acam.wp_m if k in (4, 7, 9) else acam.w2_m), acam.l2_m


def measure_parts(
    bench: MismatchBench, half: Half, g: Floats, threshold: Floats
) -> tuple[Floats, Floats]:
    """Measure the part of each transistor in the spread of a threshold, to first order.

    Parameters
    ----------
    bench : MismatchBench
    half : {"lower", "upper"}
    g, threshold : (n,) float arrays [S], [V]
        Conductances, and the matched cell's thresholds at the sense time.

    Returns
    -------
    parts : (n, k, 2) float array [V]
        Signed shift of the threshold for one standard deviation of threshold and of current
        factor of each transistor. NaN where a simulation failed.
    slope : (n,) float array [V/V]
        How far the match line moves at the sense time for the data line.
    """
    sigma = standard_deviations(bench.technology, half)
    out, slope = np.full((len(g), *sigma.shape), np.nan), np.full(len(g), np.nan)
    good = np.flatnonzero(np.isfinite(threshold))
    if len(good) == 0:
        return out, slope
    kinds = sigma.size
    step = np.zeros((1 + kinds, *sigma.shape))
    step.reshape(1 + kinds, kinds)[1:] = np.diag(np.tile([STEP_V, STEP_MOBILITY], len(sigma)))
    trials = np.concatenate([step, -step])  # first of each: the data line moves instead
    move = np.zeros(len(trials))
    move[[0, 1 + kinds]] = STEP_V, -STEP_V
    at, k = (x.ravel() for x in np.meshgrid(good, np.arange(len(trials))))
    v_ml, _ = bench.overshoot(half, g[at], threshold[at] + move[k], trials[k])
    up, down = v_ml.reshape(2, 1 + kinds, len(good))
    change = up - down
    per_step = (-change[1:] / change[0] * STEP_V).T.reshape(len(good), *sigma.shape)
    out[good] = per_step / [STEP_V, STEP_MOBILITY] * sigma
    slope[good] = change[0] / (2 * STEP_V)
    return out, slope


def draw(technology: Technology, half: Half, count: int, seed: int) -> Floats:
    """Draw cells: deviations of threshold [V] and ln(current factor), (count, transistors, 2)."""
    sigma = standard_deviations(technology, half)
    rng = np.random.default_rng([seed, len(half), ord(half[0])])
    return rng.standard_normal((count, *sigma.shape)) * sigma


def monte_carlo(
    bench: MismatchBench, half: Half, g: float, threshold: float, parts: Floats, draws: Floats
) -> Floats:
    """Find the threshold of every drawn cell at one conductance.

    Parameters
    ----------
    bench : MismatchBench
    half : {"lower", "upper"}
    g, threshold : float [S], [V]
        Conductance, and the matched cell's threshold.
    parts : (k, 2) float array [V]
        Of ``measure_parts`` at this conductance: the first guess.
    draws : (n, k, 2) float array
        Of ``draw``.

    Returns
    -------
    (n,) float array [V]
        Thresholds less that of the matched cell; NaN where a cell has none on the data line.
    """
    sigma = standard_deviations(bench.technology, half)
    scale = np.divide(parts, sigma, out=np.zeros_like(sigma), where=sigma > 0)
    guess = threshold + np.tensordot(draws, np.nan_to_num(scale), axes=2)
    low, high = bench.v_sweep

    def overshoot(index: NDArray[np.intp], v_dl: Floats) -> tuple[Floats, Status]:
        return bench.overshoot(half, np.full(len(index), g), v_dl, draws[index])

    found = bracket(overshoot, np.clip(guess[:, None] + TRIALS_V, low, high))[0]
    lost = np.flatnonzero(np.isnan(found[:, 0]))
    if len(lost):
        wide = np.tile(np.linspace(low, high, 49), (len(lost), 1))
        found[lost] = bracket(lambda k, v: overshoot(lost[k], v), wide)[0]
        found[lost] = narrow(lambda k, v: overshoot(lost[k], v), found[lost], 6)
    return finish(overshoot, narrow(overshoot, found, 3), check=False) - threshold


def characterize(
    device: Device,
    technology: Technology,
    g: Floats,
    thresholds: Mapping[Half, Floats],
    *,
    samples: int = 0,
    log: RunLog,
    **run_options: Any,
) -> dict[str, Any]:
    """Measure the spread of both thresholds: fields of ``AcamData``.

    Parameters
    ----------
    device, technology : Device, Technology
    g : (n,) float array [S]
    thresholds : {"lower", "upper"} to (n,) float array [V]
        Of the matched cell.
    samples : int
        Cells of the Monte-Carlo at each of three conductances; 0: none.
    log : RunLog
        Takes the jobs.
    **run_options
        As ``circuits.plan.run``.
    """
    bench = MismatchBench(device, technology, run_options, log)
    places = (len(g) - 1) * np.array([1, 3, 5]) // 7
    out: dict[str, Any] = {"mismatch_g": g}
    if samples:
        out["monte_carlo_g"] = g[places]
    for half, threshold in thresholds.items():
        parts, slope = measure_parts(bench, half, g, threshold)
        out |= {f"mismatch_{half}_parts_v": parts, f"mismatch_{half}_slope": slope}
        if samples:
            draws = draw(technology, half, samples, SEED)
            out[f"monte_carlo_{half}_v"] = np.stack(
                [
                    monte_carlo(bench, half, g[k], float(threshold[k]), parts[k], draws)
                    for k in places
                ]
            )
    return out

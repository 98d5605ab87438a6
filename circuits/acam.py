"""The 6T2M ACAM cell and its match line: characterisation and replay.

A half of the cell discharges its match line when the data line lies outside its bound. Two
thresholds are measured for each bound and conductance: the static one, where the pull-down carries
``i_trip_a``, and the one that counts, where the match line is at ``v_sense_v`` at the sense time.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import acam_energy, mismatch, sense_mismatch
from circuits.bracket import bracket, finish, first_change, narrow
from circuits.parameters import Device, Technology
from circuits.plan import Provenance
from circuits.refine import refine
from circuits.search import HALVES, Floats, Half, SearchBench, Status

# Offsets at which the overlap of a half with its match side is measured [V].
OFFSETS = (0.0, 1e-3, 2e-3, 4e-3, 7e-3, 12e-3, 20e-3, 35e-3, 60e-3, 100e-3)
# Where on the (logarithmic) conductance axis mismatch is measured: it rises towards the end.
MISMATCH_SHARES = np.array([0.0, 0.35, 0.6, 0.75, 0.85, 0.9, 0.95, 1.0])
WINDOW_FIELDS = ("window_g_lo", "window_g_hi", "window_lower_v", "window_upper_v")
ADAPTIVE_START, ADAPTIVE_MOST = 8, 257  # conductances of the first round, and no more than
OFFSET_FREE = 0.3  # so far inside the match side a half no longer discharges its line [V]


def _empty() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class AcamData:
    """Characterised ACAM cell.

    Attributes
    ----------
    g : (n,) float array [S]
        Logarithmic RRAM conductance axis; reaches below g_min and above g_max.
    lower_v, upper_v : (n,) float arrays [V]
        Data-line threshold of each bound at the sense time.
    lower_static_v, upper_static_v : (n,) float arrays [V]
        Data-line voltage at which the pull-down carries ``i_trip_a``.
    lower_status, upper_status : (n,) int8 arrays
        0 ok, 1 ok after a retry, 2 failed (thresholds NaN).
    overlap_offset_v : (m,) float array [V]
        Distance of the data line from the threshold into the match side.
    lower_overlap, upper_overlap : (n, m) float arrays
        Drop of the match line at the sense time over the drop that trips it; 1 at offset 0. With
        one shared match line a row matches where both halves' overlaps add to less than 1.
    held_out_g, held_out_lower_v, held_out_upper_v : (h,) float arrays [S], [V], [V]
        Thresholds at conductances that are not on the axis.
    window_g_lo, window_g_hi : (w,) float arrays [S]
        Conductances of whole rows programmed to narrow windows.
    window_lower_v, window_upper_v : (w,) float arrays [V]
        The edges between which those rows match; NaN when they match nowhere.
    energy_g : (e,) float array [S]
    energy_v_dl : (d,) float array [V]
    energy_lower_j, energy_upper_j : (e, d) float arrays [J]
        Energy of a half for one search (precharge and evaluation) without its match line, see
        `circuits.acam_energy`.
    energy_match_line_j : (2,) float array [J]
        Energy to precharge a match line after a match and after a mismatch.
    delay_lower_s, delay_upper_s : (k, l) float arrays [s]
        From the start of the evaluation to the match line at ``v_sense_v``; inf when later than
        the sense time.
    delay_g, delay_v_dl : (k,), (l,) float arrays [S], [V]
        Axes of the delays.
    held_out_lower_static_v, held_out_upper_static_v : (h,) float arrays [V]
        Static thresholds at ``held_out_g``.
    held_out_energy_g, held_out_energy_v_dl : (n,) float arrays [S], [V]
        Points within the energy table, off its grid.
    held_out_energy_lower_j, held_out_energy_upper_j : (n,) float arrays [J]
    held_out_delay_lower_s, held_out_delay_upper_s : (n,) float arrays [s]
    mismatch_g : (p,) float array [S]
        Conductances at which the spread of the thresholds by mismatch was measured.
    mismatch_lower_parts_v, mismatch_upper_parts_v : (p, k, 2) float arrays [V]
        Shift of the threshold for one standard deviation of threshold and of current factor of
        each transistor: M1, M2 (lower), M3 to M6 (upper). Their root sum of squares is the spread.
    mismatch_lower_slope, mismatch_upper_slope : (p,) float arrays [V/V]
        How far the match line moves at the sense time for the data line.
    mismatch_sense_parts_v : (3, 2) float array [V]
        Of the sense amplifier, on the match line: parts of the spread by threshold and current
        factor of its input, crossed p and crossed n pair. Empty without sizes for one.
    monte_carlo_g : (q,) float array [S]
        Conductances of the Monte-Carlo; empty when none was asked for.
    monte_carlo_lower_v, monte_carlo_upper_v : (q, samples) float arrays [V]
        Thresholds of drawn cells less that of the matched cell.
    monte_carlo_sense_v : (samples,) float array [V]
        Match line at which drawn sense amplifiers decide, less that of the matched one.
    provenance : Provenance
    """

    g: Floats
    lower_v: Floats
    upper_v: Floats
    lower_static_v: Floats
    upper_static_v: Floats
    lower_status: NDArray[np.int8]
    upper_status: NDArray[np.int8]
    overlap_offset_v: Floats
    lower_overlap: Floats
    upper_overlap: Floats
    held_out_g: Floats
    held_out_lower_v: Floats
    held_out_upper_v: Floats
    window_g_lo: Floats
    window_g_hi: Floats
    window_lower_v: Floats
    window_upper_v: Floats
    energy_g: Floats
    energy_v_dl: Floats
    energy_lower_j: Floats
    energy_upper_j: Floats
    energy_match_line_j: Floats
    delay_lower_s: Floats
    delay_upper_s: Floats
    provenance: Provenance
    delay_g: Floats = field(default_factory=_empty)
    delay_v_dl: Floats = field(default_factory=_empty)
    held_out_lower_static_v: Floats = field(default_factory=_empty)
    held_out_upper_static_v: Floats = field(default_factory=_empty)
    held_out_energy_g: Floats = field(default_factory=_empty)
    held_out_energy_v_dl: Floats = field(default_factory=_empty)
    held_out_energy_lower_j: Floats = field(default_factory=_empty)
    held_out_energy_upper_j: Floats = field(default_factory=_empty)
    held_out_delay_lower_s: Floats = field(default_factory=_empty)
    held_out_delay_upper_s: Floats = field(default_factory=_empty)
    mismatch_g: Floats = field(default_factory=_empty)
    mismatch_lower_parts_v: Floats = field(default_factory=_empty)
    mismatch_upper_parts_v: Floats = field(default_factory=_empty)
    mismatch_lower_slope: Floats = field(default_factory=_empty)
    mismatch_upper_slope: Floats = field(default_factory=_empty)
    mismatch_sense_parts_v: Floats = field(default_factory=_empty)
    monte_carlo_g: Floats = field(default_factory=_empty)
    monte_carlo_lower_v: Floats = field(default_factory=_empty)
    monte_carlo_upper_v: Floats = field(default_factory=_empty)
    monte_carlo_sense_v: Floats = field(default_factory=_empty)


def characterize(
    device: Device,
    technology: Technology,
    *,
    quick: bool = False,
    checks: bool = True,
    samples: int = 0,
    adaptive_lsb: float | None = None,
    **run_options: Any,
) -> AcamData:
    """Measure thresholds, overlap, energy, delay and mismatch of the cell in ngspice.

    Parameters
    ----------
    device, technology : Device, Technology
    quick : bool
        A coarse plan of a few seconds, for tests and first looks.
    checks : bool
        Measure too what only checks the tables: held-out points, whole windows, and the overlap
        where the halves do not share a line. Without them every second of the lower conductances
        is left out.
    samples : int
        Cells of a mismatch Monte-Carlo at each of three conductances.
    adaptive_lsb : float, optional
        Instead of a uniform axis, start with few conductances and halve intervals whose middle
        misses the interpolated threshold by more than this, in 1/256 of the data line, where it
        lies on the data line or little beyond.
    **run_options
        As ``circuits.plan.run``: workers, executor, cache, progress.
    """
    bench = SearchBench(device, technology, run_options)
    known = Thresholds(bench)
    g = conductance_axis(device, 25 if quick else 61)
    if adaptive_lsb is not None:
        held_out = np.sqrt(g[1:] * g[:-1])[1::3][: None if checks else 0]
        g = known.axis(device, adaptive_lsb)
    elif not (quick or checks):
        g = np.concatenate([g[:50:2], g[50:]])  # the upper end is steep: there all points count
    if adaptive_lsb is None:
        midpoints = np.sqrt(g[1:] * g[:-1])
        held_out = (midpoints[8:20:4] if quick else midpoints[1::3])[: None if checks else 0]
    shared = checks or technology.acam.match_lines == 1
    lower, upper = (_measure_bound(known, half, g, held_out, shared) for half in HALVES)
    edges = lower["lower_v"], upper["upper_v"]
    windows = _measure_windows(bench, g, *edges, quick) if checks else {}
    few = np.unique(np.round(MISMATCH_SHARES * (len(g) - 1)).astype(int))
    if adaptive_lsb is not None:  # the same shares of the axis, not of its points
        ends = np.log(g[[0, -1]])
        at = ends[0] + MISMATCH_SHARES * (ends[1] - ends[0])
        few = np.unique(np.abs(np.log(g)[:, None] - at).argmin(axis=0))
    thresholds = {half: edge[few] for half, edge in zip(HALVES, edges, strict=True)}
    return AcamData(
        g=g,
        held_out_g=held_out,
        overlap_offset_v=np.array(OFFSETS),
        **lower,
        **upper,
        **(windows or dict.fromkeys(WINDOW_FIELDS, _empty())),
        **acam_energy.characterize(
            bench, device, quick=quick, held_out=(6 if quick else 40) if checks else 0
        ),
        **mismatch.characterize(
            device, technology, g[few], thresholds, samples=samples, log=bench.log, **run_options
        ),
        **sense_mismatch.characterize(
            device,
            technology,
            g[few],
            thresholds["lower"],
            samples=samples,
            log=bench.log,
            **run_options,
        ),
        provenance=bench.log.provenance(),
    )


def replay(
    device: Device,
    technology: Technology,
    g_lo: Floats,
    g_hi: Floats,
    v_dl: Floats,
    **run_options: Any,
) -> Floats:
    """Search whole rows at transistor level.

    Parameters
    ----------
    g_lo, g_hi : (n,) float arrays [S]
        RRAM conductances of the lower and the upper half.
    v_dl : (n,) float array [V]
        Data line of each row.

    Returns
    -------
    (n,) float array [V]
        Match line at the sense time; with two match lines the lower of the two. NaN where the
        simulation failed.
    """
    bench = SearchBench(device, technology, run_options)
    g_lo, g_hi, v_dl = np.broadcast_arrays(
        *(np.asarray(x, dtype=float) for x in (g_lo, g_hi, v_dl))
    )
    lines = [bench.row(*point) for point in zip(g_lo.flat, g_hi.flat, v_dl.flat, strict=True)]
    return bench.search(lines, "search-row")[0].reshape(g_lo.shape)


def is_match(technology: Technology, v_ml: Floats) -> NDArray[np.bool_]:
    """Tell which rows match, from their match-line voltage at the sense time."""
    return np.asarray(v_ml > technology.acam.v_sense_v)


def conductance_axis(device: Device, points: int) -> Floats:
    """Return a logarithmic axis that programming noise does not leave (five sigma at g_min)."""
    return np.geomspace(0.2 * device.g_min_s, 1.1 * device.g_max_s, points)


class Thresholds:
    """Thresholds of both halves; each conductance is simulated once."""

    def __init__(self, bench: SearchBench) -> None:
        self.bench = bench
        self._known: dict[tuple[Half, float], tuple[float, float, int]] = {}

    def at(self, half: Half, g: Floats) -> tuple[Floats, Floats, Status]:
        """Return static threshold, threshold at the sense time, and status of conductances."""
        new = np.array([x for x in g if (half, x) not in self._known])
        if new.size:
            static, status = self.bench.static(half, new)
            v, searched = _sense_thresholds(self.bench, half, new, static)
            static, finer = self.bench.static(half, new, around=static)
            worst = np.max([status, searched, finer], axis=0)
            for x, *found in zip(new.tolist(), static, v, worst, strict=True):
                self._known[half, x] = (found[0], found[1], found[2])
        columns = zip(*(self._known[half, x] for x in g.tolist()), strict=True)
        static, v, worst = (np.array(column) for column in columns)
        return static, v, worst.astype(np.int8)

    def axis(self, device: Device, bar_lsb: float) -> Floats:
        """Return conductances between which interpolation misses no threshold by more."""
        readout = self.bench.technology.readout
        span = readout.v_dl_hi_v - readout.v_dl_lo_v
        # noise takes thresholds a few LSB past the ends of the data line, no further
        within = readout.v_dl_lo_v - span / 16, readout.v_dl_hi_v + span / 16
        start = conductance_axis(device, ADAPTIVE_START)

        def measure(ln_g: Floats) -> Floats:
            return np.stack([self.at(half, np.exp(ln_g))[1] for half in HALVES], axis=1)

        bar = bar_lsb * span / 256
        found = refine(np.log(start), measure, bar, most=ADAPTIVE_MOST, within=within)
        return np.asarray(np.exp(found[0]))


def _measure_bound(
    known: Thresholds, half: Half, g: Floats, held_out: Floats, shared: bool
) -> dict[str, Any]:
    """Measure one bound on the axis and at the held-out conductances: fields of ``AcamData``."""
    static, v, status = known.at(half, np.concatenate([g, held_out]))
    n = len(g)
    return {
        f"{half}_v": v[:n],
        f"{half}_static_v": static[:n],
        f"{half}_status": status[:n],
        f"held_out_{half}_v": v[n:],
        f"held_out_{half}_static_v": static[n:],
        f"{half}_overlap": _measure_overlap(known.bench, half, g, v[:n])
        if shared
        else np.full((n, len(OFFSETS)), np.nan),
    }


def _sense_thresholds(
    bench: SearchBench, half: Half, g: Floats, static: Floats
) -> tuple[Floats, Status]:
    """Find the data-line voltage that puts the match line at ``v_sense_v`` at the sense time."""

    def overshoot(index: NDArray[np.intp], v_dl: Floats) -> tuple[Floats, Status]:
        lines = [bench.half(half, g[k], v) for k, v in zip(index, v_dl, strict=True)]
        v_ml, status = bench.search(lines, f"search-{half}")
        return v_ml - bench.technology.acam.v_sense_v, status

    # The static threshold is a guess to within 0.1 V; where it is wrong the whole range is scanned.
    span = np.linspace(-0.12, 0.12, 7)
    guess = np.where(np.isnan(static), np.mean(bench.v_sweep), static)
    found, status = bracket(overshoot, guess[:, None] + span)
    lost = np.flatnonzero(np.isnan(found[:, 0]))
    if len(lost):
        wide = np.tile(np.linspace(*bench.v_sweep, 33), (len(lost), 1))
        found[lost], status[lost] = bracket(lambda k, v: overshoot(lost[k], v), wide)
    for inner in (5, 4):
        found = narrow(overshoot, found, inner)
    v = finish(overshoot, found)
    return v, np.where(np.isnan(v), 2, status).astype(np.int8)


def _measure_overlap(bench: SearchBench, half: Half, g: Floats, v: Floats) -> Floats:
    """Measure the drop of the match line at offsets into the match side, over the tripping drop."""
    sign = 1.0 if half == "lower" else -1.0
    offsets = np.array([*OFFSETS[1:], OFFSET_FREE])
    good = np.flatnonzero(np.isfinite(v))
    out = np.full((len(g), len(OFFSETS)), np.nan)
    if len(good) == 0:
        return out
    lines = [bench.half(half, g[k], v[k] + sign * offset) for k in good for offset in offsets]
    v_ml = bench.search(lines, f"search-{half}")[0].reshape(len(good), len(offsets))
    free = v_ml[:, -1:]
    out[good] = np.hstack(
        [np.ones((len(good), 1)), (free - v_ml[:, :-1]) / (free - bench.technology.acam.v_sense_v)]
    )
    return out


def _measure_windows(
    bench: SearchBench, g: Floats, lower: Floats, upper: Floats, quick: bool
) -> dict[str, Any]:
    """Measure the edges of whole rows programmed to windows of 2 to 32 LSB."""
    readout = bench.technology.readout
    lsb = (readout.v_dl_hi_v - readout.v_dl_lo_v) / 256
    centres = readout.v_dl_lo_v + lsb * (
        np.array([64, 192]) if quick else np.array([32, 96, 160, 224])
    )
    widths = lsb * (np.array([4, 32]) if quick else np.array([2, 4, 8, 32]))
    centre, width = (x.ravel() for x in np.meshgrid(centres, widths))
    g_lo = invert_threshold(g, lower, centre - width / 2)
    g_hi = invert_threshold(g, upper, centre + width / 2)

    def overshoot(index: NDArray[np.intp], v_dl: Floats) -> tuple[Floats, Status]:
        lines = [bench.row(g_lo[k], g_hi[k], v) for k, v in zip(index, v_dl, strict=True)]
        v_ml, status = bench.search(lines, "search-row")
        return v_ml - bench.technology.acam.v_sense_v, status

    reach = np.linspace(0, 1, 5)
    trials = centre[:, None] + np.concatenate([-reach[::-1], reach[1:]]) * (
        width[:, None] * 0.55 + lsb
    )
    index = np.repeat(np.arange(len(centre)), trials.shape[1])
    y = overshoot(index, trials.ravel())[0].reshape(trials.shape)
    edges = {}
    for name, v_side, y_side in (("lower", trials, y), ("upper", trials[:, ::-1], y[:, ::-1])):
        around = first_change(v_side, y_side)
        edges[name] = finish(overshoot, narrow(overshoot, around, 4))
    return {
        "window_g_lo": g_lo,
        "window_g_hi": g_hi,
        "window_lower_v": edges["lower"],
        "window_upper_v": edges["upper"],
    }


def invert_threshold(g: Floats, threshold: Floats, v: Floats) -> Floats:
    """Return the conductance whose threshold is ``v``, by monotone interpolation in ln G."""
    from scipy.interpolate import PchipInterpolator

    good = np.isfinite(threshold)
    if good.sum() < 2:
        return np.full(np.shape(v), float(np.sqrt(g[0] * g[-1])))
    inverse = PchipInterpolator(threshold[good], np.log(g[good]))
    inside = np.clip(v, threshold[good][0], threshold[good][-1])
    found: Floats = np.asarray(np.exp(inverse(inside)), dtype=np.float64)
    return found

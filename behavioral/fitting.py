"""Fits the laws of a device card to measurements: programming noise, read noise, I-V.

Noise laws are fitted by maximum likelihood of the spread itself, with no binning; standard errors
are those of the Fisher information.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.measurements import Measurements
from behavioral.noise import MICRO, NoiseLaw
from circuits.errors import DataError

Floats = NDArray[np.float64]
Residuals = Callable[[float], Floats]

FEWEST = 20  # states or degrees of freedom per law: below, the spread is known to 16 % at best
STUCK_SHARE = 0.01  # a state below this share of its target is a candidate for a stuck cell
STUCK_SIGMA = 4.0  # and is one if it lies so many standard deviations off the law of the others
CLIP_GAIN = 4.0  # log-likelihood that a clip must win; 2 is what one more parameter wins by chance
FLOOR_S = 1e-15  # lowest conductance of the laws, as in the shipped cards
NONE = -25.0  # ln sigma[uS] at the mean conductance below which the spread is called zero


@dataclass(frozen=True)
class LawFit:
    """A fitted noise law.

    Attributes
    ----------
    law : NoiseLaw
    exponent_error, log_scale_error, clip_error : float
        Standard errors; that of the clip is relative, and 0 where the data show no clip.
    points : int
        Spreads that entered.
    bins : (k, 3) array
        Of equal counts of points: conductance [S], measured over fitted spread, standard error of
        that ratio from counting. What the law's form does not describe shows here.
    """

    law: NoiseLaw
    exponent_error: float
    log_scale_error: float
    clip_error: float
    points: int
    bins: Floats

    @property
    def misfit(self) -> float:
        """Rms deviation of the binned spreads from the law, relative."""
        return float(np.sqrt(np.mean((self.bins[:, 1] - 1) ** 2)))

    @property
    def counting(self) -> float:
        """What ``misfit`` would be if the law were exact, relative."""
        return float(np.sqrt(np.mean(self.bins[:, 2] ** 2)))


@dataclass(frozen=True)
class ReadFit:
    """The fitted voltage of ``I = G v_sinh sinh(V / v_sinh)``; ``inf`` where curves are straight.

    ``relative_rms`` is the rms deviation of the currents from the law, relative.
    """

    v_sinh_v: float
    v_sinh_error_v: float
    points: int
    relative_rms: float


@dataclass(frozen=True)
class DeviceFit:
    """All that a table of measurements tells; a law that it does not tell is None."""

    write: LawFit | None
    read: LawFit | None
    iv: ReadFit | None
    g_min_s: float
    g_max_s: float
    states: int
    mean_error: float  # of programming, relative to the target
    stuck: int


def fit_device(data: Measurements) -> DeviceFit:
    """Fit every law that the measurements determine.

    Raises
    ------
    DataError
        Too few states, or all at one conductance.
    """
    target, mean, count, variance = states(data)
    stuck = np.zeros(target.size, bool)
    write = read = None
    if target.size:
        stuck = mean < STUCK_SHARE * target
        repeated = (count > 1) & ~stuck
        if repeated.any():
            read = fit_law(mean[repeated], variance[repeated], count[repeated] - 1.0)
        stuck, write = _fit_write(target, mean, count, stuck, read)
    good = ~stuck
    return DeviceFit(
        write=write,
        read=read,
        iv=fit_iv(data),
        g_min_s=float(data.target_s.min()),
        g_max_s=float(data.target_s.max()),
        states=int(target.size),
        mean_error=float(np.mean(mean[good] / target[good] - 1)) if good.any() else 0.0,
        stuck=int(stuck.sum()),
    )


def states(data: Measurements) -> tuple[Floats, Floats, Floats, Floats]:
    """Return target [S], mean [S], number and variance [S^2] of the reads of every state."""
    rows = np.isfinite(data.measured_s)
    if not rows.any():
        return (np.zeros(0),) * 4
    _, first, place = np.unique(data.cell[rows], return_index=True, return_inverse=True)
    g = data.measured_s[rows]
    count = np.bincount(place).astype(float)
    mean = np.bincount(place, g) / count
    square = np.bincount(place, (g - mean[place]) ** 2)
    return data.target_s[rows][first], mean, count, square / np.maximum(count - 1, 1)


def _fit_write(
    target: Floats, mean: Floats, count: Floats, stuck: NDArray[np.bool_], read: LawFit | None
) -> tuple[NDArray[np.bool_], LawFit]:
    """Fit programming noise to the states that are not stuck, and decide which are."""
    of_reads = read.law.sigma(target) ** 2 / count if read else np.zeros(target.size)
    square = (mean - target) ** 2
    good = ~stuck
    if not good.any():
        raise DataError(
            f"every state measures below {STUCK_SHARE:.0%} of its target; are target_s and"
            " measured_s both in siemens?"
        )
    fitted = fit_law(target[good], square[good], np.ones(good.sum()), of_reads[good])
    bound = STUCK_SIGMA**2 * (fitted.law.sigma(target) ** 2 + of_reads)
    confirmed = stuck & (square > bound)
    if (confirmed != stuck).any():
        good = ~confirmed
        fitted = fit_law(target[good], square[good], np.ones(good.sum()), of_reads[good])
    return confirmed, fitted


def fit_law(g: Floats, variance: Floats, freedom: Floats, known: Floats | None = None) -> LawFit:
    """Fit ``sigma[uS] = exp(a ln(min(G, clip)[uS]) + b)`` to measured variances.

    Parameters
    ----------
    g : (n,) float array [S]
        Conductance at which each spread was measured.
    variance, freedom : (n,) float arrays [S^2], [-]
        Measured variance and its degrees of freedom.
    known : (n,) float array [S^2], optional
        Part of the variance that has another cause, read noise.

    Raises
    ------
    DataError
        Fewer than ``FEWEST`` degrees of freedom, or conductances all alike.
    """
    if freedom.sum() < FEWEST:
        raise DataError(
            f"{freedom.sum():.0f} measured deviations are too few to fit a noise law; measure at"
            f" least {FEWEST} states or repeated reads"
        )
    x = np.log(g / MICRO)
    if np.ptp(x) < 0.1:
        raise DataError(
            f"all conductances lie within 10 % of {np.exp(x.mean()):.3g} uS: the law's exponent"
            " cannot be fitted; measure at two targets at least"
        )
    likelihood = _Likelihood(
        x, variance / MICRO**2, freedom, (np.zeros(g.size) if known is None else known) / MICRO**2
    )
    theta, clip, clipped = _fit_clip(likelihood)
    if likelihood.log_sigma(theta, clip).mean() < NONE:
        law = NoiseLaw(0.0, -np.inf, FLOOR_S, float(g.max()))
        return LawFit(law, 0.0, 0.0, 0.0, g.size, np.array([[g.mean(), 1.0, 0.0]]))
    errors = likelihood.standard_errors(theta, clip, clipped)
    law = NoiseLaw(float(theta[0]), float(theta[1]), FLOOR_S, float(np.exp(clip) * MICRO))
    ratio = variance / MICRO**2 / likelihood.total(theta, clip)
    return LawFit(law, *errors, g.size, _bins(g, ratio, freedom))


def _bins(g: Floats, ratio: Floats, freedom: Floats, count: int = 10) -> Floats:
    """Average measured over fitted variance in bins of equal counts of points."""
    parts = np.array_split(np.argsort(g, kind="stable"), min(count, max(1, g.size // 5)))
    rows = []
    for part in parts:
        share = np.sqrt(np.average(ratio[part], weights=freedom[part]))
        middle = np.exp(np.mean(np.log(g[part])))
        rows.append((middle, share, 1 / np.sqrt(2 * freedom[part].sum())))
    return np.array(rows)


def _fit_clip(likelihood: "_Likelihood") -> tuple[Floats, float, bool]:
    """Return (a, b), ln clip, and whether the data show a clip at all."""
    from scipy.optimize import minimize_scalar

    x = likelihood.x
    open_end = float(x.max())
    theta = likelihood.fit(open_end)
    straight = likelihood.cost(theta, open_end)
    trials = np.linspace(x.min(), x.max(), 26)[2:-1]
    costs = [likelihood.cost(likelihood.fit(clip, theta), clip) for clip in trials]
    best, step = trials[int(np.argmin(costs))], trials[1] - trials[0]
    found = minimize_scalar(
        lambda clip: likelihood.cost(likelihood.fit(clip, theta), clip),
        bounds=(best - step, min(best + step, open_end)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    if straight - found.fun < CLIP_GAIN:
        return theta, open_end, False
    return likelihood.fit(float(found.x), theta), float(found.x), True


class _Likelihood:
    """Of measured variances [uS^2] with chi-squared spread, under a noise law; x is ln G[uS]."""

    def __init__(self, x: Floats, variance: Floats, freedom: Floats, known: Floats) -> None:
        self.x, self.variance, self.freedom, self.known = x, variance, freedom, known
        # far below anything measured: keeps the logarithm finite where all deviations are zero
        self.least = np.exp(2 * (NONE - 5))

    def log_sigma(self, theta: Floats, clip: float) -> Floats:
        return np.asarray(theta[0] * np.minimum(self.x, clip) + theta[1])

    def total(self, theta: Floats, clip: float) -> Floats:
        """Return the predicted variances."""
        return np.asarray(np.exp(2 * self.log_sigma(theta, clip)) + self.known + self.least)

    def cost(self, theta: Floats, clip: float) -> float:
        """Return the negative log-likelihood."""
        total = self.total(theta, clip)
        return float(0.5 * np.sum(self.freedom * (np.log(total) + self.variance / total)))

    def slope(self, theta: Floats, clip: float) -> Floats:
        """Return the derivative of ``cost`` by (a, b)."""
        total = self.total(theta, clip)
        part = self.freedom * (1 - self.variance / total) * (total - self.known) / total
        return np.array([np.sum(part * np.minimum(self.x, clip)), np.sum(part)])

    def fit(self, clip: float, start: Floats | None = None) -> Floats:
        """Return the (a, b) of the smallest cost for a given ln clip."""
        from scipy.optimize import minimize

        if start is None:
            mean = np.average(self.variance, weights=self.freedom)
            start = np.array([0.0, 0.5 * np.log(max(mean, self.least))])
        scale = float(self.freedom.sum())  # so that the tolerances hold for any number of points
        found = minimize(
            lambda theta: self.cost(theta, clip) / scale,
            start,
            jac=lambda theta: self.slope(theta, clip) / scale,
            method="L-BFGS-B",
            bounds=[(-10, 10), (NONE - 40, 20)],
            options={"ftol": 1e-14, "gtol": 1e-9},
        )
        return np.asarray(found.x)

    def standard_errors(
        self, theta: Floats, clip: float, clipped: bool
    ) -> tuple[float, float, float]:
        """Return the errors of exponent, log scale and ln clip, from the Fisher information."""
        total = self.total(theta, clip)
        share = (total - self.known) / total
        columns = [np.minimum(self.x, clip), np.ones(self.x.size)]
        if clipped:
            columns.append(theta[0] * (self.x > clip))
        jacobian = np.column_stack(columns) * share[:, None]
        information = 2 * (jacobian * self.freedom[:, None]).T @ jacobian
        errors = np.sqrt(np.diag(np.linalg.pinv(information)))
        return float(errors[0]), float(errors[1]), float(errors[2]) if clipped else 0.0


def fit_iv(data: Measurements) -> ReadFit | None:
    """Fit the voltage of the sinh law to all I-V curves, each with a conductance of its own.

    Errors of the current count relative to the current. ``q = 1 / v_sinh^2`` is fitted, since
    straight curves are q = 0; below two standard errors of q the law is called linear.

    Raises
    ------
    DataError
        Fewer than three points, or none with voltages of different size on one curve.
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(data.voltage_v * data.current_a).any():
        return None
    v, y, curve = _curves(data)
    freedom = v.size - (curve.max() + 1 if v.size else 0) - 1
    if freedom < 1 or not _centred(np.abs(v), curve).any():
        raise DataError(
            f"{v.size} points of I-V curves do not determine v_sinh; measure each state at several"
            " voltages, current and voltage of one sign"
        )

    def residuals(q: float) -> Floats:
        return _centred(y - _log_bend(q * v * v), curve)

    top = 1 / 0.02**2  # the card's smallest v_sinh
    found = minimize_scalar(lambda q: np.sum(residuals(q) ** 2), bounds=(0, top), method="bounded")
    q = _polish(residuals, float(found.x))
    rest = residuals(q)
    slope = _q_slope(residuals, q)
    spread = np.sqrt(np.sum(rest**2) / freedom)
    error = float(spread / np.sqrt(np.sum(slope**2)))
    rms = float(np.sqrt(np.mean(rest**2)))
    if q <= 2 * error:
        return ReadFit(np.inf, 0.0, v.size, rms)
    return ReadFit(q**-0.5, 0.5 * q**-1.5 * error, v.size, rms)


def conductances_of_curves(data: Measurements, v_sinh_v: float) -> tuple[Floats, Floats]:
    """Return voltage [V] and I / (G V) of all I-V points, G the best of each curve."""
    v, y, curve = _curves(data)
    bend = _log_bend((v / v_sinh_v) ** 2)
    log_g = (y - bend) - _centred(y - bend, curve)
    return v, np.asarray(np.exp(y - log_g))


def _curves(data: Measurements) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return voltage, ln(I / V) and number of the curve; a law through the origin, so not zero."""
    with np.errstate(invalid="ignore"):
        rows = data.voltage_v * data.current_a > 0
    v, current = data.voltage_v[rows], data.current_a[rows]
    _, curve = np.unique(data.cell[rows], return_inverse=True)
    return v, np.asarray(np.log(current / v)), curve


def _log_bend(z: Floats) -> Floats:
    """Return ln(sinh(sqrt z) / sqrt z), which is z / 6 at the origin."""
    root = np.sqrt(np.maximum(z, 1e-12))
    return np.asarray(np.where(z < 1e-6, z / 6, root + np.log(-np.expm1(-2 * root) / (2 * root))))


def _centred(y: Floats, curve: NDArray[np.intp]) -> Floats:
    """Subtract the mean of each curve: the best ln G of it."""
    return np.asarray(y - (np.bincount(curve, y) / np.bincount(curve))[curve])


def _q_slope(residuals: Residuals, q: float) -> Floats:
    step = max(1e-4 * q, 1e-6)
    return (residuals(q + step) - residuals(q)) / step


def _polish(residuals: Residuals, q: float) -> float:
    """Gauss-Newton steps from a bounded search, whose tolerance is absolute."""
    for _ in range(20):
        slope = _q_slope(residuals, q)
        q = max(0.0, q - float(residuals(q) @ slope / (slope @ slope)))
    return q

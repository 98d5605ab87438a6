"""The law of one 1T1R cell, fitted to its characterised current table.

The current from row (voltage v) to bit line (voltage u), both relative to the virtual ground, is
``I = G (v - u) P(v, u; ln G) + L(u; ln G)``: P a polynomial whose coefficients are splines of ln G,
L what flows at v = u, the gate leakage of the access transistor. Where L is negligible it is zero.
Products of programmed arrays leave L out: the lines of a pair have equally many cells.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.noise import NoiseLaw
from circuits.errors import FormatError

DEGREE = 5  # total degree of P in (v, u); 4 leaves 2e-4 of full scale on the default technology
FINE = 1025  # points of the ln G grid that kernels interpolate linearly
LEAST_LEAKAGE = 1e-6  # of the largest current: 256 cells then add 0.03 LSB to a column
TABLE = 4097  # points of the linear conductance grids

FloatArray = NDArray[np.float64]


def powers(degree: int = DEGREE) -> list[tuple[int, int]]:
    """Exponents (of v, of u) in the order of the coefficients: by power of u, then of v."""
    return [(a, b) for b in range(degree + 1) for a in range(degree + 1 - b)]


@dataclass(frozen=True)
class ProgrammingTables:
    """Look-up grids of the programming kernel: conductance ratios and noise."""

    to_rram: NDArray[np.float32]
    to_cell: NDArray[np.float32]
    sigma_write: NDArray[np.float32]
    sigma_read: NDArray[np.float32]
    steps: FloatArray
    lowest: float
    highest: float


class Cell:
    """Smooth law of the characterised cell.

    Parameters
    ----------
    data : CrossbarData
        Table ``current`` over ``g``, ``v_row``, ``v_bl``, and held-out points.
    v_read : float
        Full row swing [V]: voltages are normalised to it, and *cell conductance* means
        ``I(v_read, 0) / v_read``, what write-verify measures.

    Attributes
    ----------
    ln_g : (n,) array
        Uniform grid of ln(G / S).
    coef : (n, terms) array
        Coefficients of P, see :func:`powers`.
    base, slope : (terms,) arrays
        Mean relative non-linearity ``p = P / P(1, 0) - 1`` and the function q by which cells
        deviate from it: p + alpha(g) q.
    fit_rms, fit_max : float
        Error against the table, as a fraction of the largest current.
    """

    def __init__(self, data: Any, v_read: float) -> None:
        from scipy.interpolate import CubicSpline, PchipInterpolator

        g = np.asarray(data.g, float)
        current = np.asarray(data.current, float)
        if not np.isfinite(current).all():
            bad = int((~np.isfinite(current)).sum())
            raise FormatError(
                f"crossbar/current: {bad} of {current.size} points are missing; make the library "
                "again: nldpe characterize --out FILE.h5"
            )
        self.v_read = v_read
        self.degree = DEGREE
        self._leak = _leakage(data)
        current = current - self._leak[:, None, :]
        self._leak_axes = np.log(g), np.asarray(data.v_bl, float)
        raw = self._fit(g, np.asarray(data.v_row, float), np.asarray(data.v_bl, float), current)
        self.ln_g = np.linspace(np.log(g[0]), np.log(g[-1]), FINE)
        chord = raw[:, : self.degree + 1].sum(axis=1)
        # the resistance in series with the RRAM hardly depends on G: interpolate that, not the sum
        series = PchipInterpolator(np.log(g), (1.0 / chord - 1.0) / g)(self.ln_g)
        self._chord = 1.0 / (1.0 + np.exp(self.ln_g) * series)
        relative = CubicSpline(np.log(g), raw / chord[:, None])(self.ln_g)
        relative /= relative[:, : self.degree + 1].sum(axis=1, keepdims=True)
        self.coef = np.ascontiguousarray(relative * self._chord[:, None])
        self._cell_g = np.exp(self.ln_g) * self._chord
        if not np.all(np.diff(self._cell_g) > 0):
            raise FormatError(
                "crossbar/current: the cell conductance does not grow with the RRAM conductance; "
                "the access transistor limits it: lower g_max_s or widen column.w_access_m"
            )
        self._split()

    def _fit(self, g: FloatArray, v: FloatArray, u: FloatArray, current: FloatArray) -> FloatArray:
        """Least squares per conductance; returns (n_g, terms)."""
        x, y = (a.ravel() / self.v_read for a in np.meshgrid(v, u, indexing="ij"))
        design = np.stack([(x - y) * x**a * y**b for a, b in powers(self.degree)], axis=1)
        target = (current / (g[:, None, None] * self.v_read)).reshape(g.size, -1)
        raw = np.linalg.lstsq(design, target.T, rcond=None)[0].T
        error = (raw @ design.T - target) * (g * self.v_read)[:, None] / np.abs(current).max()
        self.fit_rms = float(np.sqrt(np.mean(error**2)))
        self.fit_max = float(np.abs(error).max())
        return np.ascontiguousarray(raw)

    def _split(self) -> None:
        """Mean law and its principal deviation over the cells of a typical weight matrix.

        Laws are compared as currents over the box |v| <= 1, |u| <= 0.4; a cell counts with its
        share of the current, and large cells are rare (0.3 span: normal weights over max |w|).
        """
        relative = self.coef / self._chord[:, None]
        relative[:, 0] -= 1.0
        g = np.linspace(0.0, self._cell_g[-1], TABLE)
        at = np.interp(g[1:], self._cell_g, self.ln_g)
        laws = np.stack([np.interp(at, self.ln_g, column) for column in relative.T], axis=1)
        weight = g[1:] * np.exp(-g[1:] / (0.3 * g[-1]))
        v, u = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-0.4, 0.4, 9)))
        design = np.stack([(v - u) * v**a * u**b for a, b in powers(self.degree)], axis=1)
        metric = np.asarray(np.linalg.qr(design, mode="r"))
        self.base = np.average(laws, axis=0, weights=weight)
        deviation = (laws - self.base) @ metric.T
        _, _, vectors = np.linalg.svd(deviation * np.sqrt(weight)[:, None], full_matrices=False)
        self.slope = np.linalg.solve(metric, vectors[0])
        alpha = deviation @ vectors[0]
        self.alpha = np.concatenate([alpha[:1], alpha])
        self.alpha_step = float(g[1])

    def bend(self, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the current of the mean cell at row voltages v, and what alpha adds to it.

        Over the current at full swing; voltages normalised, bit line at the virtual ground.
        """
        at = [(0.0, *law[: self.degree + 1]) for law in (self.base, self.slope)]
        mean, more = (np.polynomial.polynomial.polyval(v, law) for law in at)
        return np.asarray(v + mean), np.asarray(more)

    def levels(self) -> NDArray[np.float32]:
        """Return row voltages, (TABLE,), at which the mean cell's current is even, from -1 to 1.

        At most full swing: where a cell passes less at -1 than at 1, the last levels are equal.
        """
        v = np.linspace(-1.0, 1.0, 4 * TABLE)
        found = np.interp(np.linspace(-1.0, 1.0, TABLE), self.bend(v)[0], v)
        found[TABLE // 2] = 0.0  # a row of code 0 carries no current
        return found.astype(np.float32)

    def inverse(self, per_alpha: float, span: float) -> tuple[float, NDArray[np.float32]]:
        """Return the conductances over span at which responses are even, and the step of these.

        A cell of conductance g responds like an ohmic one of g (1 + alpha(g) per_alpha).
        """
        g = np.arange(self.alpha.size) * self.alpha_step / span
        response = g * (1.0 + self.alpha * per_alpha)
        even = np.linspace(0.0, response[-1], TABLE)
        return float(even[1]), np.interp(even, response, g).astype(np.float32)

    @property
    def conductance_range(self) -> tuple[float, float]:
        """Cell conductance [S] at the ends of the characterised RRAM axis."""
        return float(self._cell_g[0]), float(self._cell_g[-1])

    def cell_conductance(self, rram: ArrayLike) -> FloatArray:
        """Cell conductance [S] of an RRAM conductance [S]: chord at ``v_read``."""
        x = np.log(np.asarray(rram, float))
        return np.asarray(np.exp(x) * np.interp(x, self.ln_g, self._chord))

    def rram_conductance(self, cell: ArrayLike) -> FloatArray:
        """RRAM conductance [S] that gives a cell conductance [S]."""
        g = np.log(np.asarray(cell, float))
        return np.asarray(np.exp(np.interp(g, np.log(self._cell_g), self.ln_g)))

    def current(self, rram: ArrayLike, v: ArrayLike, u: ArrayLike) -> FloatArray:
        """Cell current [A] from RRAM conductance [S], row and bit-line voltage [V]."""
        rram = np.asarray(rram, float)
        x, y = np.asarray(v, float) / self.v_read, np.asarray(u, float) / self.v_read
        ln_g = np.log(rram)
        total = sum(
            np.interp(ln_g, self.ln_g, self.coef[:, k]) * x**a * y**b
            for k, (a, b) in enumerate(powers(self.degree))
        )
        return np.asarray(rram * (x - y) * self.v_read * total + self.leakage(rram, u))

    def leakage(self, rram: ArrayLike, u: ArrayLike = 0.0) -> FloatArray:
        """Current [A] into a bit line at voltage ``u`` [V] that no row voltage drives."""
        from scipy.interpolate import RegularGridInterpolator

        rram, u = np.broadcast_arrays(np.asarray(rram, float), np.asarray(u, float))
        if not self._leak.any():
            return np.zeros(rram.shape)
        table = RegularGridInterpolator(self._leak_axes, self._leak)
        (first, *_, last), volts = self._leak_axes
        inside = np.log(np.clip(rram, np.exp(first), np.exp(last)))
        return np.asarray(table((np.clip(inside, first, last), np.clip(u, volts[0], volts[-1]))))

    def programming_tables(self, write: NoiseLaw, read: NoiseLaw) -> ProgrammingTables:
        """Grids for the programming kernel (linear look-up right to 1e-6 of full scale)."""
        lowest, highest = float(np.exp(self.ln_g[0])), float(np.exp(self.ln_g[-1]))
        g = np.linspace(0.0, self._cell_g[-1], TABLE)
        rram = np.linspace(0.0, highest, TABLE)
        inside = np.clip(g, self._cell_g[0], None)
        to_rram = self.rram_conductance(inside) / inside
        clipped = np.clip(rram, lowest, highest)
        to_cell = self.cell_conductance(clipped) / clipped
        noise_step, sigma_write = write.over_sqrt(highest)
        _, sigma_read = read.over_sqrt(highest)
        steps = np.array([g[1], rram[1], noise_step])
        return ProgrammingTables(
            to_rram.astype(np.float32),
            to_cell.astype(np.float32),
            sigma_write.astype(np.float32),
            sigma_read.astype(np.float32),
            steps,
            lowest,
            highest,
        )


def _leakage(data: Any) -> FloatArray:
    """Current (n_g, n_b) [A] at equal row and bit-line voltages; zero where it is negligible."""
    v, u, current = (np.asarray(x, float) for x in (data.v_row, data.v_bl, data.current))
    at = np.stack([[np.interp(b, v, row[:, k]) for k, b in enumerate(u)] for row in current])
    negligible = np.abs(at).max() < LEAST_LEAKAGE * np.abs(current).max()
    return np.zeros_like(at) if negligible else at

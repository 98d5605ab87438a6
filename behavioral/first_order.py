"""Columns to first order in their cells' deviation from ohmic ones.

An ohmic column with wires is solved exactly; each real cell then injects its deviation at the
ohmic operating point. Right to some 0.02 LSB, but as slow as a network solve per input:
`behavioral.correction_fit` uses it to find something faster.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import Cell, powers
from behavioral.correction import BASIS
from behavioral.kernels import ladder
from behavioral.kernels.noise import look_up
from behavioral.row_wires import Wires

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class OhmicArray:
    """One array, the ohmic array it is compared with, that one's transfer, and what arrives.

    `arrival` is the share of each row's drive at the cells: 1 where row lines are ideal.
    """

    g: Float32
    alpha: Float32
    ohmic: Float32
    z: Float32
    arrival: Float32

    @property
    def effective(self) -> Float32:
        """Effective matrix, wires included."""
        return self.ohmic * self.z

    def columns(self, chosen: NDArray[np.int64]) -> "OhmicArray":
        """Return some of the columns."""
        parts = (self.g, self.alpha, self.ohmic, self.z, self.arrival)
        return OhmicArray(*(np.ascontiguousarray(part[:, chosen]) for part in parts))


def legendre(rows: int) -> FloatArray:
    """Orthonormal Legendre polynomials over the rows, (BASIS, rows)."""
    if rows == 0:
        return np.zeros((BASIS, 0))
    x = np.linspace(-1.0, 1.0, rows) if rows > 1 else np.zeros(1)
    q, _ = np.linalg.qr(np.polynomial.legendre.legvander(x, min(BASIS, rows) - 1))
    out = np.zeros((BASIS, rows))
    out[: q.shape[1]] = q.T
    return out


def mean_profile(g: FloatArray, r: float, r_end: float, basis: FloatArray) -> FloatArray:
    """Amplitudes of the bit-line voltage of an ohmic column per volt on each row, (rows, BASIS).

    ``u = (R^-1 + G)^-1 G v`` with R the ladder's resistance matrix, so the projection of u on a
    shape b is ``(G h) v`` with h the ladder's answer to injected currents b.
    """
    rows = g.size
    if rows == 0:
        return np.zeros((0, basis.shape[0]))
    position = np.arange(rows)
    ladder = r_end + r * (rows - 1 - np.maximum(position[:, None], position[None, :]))
    h = np.linalg.solve(np.eye(rows) + ladder * g, ladder @ basis.T)
    return np.asarray(g[:, None] * h)


def squared_share(g: FloatArray, x: Float32, r: float, r_end: float) -> Float32:
    """Mean square of the voltage across each row's cell over that of the row, (rows,).

    Of an ohmic column g (rows,) at typical inputs x (samples, rows).
    """
    basis = legendre(g.size)
    u = (x @ mean_profile(g, r, r_end, basis)) @ basis
    square = np.square(x, dtype=float).sum(axis=0)
    across = np.square(x - u).sum(axis=0)
    share = np.divide(across, square, out=np.ones_like(square), where=square > 0)
    return np.asarray(share, np.float32)


def law_matrix(terms: FloatArray, degree: int) -> Float32:
    """Coefficients of a polynomial as (powers of u, powers of v)."""
    out = np.zeros((degree + 1, degree + 1), np.float32)
    for value, (a, b) in zip(terms, powers(degree), strict=True):
        out[b, a] = value
    return out


def on_the_line(terms: FloatArray, degree: int, share: float, start: float) -> Float32:
    """Polynomial in v of ``start + (1 - share) p(v, u = share v)``, (1, degree + 1)."""
    out = np.zeros((1, degree + 1))
    out[0, 0] = start
    for value, (a, b) in zip(terms, powers(degree), strict=True):
        out[0, a + b] += (1.0 - share) * value * share**b
    return out.astype(np.float32)


def fold(law: Float32, x: Float32) -> Float32:
    """Polynomial in u at given row voltages, (samples, rows, degree + 1)."""
    v = _powers(x.astype(float), law.shape[1] - 1)
    return np.ascontiguousarray(np.tensordot(v, law.T.astype(float), (0, 0)), dtype=np.float32)


def mean_gain(cell: Cell, x: FloatArray, u: FloatArray | float = 0.0) -> tuple[float, float]:
    """Mean relative gain of a cell over its operating points: (of the mean cell, per alpha).

    The gain of the ohmic cell that is closest in the mean square (the describing function).
    """
    d = x - u
    square = d * d
    total = float(square.sum())
    if total == 0.0:
        return 0.0, 0.0
    rising = _powers(x, cell.degree), _powers(np.broadcast_to(u, x.shape), cell.degree)
    moments = (square * rising[0]).reshape(len(rising[0]), -1) @ rising[1].reshape(
        len(rising[1]), -1
    ).T
    terms = np.array([moments[a, b] for a, b in powers(cell.degree)]) / total
    return float(terms @ cell.base), float(terms @ cell.slope)


def gain_per_alpha(cell: Cell, v: FloatArray) -> float:
    """Gain that alpha adds to a cell driven by the `levels` of a DAC, bit lines at rest.

    In the mean square, of row voltages v to what the mean cell makes of them.
    """
    wanted, more = cell.bend(v)
    total = float(np.square(wanted).sum())
    return float((wanted * more).sum()) / total if total else 0.0


def _powers(x: FloatArray, degree: int) -> FloatArray:
    """Return x to the powers 0 to `degree`, (degree + 1, *x.shape)."""
    out = np.empty((degree + 1, *x.shape))
    out[0] = 1.0
    for k in range(degree):
        np.multiply(out[k], x, out=out[k + 1])
    return out


def first_order(
    cell: Cell, pairs: list[tuple[OhmicArray, OhmicArray]], x: Float32, r: float, r_end: float
) -> FloatArray:
    """Differential output to first order in the deviation from ohmic cells, (samples, cols)."""
    base, slope = law_matrix(cell.base, cell.degree), law_matrix(cell.slope, cell.degree)
    base[0, 0] += 1.0
    p, q = fold(base, x), fold(slope, x)
    parts = []
    for pair in pairs:
        total = np.zeros((x.shape[0], pair[0].g.shape[1]))
        for sign, part in zip((1, -1), pair, strict=True):
            first = np.empty((x.shape[0], part.g.shape[1]), np.float32)
            second = np.empty_like(first)
            ladder.perturb(
                part.g,
                part.ohmic,
                part.z,
                part.alpha,
                p,
                q,
                x,
                np.float32(r),
                np.float32(r_end),
                first,
                second,
            )
            total += sign * (first.astype(float) + second)
        parts.append(total)
    return np.concatenate(parts, axis=1)


def ohmic_array(
    cell: Cell, span: float, g: Float32, gain: float, per_alpha: float, wires: Wires
) -> OhmicArray:
    """Ohmic array that responds like the real one on average."""
    alpha = np.empty_like(g)
    look_up(g.ravel(), cell.alpha_step / span, cell.alpha, alpha.ravel())
    ohmic = g * np.float32(1.0 + gain) + g * alpha * np.float32(per_alpha)
    return OhmicArray(g, alpha, ohmic, wires.transfer(ohmic), wires.arrival(ohmic))

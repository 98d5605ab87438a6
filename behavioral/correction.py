"""The non-linear column as a corrected matrix product.

To first order in the cells' deviation from *ohmic* cells, a column's output is the ohmic one plus
what every cell injects at its ohmic operating point; that is right to some 0.02 LSB but costs as
much as a network solve per input. Here it is computed at programming time for a few inputs, and
split into

1. the ohmic cells: each cell's mean gain over typical operating points (its describing function)
   enters the effective matrix, wires included;
2. a function of the row's own voltage, shared by all columns, is applied to the inputs before the
   product; where wires are long it also knows the *mean* bit-line profile of the present inputs;
3. where that leaves more than a twentieth of an LSB, per-column terms in the output y and the
   common-mode current s enter the matrix, and two more grow with the mean square of the inputs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import DEGREE, Cell, powers
from behavioral.kernels import crossbar as kernels
from behavioral.kernels import ladder
from behavioral.kernels.noise import look_up

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]

BASIS = 5  # Legendre functions that carry the mean bit-line profile
RIDGE = 1e-5  # relative to the square of each term: keeps dead columns finite
# LSB on the inputs of the fit, rms and largest: below them more is not worth its time.
ENOUGH, LARGEST = 0.05, 0.25
SAMPLED = 16  # columns that are looked at first
WORTH = 0.8  # the profile is used if it lowers the residual to this share

Kind = Literal["none", "pointwise", "fitted", "fine", "auto"]


@dataclass(frozen=True)
class Correction:
    """Matrix, input law and per-column terms of the product.

    Attributes
    ----------
    matrix : (rows or 2 rows, cols) float32 array
        Effective matrix of the four arrays, read-out and wires included; below it the matrix of
        the second product, with correction "fine".
    laws : (parts, degree + 1, degree + 1) or (1, 1, degree + 1) float32 array
        Non-linearity of the mean cell (and of its neighbours), powers of u down, of v across;
        without bit-line profile, the whole law in powers of v.
    basis : (BASIS or 0, rows) float32 array
        Shapes of the mean bit-line profile.
    probe : (rows, BASIS or 0) float32 array
        Its amplitudes per volt on each row.
    common : (rows,) float32 array
        Mean effective column: its product with the inputs is the common-mode current s.
    terms : (2, cols or 0) float32 array
        The output is ``y + q (c0 y + c1 s)``, q the mean square of what was multiplied; empty
        where it is good enough without.
    rms : float
        Residual on the fit samples, in LSB of 8 bits over each column's range.
    """

    matrix: Float32
    laws: Float32
    basis: Float32
    probe: Float32
    common: Float32
    terms: Float32
    rms: float

    @property
    def pointwise(self) -> bool:
        """Whether inputs are bent one by one, whatever the others are."""
        return bool(self.laws.shape[1] == 1)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        parts = (self.matrix, self.laws, self.basis, self.probe, self.common, self.terms)
        return sum(part.nbytes for part in parts)

    def drive(self, x: Float32, rest: float, parallel: bool = False) -> tuple[Float32, int]:
        """Return what is multiplied with the matrix, and how many inputs left [-1, 1] (or NaN)."""
        if self.pointwise:
            bent, count = self.bend(x, rest, parallel)
            return (bent[0] if len(bent) == 1 else np.concatenate(bent, axis=1)), count
        out = np.empty((len(x), self.matrix.shape[0]), np.float32)
        linearize = kernels.linearize_parallel if parallel else kernels.linearize
        outside = linearize(x, np.float32(rest), x @ self.probe, self.basis, self.laws, out)
        return out, int(outside)

    def bend(self, x: Float32, rest: float, parallel: bool = False) -> tuple[list[Float32], int]:
        """Bend inputs one by one, once for every part of the matrix; x has any shape."""
        kernel = kernels.bend_parallel if parallel else kernels.bend
        parts, outside = [np.empty_like(x) for _ in self.laws], 0
        for out, law in zip(parts, self.laws, strict=True):
            outside = int(kernel(x.reshape(-1), np.float32(rest), law[0], out.reshape(-1)))
        return parts, outside


@dataclass(frozen=True)
class _Ohmic:
    """One array, the ohmic array it is compared with, and that one's transfer."""

    g: Float32
    alpha: Float32
    ohmic: Float32
    z: Float32

    @property
    def effective(self) -> Float32:
        return self.ohmic * self.z

    def columns(self, chosen: NDArray[np.int64]) -> "_Ohmic":
        parts = (self.g, self.alpha, self.ohmic, self.z)
        return _Ohmic(*(np.ascontiguousarray(part[:, chosen]) for part in parts))


def no_correction(matrix: Float32) -> Correction:
    """Return the correction of an ohmic array: none."""
    rows = len(matrix)
    return Correction(
        matrix,
        np.eye(1, DEGREE + 1, dtype=np.float32)[None],
        np.zeros((0, rows), np.float32),
        np.zeros((rows, 0), np.float32),
        np.zeros(rows, np.float32),
        np.zeros((2, 0), np.float32),
        0.0,
    )


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
    v = x.astype(float)[..., None] ** np.arange(law.shape[1])
    return np.ascontiguousarray(v @ law.T.astype(float), dtype=np.float32)


def mean_gain(cell: Cell, x: FloatArray, u: FloatArray | float = 0.0) -> tuple[float, float]:
    """Mean relative gain of a cell over its operating points: (of the mean cell, per alpha).

    The gain of the ohmic cell that is closest in the mean square (the describing function).
    """
    d = x - u
    square = d * d
    total = float(square.sum())
    if total == 0.0:
        return 0.0, 0.0
    terms = np.array([float((square * x**a * u**b).sum()) for a, b in powers(cell.degree)]) / total
    return float(terms @ cell.base), float(terms @ cell.slope)


def first_order(
    cell: Cell, pairs: list[tuple[_Ohmic, _Ohmic]], x: Float32, r: float, r_end: float
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


def fit(
    cell: Cell,
    span: float,
    pairs: list[tuple[Float32, Float32]],
    x: Float32,
    r: float,
    r_end: float,
    *,
    rest: float = 0.0,
    kind: Kind = "auto",
) -> Correction:
    """Fit the correction of programmed main pairs on typical inputs.

    Parameters
    ----------
    cell : Cell
        Characterised law.
    span : float
        Conductance unit [S].
    pairs : list of (rows, cols) float32 array pairs
        Normalised cell conductances of the positive and negative array, per group of columns.
    x : (samples, rows) float32 array
        Normalised inputs.
    r, r_end : float
        Normalised wire resistance per cell, and after the last one.
    rest : float
        Voltage of the virtual ground, normalised.
    kind : "pointwise", "fitted", "fine" or "auto"
        Each input on its own; with the mean bit-line profile; the latter with a second product for
        what cells of different conductance do differently. "auto": on their own, if need be with
        the second product, and only if a few columns then still miss the bar with fitted terms.
    """
    column = _Column.of(cell, span, pairs, x, r, r_end)
    inputs = x - np.float32(rest)
    if kind == "auto":
        some = column.some(SAMPLED)
        target = first_order(cell, some.pairs, inputs, r, r_end)
        for fine in (False, True):
            rms, largest = _residual(some.pointwise(x, fine), target, x, rest)
            if rms <= ENOUGH and largest <= LARGEST:
                return replace(column.pointwise(x, fine), rms=rms)
    target = first_order(cell, column.pairs, inputs, r, r_end)
    if kind in ("fitted", "fine"):
        return _with_terms(column.profiled(kind == "fine"), target, x, rest)
    found = _with_terms(column.pointwise(x, kind == "auto"), target, x, rest)
    if kind == "pointwise" or found.rms <= ENOUGH:
        return found
    other = _with_terms(column.profiled(False), target, x, rest)
    return other if other.rms < WORTH * found.rms else found


@dataclass(frozen=True)
class _Column:
    """The ohmic columns next to the real ones, and the law of their mean cell."""

    cell: Cell
    pairs: list[tuple[_Ohmic, _Ohmic]]
    basis: FloatArray
    probe: FloatArray
    alpha: float
    per_alpha: float
    law: FloatArray
    scale: float

    @classmethod
    def of(
        cls,
        cell: Cell,
        span: float,
        pairs: list[tuple[Float32, Float32]],
        x: Float32,
        r: float,
        r_end: float,
    ) -> "_Column":
        cols = sum(pair[0].shape[1] for pair in pairs)
        mean = sum(array.sum(axis=1, dtype=float) for pair in pairs for array in pair) / (2 * cols)
        basis = legendre(x.shape[1])
        probe = mean_profile(np.asarray(mean), r, r_end, basis)
        gain, per_alpha = mean_gain(cell, x.astype(float), (x @ probe) @ basis)
        ohmic = [
            (
                _linear(cell, span, pair[0], gain, per_alpha, r, r_end),
                _linear(cell, span, pair[1], gain, per_alpha, r, r_end),
            )
            for pair in pairs
        ]
        alpha = _mean_alpha(ohmic)
        law = cell.base + alpha * cell.slope
        law[0] += 1.0
        scale = 1.0 / (1.0 + gain + alpha * per_alpha)
        return cls(cell, ohmic, basis, probe, alpha, per_alpha, law, scale)

    def some(self, count: int) -> "_Column":
        """Return at most so many of the columns, evenly spaced, for a look at the residual."""
        cols = sum(pair[0].g.shape[1] for pair in self.pairs)
        chosen = np.unique(np.linspace(0, cols - 1, min(count, cols)).astype(np.int64))
        pairs, low = [], 0
        for pair in self.pairs:
            high = low + pair[0].g.shape[1]
            here = chosen[(chosen >= low) & (chosen < high)] - low
            if here.size:
                pairs.append((pair[0].columns(here), pair[1].columns(here)))
            low = high
        return replace(self, pairs=pairs)

    def _relative(self) -> FloatArray:
        """Terms of the mean cell's deviation from its ohmic twin."""
        law = self.law * self.scale
        law[0] -= 1.0
        return law

    def _matrix(self) -> Float32:
        return np.concatenate([p.effective - n.effective for p, n in self.pairs], axis=1)

    def _common(self) -> Float32:
        total = sum((p.effective + n.effective).sum(axis=1, dtype=float) for p, n in self.pairs)
        cols = sum(p.g.shape[1] for p, _ in self.pairs)
        return np.asarray(total / (2 * cols), np.float32)

    def _shared(self, matrix: Float32, laws: Float32, probe: FloatArray) -> Correction:
        """Return the correction before its terms are fitted."""
        basis = self.basis[: probe.shape[1]].astype(np.float32)
        terms = np.zeros((2, 0), np.float32)
        return Correction(
            matrix, laws, basis, probe.astype(np.float32), self._common(), terms, np.inf
        )

    def _second(self) -> tuple[Float32, FloatArray]:
        """Matrix and law of what cells of different conductance do differently."""
        alpha = self.alpha
        parts = [
            p.g * p.z * (p.alpha - alpha) - n.g * n.z * (n.alpha - alpha) for p, n in self.pairs
        ]
        law = self.cell.slope - self.law * self.scale * self.per_alpha
        return np.asarray(np.concatenate(parts, axis=1), np.float32), law

    def pointwise(self, x: Float32, fine: bool = False) -> Correction:
        """Bend each input at the share of it that bit lines take on average."""
        u = (x @ self.probe) @ self.basis
        total = float(np.vdot(x, x))
        share = float(np.vdot(x, u)) / total if total else 0.0
        degree = self.cell.degree
        matrix, laws = self._matrix(), [on_the_line(self._relative(), degree, share, 1.0)]
        if fine:
            second, law = self._second()
            matrix = np.concatenate([matrix, second])
            laws.append(on_the_line(law, degree, share, 0.0))
        return self._shared(np.asarray(matrix, np.float32), np.stack(laws), self.probe[:, :0])

    def profiled(self, fine: bool) -> Correction:
        """Bend inputs at the mean bit-line profile of all of them."""
        degree = self.cell.degree
        matrix, laws = self._matrix(), [law_matrix(self._relative(), degree)]
        if fine:
            second, law = self._second()
            matrix = np.concatenate([matrix, second])
            laws.append(law_matrix(law, degree))
        return self._shared(np.asarray(matrix, np.float32), np.stack(laws), self.probe)


def _linear(
    cell: Cell, span: float, g: Float32, gain: float, per_alpha: float, r: float, r_end: float
) -> _Ohmic:
    """Ohmic array that responds like the real one on average."""
    alpha = np.empty_like(g)
    look_up(g.ravel(), cell.alpha_step / span, cell.alpha, alpha.ravel())
    ohmic = g * np.float32(1.0 + gain) + g * alpha * np.float32(per_alpha)
    z = np.empty_like(g)
    ladder.transfer_profile(ohmic, r, r_end, z)
    return _Ohmic(g, alpha, ohmic, z)


def _mean_alpha(pairs: list[tuple[_Ohmic, _Ohmic]]) -> float:
    """Deviation of the average cell, weighted by the squared effective matrix."""
    weight, total = 0.0, 0.0
    for p, n in pairs:
        square = (p.effective - n.effective) ** 2
        total += float((square * np.where(p.g > n.g, p.alpha, n.alpha)).sum(dtype=float))
        weight += float(square.sum(dtype=float))
    return total / weight if weight else 0.0


def _with_terms(shared: Correction, target: FloatArray, x: Float32, rest: float) -> Correction:
    """Fit the per-column terms to the first-order outputs; linear ones enter the matrix."""
    driven, _ = shared.drive(x, rest)
    rows = shared.common.size
    y = (driven @ shared.matrix).astype(float)
    q = np.square(driven[:, :rows], dtype=float).mean(axis=1)
    s = driven[:, :rows].astype(float) @ shared.common
    common, square = np.broadcast_to(s[:, None], y.shape), q[:, None]
    (gain, offset), rms = _fit_terms(target, y, np.stack([y, common]))
    kept = np.zeros((2, 0), np.float32)
    if rms > ENOUGH:
        features = np.stack([y, common, y * square, common * square])
        (gain, offset, c0, c1), rms = _fit_terms(target, y, features)
        slope = c0 / (1.0 + gain)
        kept = np.stack([slope, c1 - slope * offset]).astype(np.float32)
    matrix = shared.matrix * (1.0 + gain).astype(np.float32)
    matrix[:rows] += np.outer(shared.common, offset).astype(np.float32)
    return replace(shared, matrix=matrix, terms=kept, rms=rms)


def _residual(
    found: Correction, target: FloatArray, x: Float32, rest: float
) -> tuple[float, float]:
    """Return the error before any fit, in LSB of each column's range: rms and largest."""
    driven, _ = found.drive(x, rest)
    error = _in_lsb(driven @ found.matrix - target, target)
    return float(np.sqrt(np.mean(error**2))), float(np.abs(error).max(initial=0.0))


def _in_lsb(error: FloatArray, target: FloatArray) -> FloatArray:
    lsb = np.ptp(target, axis=0) / 256.0
    return np.asarray(np.divide(error, lsb, out=np.zeros_like(error), where=lsb > 0))


def _fit_terms(target: FloatArray, y: FloatArray, features: FloatArray) -> tuple[FloatArray, float]:
    """Ridge least squares of target - y on features (n, samples, cols), all columns at once.

    Returns coefficients (n, cols), and the residual in LSB of each column's range, rms.
    """
    gram = np.einsum("fmc,gmc->cfg", features, features, optimize=True)
    right = np.einsum("fmc,mc->cf", features, target - y, optimize=True)
    size = np.einsum("cff->cf", gram)
    step = np.sqrt(size) + (size == 0)
    gram = gram / step[:, :, None] / step[:, None, :] + RIDGE * np.eye(len(features))
    solution = np.linalg.solve(gram, (right / step)[..., None])[..., 0] / step
    residual = target - y - np.einsum("fmc,cf->mc", features, solution, optimize=True)
    return solution.T, float(np.sqrt(np.mean(_in_lsb(residual, target) ** 2)))

"""The non-linear column as a corrected matrix product.

To first order in the cells' deviation from *ohmic* cells, a column's output is the ohmic one plus
what every cell injects at its ohmic operating point; that is right to some 0.02 LSB but costs as
much as a network solve per input. Here it is computed at programming time for a few inputs, and
split into

1. the ohmic cells: each cell's mean gain over typical operating points (its describing function)
   enters the effective matrix, wires included;
2. a function of the row's own voltage and of the *mean* bit-line profile, shared by all columns:
   it is applied to the inputs before the product;
3. per-column terms in the output y and the common-mode current s.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import Cell, powers
from behavioral.kernels import crossbar as kernels

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]

BASIS = 5  # Legendre functions that carry the mean bit-line profile
RIDGE = 1e-5  # relative to the square of each term: keeps dead columns finite


@dataclass(frozen=True)
class Correction:
    """Matrix, input law and per-column terms; see :class:`behavioral.crossbar.ProgrammedArray`."""

    matrix: Float32
    probe: Float32
    basis: Float32
    laws: Float32
    terms: Float32
    rms: float


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


def no_correction(matrix: Float32, degree: int) -> Correction:
    """Return the correction of an ohmic array: none."""
    rows, cols = matrix.shape
    return Correction(
        matrix,
        np.zeros((rows, BASIS + 1), np.float32),
        np.zeros((BASIS, rows), np.float32),
        np.zeros((1, degree + 1, degree + 1), np.float32),
        np.zeros((4, cols), np.float32),
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
            kernels.perturb(
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
    fine: bool = False,
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
    fine : bool
        Add a second product for what cells of different conductance do differently.
    """
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
    matrices = [[p.effective - n.effective for p, n in ohmic]]
    scale = 1.0 / (1.0 + gain + alpha * per_alpha)
    mean_law = cell.base + alpha * cell.slope
    mean_law[0] += 1.0
    laws = [mean_law * scale]
    laws[0][0] -= 1.0
    if fine:
        matrices.append(
            [p.g * p.z * (p.alpha - alpha) - n.g * n.z * (n.alpha - alpha) for p, n in ohmic]
        )
        laws.append(cell.slope - mean_law * scale * per_alpha)
    common = sum((p.effective + n.effective).sum(axis=1, dtype=float) for p, n in ohmic)
    shared = Correction(
        np.concatenate([np.concatenate(m, axis=1) for m in matrices]).astype(np.float32),
        np.column_stack([probe, common / (2 * cols)]).astype(np.float32),
        basis.astype(np.float32),
        np.stack([law_matrix(law, cell.degree) for law in laws]),
        np.zeros((4, cols), np.float32),
        0.0,
    )
    target = first_order(cell, ohmic, x - np.float32(rest), r, r_end)
    return _with_terms(shared, target, x, rest)


def _linear(
    cell: Cell, span: float, g: Float32, gain: float, per_alpha: float, r: float, r_end: float
) -> _Ohmic:
    """Ohmic array that responds like the real one on average."""
    alpha = np.empty_like(g)
    kernels.look_up(g.ravel(), cell.alpha_step / span, cell.alpha, alpha.ravel())
    ohmic = g * np.float32(1.0 + gain) + g * alpha * np.float32(per_alpha)
    z = np.empty_like(g)
    kernels.transfer_profile(ohmic, r, r_end, z)
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
    """Fit the per-column terms to the first-order outputs."""
    parts = shared.laws.shape[0]
    driven = np.empty((x.shape[0], parts * x.shape[1]), np.float32)
    power = np.empty(x.shape[0], np.float32)
    amplitude = x @ shared.probe
    square = np.empty((x.shape[0], 0), np.float32)
    kernels.linearize(
        x, np.float32(rest), amplitude, shared.basis, shared.laws, driven, square, power
    )
    y = (driven @ shared.matrix).astype(float)
    terms, residual = _fit_terms(target, y, power.astype(float), amplitude[:, -1].astype(float))
    lsb = np.ptp(target, axis=0) / 256.0
    relative = np.divide(residual, lsb, out=np.zeros_like(residual), where=lsb > 0)
    return replace(shared, terms=terms, rms=float(np.sqrt(np.mean(relative**2))))


def _fit_terms(
    target: FloatArray, y: FloatArray, power: FloatArray, common: FloatArray
) -> tuple[Float32, FloatArray]:
    """Ridge least squares of target - y on [y, y q, s, s q], all columns at once."""
    shape = y.shape
    features = np.stack(
        [
            y,
            y * power[:, None],
            np.broadcast_to(common[:, None], shape),
            np.broadcast_to((common * power)[:, None], shape),
        ]
    )
    gram = np.einsum("fmc,gmc->cfg", features, features, optimize=True)
    right = np.einsum("fmc,mc->cf", features, target - y, optimize=True)
    size = np.einsum("cff->cf", gram)
    step = np.sqrt(size) + (size == 0)
    gram = gram / step[:, :, None] / step[:, None, :] + RIDGE * np.eye(4)
    solution = np.linalg.solve(gram, (right / step)[..., None])[..., 0] / step
    residual = target - y - np.einsum("fmc,cf->mc", features, solution, optimize=True)
    return np.ascontiguousarray(solution.T, dtype=np.float32), residual

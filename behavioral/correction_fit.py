"""Fit the correction of a non-linear column when its array is programmed.

To first order in the cells' deviation from *ohmic* cells, a column's output is the ohmic one plus
what every cell injects at its ohmic operating point; that is right to some 0.02 LSB but costs as
much as a network solve per input. Here it is computed for a few typical inputs, and split into

1. the ohmic cells: each cell's mean gain over typical operating points (its describing function)
   enters the effective matrix, wires included;
2. a function of the row's own voltage, shared by all columns, is applied to the inputs before the
   product;
3. where that leaves too much, each column's gain and its share of the common-mode current s are
   fitted: they enter the matrix and cost nothing later;
4. where that does not do either, a second product carries what cells of different conductance do
   differently, on the rows that are driven hardest and as few of them as are enough;
5. else the inputs are bent at the *mean* bit-line profile that they make themselves, or two more
   terms per column grow with the mean square of the inputs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import Cell, powers
from behavioral.correction import Correction
from behavioral.first_order import (
    OhmicArray,
    first_order,
    law_matrix,
    legendre,
    mean_gain,
    mean_profile,
    ohmic_array,
    on_the_line,
)
from behavioral.row_wires import Wires, fitted_laws

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]

NO_ROWS: Rows = np.zeros(0, np.int64)
RIDGE = 1e-5  # relative to the square of each term: keeps dead columns finite
# LSB on the inputs of the fit, rms and largest: below them more is not worth its time.
ENOUGH, LARGEST = 0.05, 0.25
SAMPLED = 16  # columns that are looked at first
SECOND = (16, 32, 64, 128)  # rows that a second product takes, if not all
WORTH = 0.8  # what takes time is used if it lowers the residual to this share

Kind = Literal["none", "pointwise", "fitted", "fine", "auto"]
KINDS: tuple[Kind, ...] = ("none", "pointwise", "fitted", "fine", "auto")


def fit(
    cell: Cell,
    span: float,
    pairs: list[tuple[Float32, Float32]],
    x: Float32,
    wires: Wires,
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
    wires : Wires
        Normalised resistances.
    rest : float
        Voltage of the virtual ground, normalised.
    kind : "pointwise", "fitted", "fine" or "auto"
        Each input on its own; with the mean bit-line profile; the latter with a second product for
        what cells of different conductance do differently. "auto": on their own; if a few columns
        then miss the bar, with fitted gains; if they still do, with the second product, of few
        rows or of all; and with all terms only if nothing else is good enough.
    """
    column = _Column.of(cell, span, pairs, x, wires)
    inputs = x - np.float32(rest)
    whole = column.outputs(inputs, wires) if wires.r_row else None

    def target_of(some: _Column, chosen: Rows | slice = slice(None)) -> FloatArray:
        if whole is not None:  # columns of resistive rows cannot be looked at on their own
            return whole[:, chosen]
        return first_order(cell, some.pairs, inputs, wires.r, wires.r_end)

    rows: list[Rows] = []
    missed: list[tuple[float, float]] = []
    if kind == "auto":
        chosen = column.evenly(SAMPLED)
        some = column.some(chosen)
        target = target_of(some, chosen)
        rows = [NO_ROWS, *some.hardest(x)]
        for second in rows:
            found = some.pointwise(x, second)
            if _good(rms := _residual(found, target, x, rest)):
                return replace(column.pointwise(x, second), rms=rms[0])
            missed.append(_held_out(found, target, x, rest))
            if _good(missed[-1]):
                target = target_of(column)
                return _with_gains(column.pointwise(x, second), target, x, rest)
    target = target_of(column)
    if kind in ("fitted", "fine"):
        return _with_terms(column.profiled(kind == "fine"), target, x, rest)
    found = _with_terms(column.pointwise(x, _worth(rows, missed)), target, x, rest)
    if kind == "pointwise" or found.rms <= ENOUGH:
        return found
    other = _with_terms(column.profiled(False), target, x, rest)
    return other if other.rms < WORTH * found.rms else found


def _worth(rows: list[Rows], missed: list[tuple[float, float]]) -> Rows:
    """Return the fewest rows of a second product that are nearly as good as the best; or none."""
    best = min((rms for rms, _ in missed), default=0.0)
    near = (some for some, (rms, _) in zip(rows, missed, strict=False) if best >= WORTH * rms)
    return next(near, NO_ROWS)


def _good(residual: tuple[float, float]) -> bool:
    rms, largest = residual
    return rms <= ENOUGH and largest <= LARGEST


@dataclass(frozen=True)
class _Column:
    """The ohmic columns next to the real ones, and the law of their mean cell."""

    cell: Cell
    pairs: list[tuple[OhmicArray, OhmicArray]]
    basis: FloatArray
    probe: FloatArray
    alpha: float
    per_alpha: float
    law: FloatArray
    scale: float
    arrival: float  # mean share of the rows' drive at the cells

    @classmethod
    def of(
        cls,
        cell: Cell,
        span: float,
        pairs: list[tuple[Float32, Float32]],
        x: Float32,
        wires: Wires,
    ) -> "_Column":
        cols = sum(pair[0].shape[1] for pair in pairs)
        mean = sum(array.sum(axis=1, dtype=float) for pair in pairs for array in pair) / (2 * cols)
        basis = legendre(x.shape[1])
        probe = mean_profile(np.asarray(mean), wires.r, wires.r_end, basis)
        arrival = _mean_arrival(pairs, wires)
        v = x * arrival
        gain, per_alpha = mean_gain(cell, v.astype(float), (v @ probe) @ basis)
        ohmic = [
            (
                ohmic_array(cell, span, pair[0], gain, per_alpha, wires),
                ohmic_array(cell, span, pair[1], gain, per_alpha, wires),
            )
            for pair in pairs
        ]
        alpha = _mean_alpha(ohmic)
        law = cell.base + alpha * cell.slope
        law[0] += 1.0
        scale = 1.0 / (1.0 + gain + alpha * per_alpha)
        return cls(cell, ohmic, basis, probe, alpha, per_alpha, law, scale, arrival)

    def outputs(self, x: Float32, wires: Wires) -> FloatArray:
        """Return the differential outputs (samples, cols), every array solved in full."""
        v = x.astype(float)
        parts = [
            [wires.outputs(fitted_laws(self.cell, one), one.ohmic, v, 0.0) for one in pair]
            for pair in self.pairs
        ]
        return np.concatenate([pos - neg for pos, neg in parts], axis=1)

    def evenly(self, count: int) -> Rows:
        """Return the numbers of at most so many columns, evenly spaced."""
        cols = sum(pair[0].g.shape[1] for pair in self.pairs)
        return np.unique(np.linspace(0, cols - 1, min(count, cols)).astype(np.int64))

    def some(self, chosen: Rows) -> "_Column":
        """Return some of the columns, for a look at the residual."""
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

    def _shared(
        self, laws: list[Float32], probe: FloatArray, second: Rows, below: Float32 | None
    ) -> Correction:
        """Return the correction before its terms are fitted; `below` multiplies `second` rows."""
        matrix = self._matrix()
        if below is not None:
            matrix = np.concatenate([matrix, below])
        basis = self.basis[: probe.shape[1]].astype(np.float32)
        terms = np.zeros((2, 0), np.float32)
        return Correction(
            matrix,
            np.stack([_at_cells(law, self.arrival) for law in laws]),
            second,
            basis,
            probe.astype(np.float32),
            self._common(),
            terms,
            np.inf,
        )

    def _second(self) -> tuple[Float32, FloatArray]:
        """Matrix and law of what cells of different conductance do differently.

        With resistive row lines, of what cells do that see another share of the drive.
        """
        if self.arrival < 1.0:
            shares = [
                p.effective * (p.arrival / self.arrival - 1.0)
                - n.effective * (n.arrival / self.arrival - 1.0)
                for p, n in self.pairs
            ]
            order = np.array([a + b for a, b in powers(self.cell.degree)], float)
            return np.asarray(np.concatenate(shares, axis=1), np.float32), order * self._relative()
        alpha = self.alpha
        parts = [
            p.g * p.z * (p.alpha - alpha) - n.g * n.z * (n.alpha - alpha) for p, n in self.pairs
        ]
        law = self.cell.slope - self.law * self.scale * self.per_alpha
        return np.asarray(np.concatenate(parts, axis=1), np.float32), law

    def _share(self, x: Float32) -> float:
        """Return the share of an input that bit lines take on average."""
        u = (x @ self.probe) @ self.basis
        total = float(np.vdot(x, x))
        return float(np.vdot(x, u)) / total if total else 0.0

    def hardest(self, x: Float32) -> list[Rows]:
        """Return rows for a second product: the few that put most into it, more, and all."""
        matrix, law = self._second()
        bent = on_the_line(law, self.cell.degree, self._share(x), 0.0)[0]
        driven = x * np.polynomial.polynomial.polyval(x, bent)
        order = np.argsort(-np.square(driven).sum(axis=0) * np.square(matrix).sum(axis=1))
        counts = [count for count in SECOND if count < len(matrix)] + [len(matrix)]
        return [np.sort(order[:count]) for count in counts]

    def pointwise(self, x: Float32, second: Rows = NO_ROWS) -> Correction:
        """Bend each input at the share of it that bit lines take on average."""
        share, degree, below = self._share(x), self.cell.degree, None
        laws = [on_the_line(self._relative(), degree, share, 1.0)]
        if second.size:
            whole, law = self._second()
            below = whole[second]
            laws.append(on_the_line(law, degree, share, 0.0))
        return self._shared(laws, self.probe[:, :0], second, below)

    def profiled(self, fine: bool) -> Correction:
        """Bend inputs at the mean bit-line profile of all of them."""
        degree, second, below = self.cell.degree, NO_ROWS, None
        laws = [law_matrix(self._relative(), degree)]
        if fine:
            below, law = self._second()
            second = np.arange(len(below))
            laws.append(law_matrix(law, degree))
        return self._shared(laws, self.probe, second, below)


def _mean_arrival(pairs: list[tuple[Float32, Float32]], wires: Wires) -> float:
    """Share of the rows' drive that arrives at the cells, mean over their conductances."""
    if not wires.r_row:
        return 1.0
    arrays = [array for pair in pairs for array in pair]
    total = sum(float(np.vdot(array, wires.arrival(array))) for array in arrays)
    return total / sum(float(array.sum(dtype=float)) for array in arrays)


def _at_cells(law: Float32, arrival: float) -> Float32:
    """Return the law of voltages of which a share arrives; powers of u down, of v across."""
    u, v = np.indices(law.shape)
    return np.asarray(law * arrival ** (u + v), np.float32)


def _mean_alpha(pairs: list[tuple[OhmicArray, OhmicArray]]) -> float:
    """Deviation of the average cell, weighted by the squared effective matrix."""
    weight, total = 0.0, 0.0
    for p, n in pairs:
        square = (p.effective - n.effective) ** 2
        total += float((square * np.where(p.g > n.g, p.alpha, n.alpha)).sum(dtype=float))
        weight += float(square.sum(dtype=float))
    return total / weight if weight else 0.0


@dataclass(frozen=True)
class _Products:
    """What a correction without terms gives for inputs: outputs y, common current s, power q."""

    y: FloatArray  # (samples, cols)
    s: FloatArray  # (samples, cols), the same in every column
    q: FloatArray  # (samples, 1)

    @classmethod
    def of(cls, shared: Correction, x: Float32, rest: float) -> "_Products":
        driven, _ = shared.drive(x, rest)
        y = (driven @ shared.matrix).astype(float)
        driven = driven[:, : shared.common.size]
        s = driven.astype(float) @ shared.common
        q = np.square(driven, dtype=float).mean(axis=1, keepdims=True)
        return cls(y, np.broadcast_to(s[:, None], y.shape), q)

    def linear(self) -> FloatArray:
        """Features whose coefficients enter the matrix."""
        return np.stack([self.y, self.s])

    def all(self) -> FloatArray:
        """The same, and those that grow with the power."""
        return np.stack([self.y, self.s, self.y * self.q, self.s * self.q])


def _with_gains(shared: Correction, target: FloatArray, x: Float32, rest: float) -> Correction:
    """Fit gain and common-mode share of every column to the first-order outputs."""
    found = _Products.of(shared, x, rest)
    (gain, offset), rms = _fit_terms(target, found.y, found.linear())
    matrix = shared.matrix * (1.0 + gain).astype(np.float32)
    matrix[: shared.common.size] += np.outer(shared.common, offset).astype(np.float32)
    return replace(shared, matrix=matrix, rms=rms)


def _with_terms(shared: Correction, target: FloatArray, x: Float32, rest: float) -> Correction:
    """Fit gains, and terms that grow with the power of the inputs where gains are not enough."""
    plain = _with_gains(shared, target, x, rest)
    if plain.rms <= ENOUGH:
        return plain
    found = _Products.of(shared, x, rest)
    (gain, offset, c0, c1), rms = _fit_terms(target, found.y, found.all())
    slope = c0 / (1.0 + gain)
    terms = np.stack([slope, c1 - slope * offset]).astype(np.float32)
    matrix = shared.matrix * (1.0 + gain).astype(np.float32)
    matrix[: shared.common.size] += np.outer(shared.common, offset).astype(np.float32)
    return replace(shared, matrix=matrix, terms=terms, rms=rms)


def _held_out(
    found: Correction, target: FloatArray, x: Float32, rest: float
) -> tuple[float, float]:
    """Return the error on every other input of gains fitted on the rest, in LSB: rms, largest."""
    products = _Products.of(found, x, rest)
    features = products.linear()
    (terms, _) = _fit_terms(target[::2], products.y[::2], features[:, ::2])
    left = target[1::2] - products.y[1::2] - np.einsum("fmc,fc->mc", features[:, 1::2], terms)
    error = _in_lsb(left, target)
    return float(np.sqrt(np.mean(error**2))), float(np.abs(error).max(initial=0.0))


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

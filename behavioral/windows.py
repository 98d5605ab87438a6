"""Windows of a function: the rows of a decision tree per output bit, located exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.errors import ParameterError

FloatArray = NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_GRID = 1 << 14  # samples of a function before refinement
_BISECTIONS = 60  # enough to reach neighbouring float64 numbers


@dataclass(frozen=True)
class Windows:
    """Intervals of the input in which each output bit is 1.

    Build one with `from_function` or `from_levels`.

    Parameters
    ----------
    lo, hi : (rows,) float arrays
        Ends of the intervals in units of the function's argument; infinite where a run of ones
        reaches the end of the range.
    bit : (rows,) int array
        Output bit of each row, 0 = least significant.
    bits : int
        Width of the output code.
    gray : bool
        The bits are those of the Gray code.
    x_range, y_range : (float, float)
        Argument and value at the ends of the code range.
    """

    lo: FloatArray
    hi: FloatArray
    bit: NDArray[np.int64]
    bits: int
    gray: bool
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @classmethod
    def from_function(
        cls,
        f: Function,
        x_range: tuple[float, float],
        y_range: tuple[float, float] | None = None,
        *,
        bits: int = 8,
        gray: bool = True,
    ) -> Self:
        """Quantise ``y = f(x)`` and collect the maximal runs of ones of every output bit.

        The code is ``floor((y - y_lo) / step + 0.5)``, clipped, with ``step`` the value range over
        ``2**bits - 1``. Code edges are bracketed on a grid to which the extrema of ``f`` are
        added, then bisected to float64 precision. Features narrower than 1/16384 of the range
        between two extrema can be missed.

        Parameters
        ----------
        f : callable
            Vectorised, finite on ``x_range``. Steps are allowed.
        x_range : (float, float) [units of x]
        y_range : (float, float) or None [units of y]
            None: the extrema of ``f`` on ``x_range``.

        Raises
        ------
        ParameterError
            An empty range, bits outside 1..16, or ``f`` not finite.
        """
        _check_range("x_range", x_range)
        if not 1 <= bits <= 16:
            raise ParameterError(f"bits = {bits}: an output code has 1 to 16 bits")
        x, y = _sample(f, x_range)
        low, high = y_range if y_range is not None else (float(y.min()), float(y.max()))
        _check_range("y_range", (low, high))
        step = (high - low) / (2**bits - 1)

        def level(x: FloatArray) -> FloatArray:
            codes = np.floor((f(x) - low) / step + 0.5)
            return np.asarray(np.clip(codes, 0, 2**bits - 1), dtype=np.float64)

        edges = _edges(level, x)
        middles = (edges[:-1] + edges[1:]) / 2
        codes = level(middles).astype(np.int64)
        return cls._from_runs(edges, codes, bits, gray, x_range, (low, high))

    @classmethod
    def from_levels(
        cls,
        codes: ArrayLike,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        bits: int = 8,
        gray: bool = True,
    ) -> Self:
        """Collect the runs of a function that is only ever asked at uniform levels.

        Bounds lie midway between neighbouring levels (as a decision tree trained on them would
        put them), which leaves the largest margin to threshold noise and drops windows that no
        level can hit.

        Parameters
        ----------
        codes : (levels,) int array
            Output code at each of the levels that divide ``x_range`` evenly, ends included.

        Raises
        ------
        ParameterError
            Fewer than two levels, or a code outside the bits.
        """
        codes = np.asarray(codes, dtype=np.int64)
        _check_range("x_range", x_range)
        if codes.ndim != 1 or codes.size < 2:
            raise ParameterError(f"codes of shape {codes.shape}: give at least two levels")
        if codes.min() < 0 or codes.max() >= 2**bits:
            raise ParameterError(
                f"codes from {codes.min()} to {codes.max()} do not fit {bits} bits"
            )
        at = np.linspace(x_range[0], x_range[1], codes.size)
        edges = np.concatenate([at[:1], (at[:-1] + at[1:]) / 2, at[-1:]])
        return cls._from_runs(edges, codes, bits, gray, x_range, y_range)

    @classmethod
    def _from_runs(
        cls,
        edges: FloatArray,
        codes: NDArray[np.int64],
        bits: int,
        gray: bool,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
    ) -> Self:
        """Turn codes between consecutive edges into windows per bit; the range ends are open."""
        edges = edges.copy()
        edges[0], edges[-1] = -np.inf, np.inf
        word = codes ^ (codes >> 1) if gray else codes
        lo, hi, bit = [], [], []
        for b in range(bits):
            turns = np.diff(np.concatenate([[0], (word >> b) & 1, [0]]))
            lo.append(edges[:-1][turns[:-1] == 1])
            hi.append(edges[1:][turns[1:] == -1])
            bit.append(np.full(lo[-1].size, b, dtype=np.int64))
        return cls(
            np.concatenate(lo), np.concatenate(hi), np.concatenate(bit), bits, gray,
            (float(x_range[0]), float(x_range[1])), (float(y_range[0]), float(y_range[1])),
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """Number of rows (ACAM cells of one column)."""
        return int(self.lo.size)

    def values(self) -> NDArray[np.float32]:
        """Return the value of each code, (2**bits,) float32 [units of y]."""
        low, high = self.y_range
        return np.linspace(low, high, 2**self.bits).astype(np.float32)

    def on_data_line(
        self, x_lo: ArrayLike | None = None, x_hi: ArrayLike | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Place the windows on the data lines of one or many columns.

        Parameters
        ----------
        x_lo, x_hi : (columns,) float arrays or floats [units of x]
            Argument of the function at the lower and the upper end (u = 0 and 1) of each
            column's data line: this is where a column's bias and range enter. An argument that
            falls along the line (``x_lo > x_hi``) is allowed. Default: `x_range`.

        Returns
        -------
        lo, hi : (columns, rows) float32 arrays
            Bounds in u. Rows keep their order.

        Raises
        ------
        ParameterError
            A column whose ends coincide or are not finite.
        """
        start = np.atleast_1d(np.asarray(self.x_range[0] if x_lo is None else x_lo, np.float64))
        stop = np.atleast_1d(np.asarray(self.x_range[1] if x_hi is None else x_hi, np.float64))
        span = stop - start
        if not np.all(np.isfinite(span) & (span != 0)):
            bad = int(np.flatnonzero(~(np.isfinite(span) & (span != 0)))[0])
            raise ParameterError(
                f"column {bad}: the data line needs two different finite ends; give x_lo != x_hi"
            )
        a = ((self.lo - start[:, None]) / span[:, None]).astype(np.float32)
        b = ((self.hi - start[:, None]) / span[:, None]).astype(np.float32)
        return np.minimum(a, b), np.maximum(a, b)


def _check_range(name: str, ends: tuple[float, float]) -> None:
    if not (np.isfinite(ends[0]) and np.isfinite(ends[1]) and ends[0] < ends[1]):
        raise ParameterError(f"{name} = {tuple(ends)}: give two finite numbers, lower first")


def _sample(f: Function, x_range: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Sample ``f`` on a grid to which the refined places of its extrema are added."""
    x = np.linspace(x_range[0], x_range[1], _GRID + 1)
    y = np.asarray(f(x), dtype=np.float64)
    if y.shape != x.shape or not np.all(np.isfinite(y)):
        raise ParameterError("the function must be vectorised and finite on the whole x_range")
    slope = np.sign(np.diff(y))
    turns = np.flatnonzero(slope[:-1] * slope[1:] < 0) + 1
    left, right, sign = x[turns - 1], x[turns + 1], slope[turns - 1]
    for _ in range(_BISECTIONS):  # ternary search for the peak of sign * f
        a, b = left + (right - left) / 3, right - (right - left) / 3
        rising = sign * f(a) < sign * f(b)
        left, right = np.where(rising, a, left), np.where(rising, right, b)
    x = np.unique(np.concatenate([x, (left + right) / 2]))
    return x, np.asarray(f(x), dtype=np.float64)


def _edges(level: Function, x: FloatArray) -> FloatArray:
    """Bisect every change of the level between samples; the range ends are included."""
    at = level(x)
    change = np.flatnonzero(np.diff(at) != 0)
    count = np.abs(at[change + 1] - at[change]).astype(np.int64)
    place = np.repeat(change, count)
    order = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    base = np.minimum(at[place], at[place + 1])
    wanted = base + 1 + order
    rising = at[place + 1] > at[place]
    left, right = x[place], x[place + 1]
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        beyond = (level(middle) >= wanted) == rising
        left, right = np.where(beyond, left, middle), np.where(beyond, middle, right)
    inner = np.sort((left + right) / 2)
    edges = np.concatenate([x[:1], inner, x[-1:]])
    keep = np.concatenate([[True], np.diff(edges) > 1e-13 * (x[-1] - x[0])])
    return np.asarray(edges[keep], dtype=np.float64)

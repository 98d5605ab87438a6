"""Overlap of the two halves of an ACAM cell: from programmed thresholds to effective edges.

Both halves pull one match line. A row matches where ``f_lo(v - A) + f_hi(B - v) < 1``, with A and
B the thresholds of the two halves and f the characterised share of the tripping drop. Narrow
windows therefore shrink, and vanish below a width of a few millivolts, unless they are programmed
wider. Both directions are tabulated here once per cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from circuits.errors import ParameterError

FloatArray = NDArray[np.float64]
Share = Callable[[FloatArray, FloatArray], FloatArray]

_A_POINTS = 64  # lower thresholds
_D_POINTS = 128  # widths, uniform in the square root above the smallest matching width
_W_POINTS = 256  # effective widths
_THIRDS = 40  # steps of the ternary search
_HALVINGS = 26  # of a bisection: width / 2**26 is a nanovolt
_LEAST = 1e-6  # a share below this is numerical noise of the simulator


@dataclass(frozen=True)
class Overlap:
    """Tables between programmed thresholds (A, B) and effective edges.

    Parameters
    ----------
    a_lo, a_hi : float [V]
        Ends of the uniform axis of the lower threshold A.
    width_max : float [V]
        Windows wider than this are unaffected.
    least : (a,) float32 array [V]
        Smallest B - A at which a row matches at all.
    narrow : (2, a, d) float32 array [V]
        Distance of the effective edges inside A and B, against
        ``sqrt((B - A - least) / (width_max - least))`` on [0, 1].
    widen : (2, a, w) float32 array [V]
        Distance by which A and B must lie outside the wanted edges, against the wanted width on
        [0, width_max].
    """

    a_lo: float
    a_hi: float
    width_max: float
    least: NDArray[np.float32]
    narrow: NDArray[np.float32]
    widen: NDArray[np.float32]

    @classmethod
    def from_curves(
        cls,
        th_lower: ArrayLike,
        th_upper: ArrayLike,
        offset_v: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
    ) -> Self:
        """Tabulate both directions from characterised shares.

        Parameters
        ----------
        th_lower, th_upper : (n,) float arrays [V]
            Thresholds along a common conductance axis, increasing.
        offset_v : (m,) float array [V]
            Distance from the threshold into the match side, increasing from 0.
        lower, upper : (n, m) float arrays
            Share of the tripping drop that a half still causes; 1 at offset 0.

        Raises
        ------
        ParameterError
            Shapes that do not fit, or shares that are not finite.
        """
        offsets = np.asarray(offset_v, np.float64)
        curves = [np.asarray(th, np.float64) for th in (th_lower, th_upper)]
        shares = [np.asarray(share, np.float64) for share in (lower, upper)]
        for share, curve in zip(shares, curves, strict=True):
            if share.shape != (curve.size, offsets.size) or not np.all(np.isfinite(share)):
                raise ParameterError(
                    f"overlap of shape {share.shape} must be finite and of shape"
                    f" ({curve.size}, {offsets.size}); characterise the ACAM again"
                )
        f_lo, f_hi = (_share(th, offsets, share) for th, share in zip(curves, shares, strict=True))
        a = np.linspace(curves[0][0], curves[0][-1], _A_POINTS)
        width = float(offsets[-1])
        least = _least_width(a, width, f_lo, f_hi)
        t = np.linspace(0.0, 1.0, _D_POINTS)
        d = least[:, None] + t**2 * (width - least[:, None])
        edges = _edges(np.broadcast_to(a[:, None], d.shape), d, f_lo, f_hi)
        effective = np.maximum.accumulate(d - edges[0] - edges[1], axis=1)
        wanted = np.linspace(0.0, width, _W_POINTS)
        widen = [
            [np.interp(wanted, w, e) for w, e in zip(effective, edge, strict=True)]
            for edge in edges
        ]
        return cls(
            float(a[0]), float(a[-1]), width, least.astype(np.float32),
            edges.astype(np.float32), np.array(widen, dtype=np.float32),
        )  # fmt: skip


def _share(th: FloatArray, offsets: FloatArray, share: FloatArray) -> Share:
    """Interpolate a half's share: log-PCHIP along the offset, linear along the threshold."""
    dense = np.linspace(0.0, offsets[-1], 1001)
    logs = PchipInterpolator(offsets, np.log(np.clip(share, _LEAST, 1.0)), axis=1)(dense)
    values = np.where(logs <= np.log(2 * _LEAST), 0.0, np.exp(logs))

    def f(threshold: FloatArray, offset: FloatArray) -> FloatArray:
        row = np.interp(threshold, th, np.arange(th.size))
        column = np.clip(offset / dense[1], 0.0, dense.size - 1.0)
        i = np.minimum(row.astype(np.int64), th.size - 2)
        j = np.minimum(column.astype(np.int64), dense.size - 2)
        p, q = row - i, column - j
        low = values[i, j] * (1 - q) + values[i, j + 1] * q
        high = values[i + 1, j] * (1 - q) + values[i + 1, j + 1] * q
        return np.asarray(low * (1 - p) + high * p)

    return f


def _valley(
    a: FloatArray, d: FloatArray, f_lo: Share, f_hi: Share
) -> tuple[FloatArray, FloatArray]:
    """Return where, as a distance from A, the sum of the shares is least, and that sum."""

    def total(x: FloatArray) -> FloatArray:
        return np.asarray(f_lo(a, x) + f_hi(a + d, d - x))

    left, right = np.zeros_like(d), d.copy()
    for _ in range(_THIRDS):
        p, q = left + (right - left) / 3, right - (right - left) / 3
        falling = total(p) > total(q)
        left, right = np.where(falling, p, left), np.where(falling, right, q)
    x = (left + right) / 2
    return x, total(x)


def _least_width(a: FloatArray, width: float, f_lo: Share, f_hi: Share) -> FloatArray:
    low, high = np.zeros_like(a), np.full_like(a, width)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        matches = _valley(a, middle, f_lo, f_hi)[1] < 1.0
        low, high = np.where(matches, low, middle), np.where(matches, middle, high)
    return high


def _edges(a: FloatArray, d: FloatArray, f_lo: Share, f_hi: Share) -> FloatArray:
    """Distances of both effective edges inside A and B = A + d, (2, ...)."""
    valley = _valley(a, d, f_lo, f_hi)[0]
    found = []
    for outer in (np.zeros_like(d), d):
        outside, inside = outer, valley
        for _ in range(_HALVINGS):
            x = (outside + inside) / 2
            matches = f_lo(a, x) + f_hi(a + d, d - x) < 1.0
            outside, inside = np.where(matches, outside, x), np.where(matches, x, inside)
        found.append(np.abs(inside - outer))
    return np.stack(found)

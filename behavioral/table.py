"""Interpolation on characterised axes; leaving the axes is a decision, never an accident."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.errors import FormatError, TableRangeError

Policy = Literal["error", "clip"]


class Table:
    """A characterised quantity on one or more axes.

    Parameters
    ----------
    name : str
        What the table holds, for messages.
    axes : sequence of (name, 1-D array)
        Strictly increasing, in SI units.
    values : array
        One value per grid point; NaN (a failed simulation) is refused.
    policy : "error" or "clip"
        What a look-up outside the axes does: raise, or use the nearest edge and count.
    method : "linear" or "pchip" or "cubic"
        Interpolation; pchip keeps monotonic data monotonic.
    log : sequence of str
        Axes that are interpolated in their logarithm (conductances).

    Attributes
    ----------
    lookups, clipped : int
        Coordinates asked for so far, and how many of them were clipped to an edge.

    Raises
    ------
    FormatError
        Axis not increasing, shape mismatch, or NaN in the values.
    """

    def __init__(
        self,
        name: str,
        axes: Sequence[tuple[str, ArrayLike]],
        values: ArrayLike,
        *,
        policy: Policy = "error",
        method: Literal["linear", "pchip", "cubic"] = "linear",
        log: Sequence[str] = (),
    ) -> None:
        from scipy.interpolate import RegularGridInterpolator

        if policy not in ("error", "clip"):
            raise ValueError(f"policy {policy!r} is neither 'error' nor 'clip'")
        self.name = name
        self.policy = policy
        self.axes = tuple((axis, np.asarray(points, float)) for axis, points in axes)
        self.values = np.asarray(values, float)
        self.lookups = 0
        self.clipped = 0
        self._log = tuple(axis in log for axis, _ in self.axes)
        self._check()
        grid = [self._scale(k, points) for k, (_, points) in enumerate(self.axes)]
        self._interpolate = RegularGridInterpolator(grid, self.values, method=method)

    def _check(self) -> None:
        expected = tuple(points.size for _, points in self.axes)
        if self.values.shape != expected:
            raise FormatError(f"table {self.name}: values {self.values.shape}, axes {expected}")
        for axis, points in self.axes:
            if points.ndim != 1 or points.size < 2 or not np.all(np.diff(points) > 0):
                raise FormatError(f"table {self.name}: axis {axis} is not strictly increasing")
        if not np.isfinite(self.values).all():
            bad = int((~np.isfinite(self.values)).sum())
            raise FormatError(
                f"table {self.name}: {bad} of {self.values.size} points are missing; "
                "make the library again: nldpe characterize --out FILE.h5"
            )

    def _scale(self, k: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(x) if self._log[k] else x

    def _bounded(self, k: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        axis, points = self.axes[k]
        if np.isnan(x).any():
            raise TableRangeError(f"table {self.name}: {axis} is NaN")
        low, high = points[0], points[-1]
        outside = int(((x < low) | (x > high)).sum())
        self.lookups += x.size
        self.clipped += outside
        if outside and self.policy == "error":
            raise TableRangeError(
                f"table {self.name}: {axis} = {x.min():.6g} .. {x.max():.6g} leaves the "
                f"characterised range {low:.6g} .. {high:.6g} ({outside} look-ups); choose "
                "policy='clip' or characterise a wider range: nldpe characterize --set ..."
            )
        return np.clip(x, low, high)

    def __call__(self, *coordinates: ArrayLike) -> NDArray[np.float64]:
        """Interpolate at coordinates (one array per axis, broadcast against each other).

        Raises
        ------
        TableRangeError
            NaN in, or outside the axes while the policy is "error".
        """
        if len(coordinates) != len(self.axes):
            raise ValueError(f"table {self.name} has {len(self.axes)} axes")
        arrays = np.broadcast_arrays(*(np.asarray(x, float) for x in coordinates))
        points = [self._scale(k, self._bounded(k, x)) for k, x in enumerate(arrays)]
        return np.asarray(self._interpolate(np.stack(points, axis=-1)))

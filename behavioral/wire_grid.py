r"""Arrays whose row lines have resistance too: networks in two dimensions.

Normalised as in :mod:`behavioral.kernels.ladder`. The driver of row ``i`` feeds cell ``(i, 0)``
through one segment ``r_row``, and each cell feeds the next through another; the far end is open.
Bit lines are those of the ladder: segments ``r``, and ``r_end`` from the last row to the virtual
ground. An ohmic array stays linear, so its outputs are ``x @ T``; :func:`effective_matrix` finds
``T`` when an array is programmed.

Seen from its rows, bit line ``c`` is a conductance matrix ``Y_c``. With ``A_c`` that of all columns
from ``c`` on, an input voltage reaches column ``c`` as ``F_c = (1 + r_row A_c)^-1``, and

.. math:: A_c = Y_c + A_{c+1} F_{c+1}, \qquad T_{c'} = F_0 F_1 \cdots F_{c'} t_{c'},

with ``t`` the transfer of one column (a block-tridiagonal elimination from the open end).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.threads import one_blas_thread
from circuits.errors import ParameterError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GridSolution:
    """Voltages of all nodes, and the output currents.

    Attributes
    ----------
    row, line : (samples, rows, cols) float array
        Voltage of the row line and of the bit line at each cell.
    output : (samples, cols) float array
        Current into the read-out.
    """

    row: FloatArray
    line: FloatArray
    output: FloatArray


class WireGrid:
    """An ohmic array with all its wires, factorised: the exact solution, for small arrays.

    Parameters
    ----------
    g : (rows, cols) array
        Cell conductances. Any consistent units: siemens with ohm, or normalised.
    r_row, r, r_end : float
        Resistance of a segment of a row line and of a bit line, and from the last row to the
        virtual ground; each may be zero.

    Raises
    ------
    ParameterError
        Conductances or resistances that are negative or not finite.
    """

    def __init__(self, g: ArrayLike, r_row: float, r: float, r_end: float) -> None:
        from scipy.sparse.linalg import splu

        self.g = np.array(g, float)
        wires = np.array([r_row, r, r_end], float)
        if self.g.ndim != 2 or not all(
            np.isfinite(x).all() and (x >= 0).all() for x in (self.g, wires)
        ):
            raise ParameterError(
                f"conductances {self.g.shape} and wire resistances {wires.tolist()} must be finite "
                "and not negative, conductances in two dimensions"
            )
        self._factors = splu(self._equations(*wires).tocsc()) if self.g.size else None

    def _equations(self, r_row: float, r: float, r_end: float) -> Any:
        """Kirchhoff's laws; unknown are row nodes, line nodes, row and line segment currents.

        Segment currents are unknowns, so that a segment may have no resistance.
        """
        from scipy import sparse

        rows, cols = self.g.shape
        one, g = sparse.eye_array(rows * cols), sparse.diags_array(self.g.ravel())
        # current of a segment less that of the next one, along a row and along a bit line
        along_row = sparse.kron(sparse.eye_array(rows), _difference(cols))
        along_line = sparse.kron(_difference(rows), sparse.eye_array(cols))
        segments = np.full((rows, cols), r)
        segments[-1] = r_end
        line = sparse.diags_array(segments.ravel())
        return sparse.block_array(
            [
                [g, -g, -along_row, None],
                [-g, g, None, along_line.T],
                [along_row.T, None, r_row * one, None],
                [None, along_line, None, -line],
            ]
        )

    def solve(self, x: ArrayLike, injected: ArrayLike = 0.0) -> GridSolution:
        """Return the solution for row voltages.

        Parameters
        ----------
        x : (samples, rows) array
        injected : (samples, rows, cols) array
            Current from row to bit line beside that of the conductances (non-linear cells).
        """
        x, (rows, cols) = np.atleast_2d(np.asarray(x, float)), self.g.shape
        if x.shape[1] != rows:
            raise ParameterError(f"inputs {x.shape} must be (samples, {rows})")
        if self._factors is None:
            empty = np.zeros((len(x), rows, cols))
            return GridSolution(empty, empty, np.zeros((len(x), cols)))
        right = np.zeros((4, len(x), rows, cols))
        right[1] += injected
        right[0] -= right[1]
        right[2, :, :, 0] = x
        flat = right.transpose(0, 2, 3, 1).reshape(-1, len(x))
        found = self._factors.solve(flat).reshape(4, rows, cols, len(x)).transpose(0, 3, 1, 2)
        return GridSolution(found[0], found[1], found[3, :, -1])


def _difference(count: int) -> Any:
    """Matrix of a value less the next one; behind the last comes nothing."""
    from scipy import sparse

    return sparse.diags_array([np.ones(count), -np.ones(count - 1)], offsets=[0, 1])


def effective_matrix(g: ArrayLike, r_row: float, r: float, r_end: float) -> FloatArray:
    """Return the effective matrix T (rows, cols) of an ohmic array: outputs are ``x @ T``.

    Parameters are those of :class:`WireGrid`. Exact but for rounding; some ``4 rows^3 cols``
    floating-point operations, nearly all in products and factorisations of dense matrices.
    """
    from scipy.linalg import lapack

    g = np.asarray(g, float)
    rows, cols = g.shape
    if not g.size:
        return np.zeros((rows, cols))
    near, far = _profiles(g, r, r_end)
    out, seen, one = near.copy(), np.zeros((rows, rows)), np.eye(rows)
    below = np.tri(rows, k=-1, dtype=bool)
    with one_blas_thread():
        for c in range(cols - 1, -1, -1):
            coupling = np.outer(near[:, c], far[:, c])
            coupling[below] = coupling.T[below]
            seen -= coupling
            seen.flat[:: rows + 1] += g[:, c]
            factor, _ = lapack.dpotrf(one + r_row * seen)
            passed, _ = lapack.dpotri(factor)
            passed[below] = passed.T[below]  # LAPACK fills the upper triangle
            out[:, c:] = passed @ out[:, c:]
            seen = seen @ passed
    return out


def node_resistance(g: ArrayLike, r: float, r_end: float) -> FloatArray:
    """Return the resistance of a bit line at each of its nodes, other cells included, (rows, cols).

    `g` holds positive conductances (rows, cols), one bit line a column, rows ideal.
    """
    g = np.asarray(g, float)
    near, far = _profiles(g, r, r_end)
    return np.asarray(near * far / g**2)


def _profiles(g: FloatArray, r: float, r_end: float) -> tuple[FloatArray, FloatArray]:
    """Return (near, far): one volt on row i of a bit line draws ``-near[i] far[j]`` from row j > i.

    `near` is the current that reaches the output, the transfer of the bit line times g.
    """
    near, far = np.empty_like(g), np.empty_like(g)
    profile, current = np.ones(g.shape[1]), np.zeros(g.shape[1])  # from the open end
    for i, cells in enumerate(g):
        near[i] = cells * profile
        current = current + near[i]
        profile = profile + r * current
    profile, current = np.full(g.shape[1], r_end), np.ones(g.shape[1])  # from the read-out
    for i in range(len(g) - 1, -1, -1):
        far[i] = g[i] * profile
        current = current + far[i]
        profile = profile + r * current
    return near / current, far

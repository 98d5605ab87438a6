"""Products with programmed arrays: what drives the rows, and what the read-outs give.

Normalised as in :mod:`behavioral.crossbar`.
"""

from typing import Literal

import numpy as np
from numba import get_num_threads
from numpy.typing import ArrayLike, NDArray

from behavioral.array import ProgrammedArray
from behavioral.blas import multiply
from behavioral.kernels import crossbar as kernels
from behavioral.plain import is_plain, multiply_plain
from behavioral.row_transfer import follow
from behavioral.threads import blocks, in_place, run_all
from circuits.errors import ParameterError, TableRangeError

Float32 = NDArray[np.float32]
Policy = Literal["clip", "error"]

PARALLEL_FROM = 32768  # outputs below which starting threads costs more than it brings


class ArrayReader:
    """Drives the rows of programmed arrays and reads their columns.

    Parameters
    ----------
    rest : float
        Virtual ground of the read-out relative to v_cm, over v_read.
    policy : "clip" or "error"
        What inputs outside [-1, 1] do: drive the rail and count, or raise.

    Attributes
    ----------
    clipped_inputs : int
        Inputs clipped so far.
    """

    def __init__(self, rest: float, policy: Policy) -> None:
        self.rest, self.policy = rest, policy
        self.clipped_inputs = 0

    def multiply(
        self,
        array: ProgrammedArray,
        x: ArrayLike,
        *,
        seed: int | tuple[int, ...] = 0,
        first_sample: int = 0,
    ) -> Float32:
        """Product of inputs with a programmed array, as the circuit gives it.

        Parameters
        ----------
        array : ProgrammedArray
        x : (batch, rows) array
            Normalised row voltages in [-1, 1].
        seed : int or tuple of int
            Stream of the per-read noise.
        first_sample : int
            Number of the first sample in that stream: results do not depend on how samples are
            split into batches.

        Returns
        -------
        (batch, cols) float32 array
            Normalised output currents.

        Raises
        ------
        ParameterError
            Wrong shape or NaN.
        TableRangeError
            Inputs outside [-1, 1] while the policy is "error".
        """
        if not is_plain(array):
            return self.read(array, self.drive(array, x), seed=seed, first_sample=first_sample)
        x = self._check_voltages(array, x)
        y, outside = multiply_plain(array, x, self.rest, seed, first_sample)
        self._count(outside, x)
        return y

    def drive(self, array: ProgrammedArray, x: ArrayLike) -> Float32:
        """Return what the effective matrix is multiplied with for row voltages x (batch, rows)."""
        x = self._check_voltages(array, x)
        driven = np.empty((len(x), len(array.correction.matrix)), np.float32)
        self.drive_rows(array, x, slice(0, array.rows), driven, 0)
        return driven

    def _check_voltages(self, array: ProgrammedArray, x: ArrayLike) -> Float32:
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != array.rows:
            raise ParameterError(f"inputs {x.shape} must be (batch, {array.rows})")
        return x

    def drive_rows(
        self, array: ProgrammedArray, x: Float32, rows: slice, out: Float32, place: int
    ) -> None:
        """Do :meth:`drive` for some columns of x, into columns of `out` from `place` on.

        `x` and `out` are C-contiguous float32 arrays.
        """
        if array.levels is not None:
            asked = x
            x, outside = follow(x, rows, array.levels)
            self._count(outside, asked)
            rows = slice(0, array.rows)
        parallel = _threads(len(x) * array.rows)
        self._count(array.correction.drive_rows(x, rows, self.rest, out, place, parallel), x)

    def bend(self, array: ProgrammedArray, x: ArrayLike) -> list[Float32]:
        """Do `drive` element by element, x of any shape: no bit-line profile, ideal row drivers.

        Returns
        -------
        list of arrays like x: what the effective matrix is multiplied with, and what the second
        product is on the rows that it takes
        """
        x = np.ascontiguousarray(x, dtype=np.float32)
        bent, outside = array.correction.bend(x, self.rest, _threads(x.size))
        self._count(outside, x)
        return bent

    def read(
        self,
        array: ProgrammedArray,
        driven: Float32,
        *,
        seed: int | tuple[int, ...] = 0,
        first_sample: int = 0,
    ) -> Float32:
        """Return the output currents (batch, cols) for what :meth:`drive` or `bend` returned."""
        y = np.empty((len(driven), array.cols), np.float32)

        def fill(place: tuple[slice, slice]) -> None:
            part, columns = place
            first = first_sample + part.start
            with in_place(y, place) as block:
                self.read_block(
                    array, driven[part], columns, seed=seed, first_sample=first, out=block
                )

        run_all(fill, blocks(*y.shape))
        return y

    def read_block(
        self,
        array: ProgrammedArray,
        driven: Float32,
        columns: slice,
        *,
        seed: int | tuple[int, ...] = 0,
        first_sample: int = 0,
        out: Float32,
    ) -> None:
        """Do :meth:`read` for one panel of columns, as `behavioral.threads.blocks` cuts them.

        Parameters
        ----------
        array : ProgrammedArray
        driven : (batch, rows of the matrix) float32 array
        columns : slice
            The panel; per-read noise has a stream for each.
        seed, first_sample
            As in :meth:`multiply`.
        out : (batch, cols of the panel) float32 array
            C-contiguous, receives the output currents.
        """
        found = array.correction
        multiply(driven, found.matrix, columns, out)
        if found.terms.size:
            terms = np.ascontiguousarray(found.terms[:, columns])
            kernels.correct(out, driven, found.common, terms)
        if array.spread is not None:
            array.spread.disturb(out, driven, columns, seed, first_sample)

    def _count(self, outside: int, x: Float32) -> None:
        if not outside:
            return
        if np.isnan(x).any():
            raise ParameterError("inputs hold NaN")
        if self.policy == "error":
            raise TableRangeError(
                f"{outside} inputs leave [-1, 1] (largest {np.abs(x).max():.4g}); scale them, or "
                "use policy='clip'"
            )
        self.clipped_inputs += outside


def _threads(size: int) -> bool:
    """Return whether a kernel over so many numbers is worth starting threads."""
    return size >= PARALLEL_FROM and get_num_threads() > 1

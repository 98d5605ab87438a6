"""The product of a non-linear column: matrix, input law and per-column terms.

`behavioral.correction_fit` finds them when an array is programmed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import DEGREE
from behavioral.kernels import crossbar as kernels

Float32 = NDArray[np.float32]

BASIS = 5  # Legendre functions that carry the mean bit-line profile


@dataclass(frozen=True)
class Correction:
    """Matrix, input law and per-column terms of the product.

    Attributes
    ----------
    matrix : (rows + second, cols) float32 array
        Effective matrix of the four arrays, read-out and wires included; below it the matrix of
        the second product.
    laws : (parts, degree + 1, degree + 1) or (1, 1, degree + 1) float32 array
        Non-linearity of the mean cell (and of its neighbours), powers of u down, of v across;
        without bit-line profile, the whole law in powers of v.
    second : (second,) int64 array
        Rows that the second product takes; empty where there is none.
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
    second: NDArray[np.int64]
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
        small = (self.laws, self.second, self.basis, self.probe, self.common, self.terms)
        parts = (self.matrix, *small)
        return sum(part.nbytes for part in parts)

    def drive(self, x: Float32, rest: float, parallel: bool = False) -> tuple[Float32, int]:
        """Return what is multiplied with the matrix, and how many inputs left [-1, 1] (or NaN)."""
        out = np.empty((len(x), len(self.matrix)), np.float32)
        return out, self.drive_rows(x, slice(0, x.shape[1]), rest, out, 0, parallel)

    def drive_rows(
        self, x: Float32, rows: slice, rest: float, out: Float32, place: int, parallel: bool = False
    ) -> int:
        """Do `drive` for some inputs of x, into columns of `out` from `place` on."""
        size, ground = rows.stop - rows.start, np.float32(rest)
        if self.pointwise:
            kernel = kernels.bend_parallel if parallel else kernels.bend
            if self.second.size:
                some = np.take(x, self.second + rows.start, axis=1)
                kernel(some, 0, self.second.size, ground, self.laws[1, 0], out, place + size)
            return int(kernel(x, rows.start, size, ground, self.laws[0, 0], out, place))
        linearize = kernels.linearize_parallel if parallel else kernels.linearize
        profile = np.ascontiguousarray(self.probe.T), self.basis
        return int(linearize(x, rows.start, ground, *profile, self.laws, out, place))

    def bend(self, x: Float32, rest: float, parallel: bool = False) -> tuple[list[Float32], int]:
        """Bend inputs one by one with every law, whichever rows it is for; x has any shape."""
        flat, parts = x.reshape(1, -1), [np.empty_like(x) for _ in self.laws]
        kernel, outside = kernels.bend_parallel if parallel else kernels.bend, 0
        for out, law in zip(parts, self.laws, strict=True):
            into = out.reshape(1, -1)
            outside = int(kernel(flat, 0, x.size, np.float32(rest), law[0], into, 0))
        return parts, outside


def no_correction(matrix: Float32) -> Correction:
    """Return the correction of an ohmic array: none."""
    rows = len(matrix)
    return Correction(
        matrix,
        np.eye(1, DEGREE + 1, dtype=np.float32)[None],
        np.zeros(0, np.int64),
        np.zeros((0, rows), np.float32),
        np.zeros((rows, 0), np.float32),
        np.zeros(rows, np.float32),
        np.zeros((2, 0), np.float32),
        0.0,
    )

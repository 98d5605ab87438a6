"""Spare rows of an ACAM unit: write-verify finds a stuck device, and another row takes the window.

A row is wired to one output bit, so every bit has spare rows of its own. Ours: the released code
of NL-DPE speaks of spare rows but does not say how many there are or how they are wired.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float32]

UNUSED = (2.0, 3.0)  # a window above the data line: no device is programmed


def add_spares(
    lo: Float, hi: Float, bit: NDArray[np.int64], bits: int, spares: int, columns: int
) -> tuple[Float, Float, NDArray[np.int64]]:
    """Add unused rows to the windows of a unit.

    Parameters
    ----------
    lo, hi : (columns or 1, rows) float32 arrays
    bit : (rows,) int array
    bits : of the output code.
    spares : unused rows for each output bit.
    columns : of the unit; shared windows become windows of each column.

    Returns
    -------
    lo, hi : (columns, rows + bits * spares) float32 arrays
    bit : (rows + bits * spares,) int array
    """
    extra, shape = bits * spares, (columns, lo.shape[1])
    parts = [
        np.hstack([np.broadcast_to(part, shape), np.full((columns, extra), end, np.float32)])
        for part, end in zip((lo, hi), UNUSED, strict=True)
    ]
    return parts[0], parts[1], np.concatenate([bit, np.repeat(np.arange(bits), spares)])


def take_over(lo: Float, hi: Float, bit: NDArray[np.int64], stuck: NDArray[np.bool_]) -> int:
    """Move windows in place from rows with a stuck device to intact unused rows of their bit.

    Parameters
    ----------
    lo, hi : (columns, rows) float32 arrays
        Wanted bounds in u; a branch that is open (lo <= 0, hi >= 1) needs no device.
    bit : (rows,) int array
    stuck : (columns, rows, 2) bool array

    Returns
    -------
    rows that are needed and stay dead
    """
    return int(_take_over(lo, hi, bit, stuck))


@njit(cache=True, nogil=True)
def _take_over(lo, hi, bit, stuck):  # type: ignore[no-untyped-def]
    zero, one = np.float32(0.0), np.float32(1.0)
    dead = 0
    for j in range(lo.shape[0]):
        for r in range(lo.shape[1]):
            needed = lo[j, r] < one and hi[j, r] > zero and lo[j, r] < hi[j, r]
            low, high = lo[j, r] > zero, hi[j, r] < one
            if not needed or not ((stuck[j, r, 0] and low) or (stuck[j, r, 1] and high)):
                continue
            dead += 1
            for s in range(lo.shape[1]):
                free = bit[s] == bit[r] and lo[j, s] >= one and s != r
                if free and not (stuck[j, s, 0] and low) and not (stuck[j, s, 1] and high):
                    lo[j, s], hi[j, s] = lo[j, r], hi[j, r]
                    lo[j, r], hi[j, r] = np.float32(2.0), np.float32(3.0)
                    dead -= 1
                    break
    return dead

"""What row drivers make of the voltages that they are asked for.

Normalised as in :mod:`behavioral.crossbar`. Every array of up to 256 columns has drivers of its
own, and a row loads its driver with the conductance of all its cells. Inputs are driven as the mean
row of all arrays would be, and the arrays' own gains against that mean go into the matrix.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.kernels import dac
from behavioral.programming import Group, Programmer

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]

LEAST_GAIN = 0.1  # of a row that larger weights make up for


class RowTransfer:
    """The static transfer of a characterised row driver.

    Parameters
    ----------
    data : RowTransferData
    v_read : float
        Full row swing [V].

    Attributes
    ----------
    heaviest : float
        Largest load of the table [S]; heavier rows are taken for it.
    """

    def __init__(self, data: Any, v_read: float) -> None:
        from scipy.interpolate import PchipInterpolator

        self.heaviest = float(data.load_s[-1])
        # over the root of the load, as it was measured: even steps
        self._voltages = PchipInterpolator(np.sqrt(data.load_s), data.row_v / v_read, axis=0)

    def voltages(self, load: FloatArray) -> FloatArray:
        """Return what rows of loads (rows,) [S] are driven to: (rows, levels), asked -1 to 1."""
        inside = np.clip(load, 0.0, self.heaviest)
        return np.asarray(self._voltages(np.sqrt(inside)))

    def levels(self, load: FloatArray) -> Float32:
        """Return the same within [-1, 1]: light rows of a string undershoot by up to 3 %."""
        return np.ascontiguousarray(np.clip(self.voltages(load), -1.0, 1.0), dtype=np.float32)

    def gain(self, load: FloatArray) -> Float32:
        """Return the mean slope of rows from rest to full drive; load (rows,) [S]."""
        levels = self.levels(load)
        middle = levels.shape[1] // 2
        return np.asarray(levels[:, -1] - levels[:, middle], np.float32)

    def raised(self, w: Float32, arrays: int, g_min: float, span: float) -> tuple[Float32, int]:
        """Return weights that make up for the gains of their rows, and how many cannot.

        Parameters
        ----------
        w : (rows, cols) float32 array in [-1, 1]
        arrays : int
            Side by side, each with row drivers of its own.
        g_min, span : float
            Smallest cell conductance and its range [S].
        """
        load = g_min * w.shape[1] + span * np.abs(w).sum(axis=1, dtype=float) / 2
        wanted = w / np.maximum(self.gain(load / arrays), np.float32(LEAST_GAIN))[:, None]
        return np.clip(wanted, -1.0, 1.0), int((np.abs(wanted) > 1.0).sum())

    def program(
        self, groups: Sequence[Group], programmer: Programmer, gain: np.float32
    ) -> tuple[Float32, Float32]:
        """Return what drivers make of inputs, and what the arrays' own gains add to the matrix.

        Parameters
        ----------
        groups : sequence of Group
            Every 256 columns, programmed.
        programmer : Programmer
            That has written them.
        gain : float32
            Mean gain of the non-linear cells.

        Returns
        -------
        levels : (rows, levels) float32 array
            Of the mean row of all arrays.
        extra : (rows, all cols) float32 array
        """
        loads = [[g.sum(axis=1, dtype=float) * programmer.span for g in x.pair] for x in groups]
        mean = np.mean(loads, axis=(0, 1))
        common, extra = self.gain(mean), []
        for group, of_pair in zip(groups, loads, strict=True):
            parts = [
                (self.gain(load) / common - 1.0)[:, None] * g * programmer.transfer(g * gain) * gain
                for g, load in zip(group.pair, of_pair, strict=True)
            ]
            extra.append(parts[0] - parts[1])
        return self.levels(mean), np.concatenate(extra, axis=1)


def follow(x: Float32, rows: slice, levels: Float32) -> tuple[Float32, int]:
    """Return what drivers make of some columns of x (batch, inputs), and how many left [-1, 1]."""
    out = np.empty((len(x), rows.stop - rows.start), np.float32)
    return out, int(dac.follow(x, rows.start, levels, out))

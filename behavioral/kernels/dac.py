"""Kernel of the row drivers: activations to DAC codes, as row voltages."""

# mypy: allow-untyped-defs
import numpy as np
from numba import njit


@njit(cache=True)
def encode(x, steps, low, high, unit, out):
    """Round every input to its nearest code.

    Parameters
    ----------
    x : (samples, inputs) float32 array
    steps : (inputs,) float32 array
        Codes per unit of each input.
    low, high : float32
        Smallest and largest code, counted from that of 0.
    unit : float32
        Row voltage of one code, normalised.
    out : (samples, inputs) float32 array
        Receives the row voltages; NaN stays NaN.
    """
    for m in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[m, i] = min(max(np.rint(x[m, i] * steps[i]), low), high) * unit


@njit(cache=True)
def place(x, levels, out):
    """Replace even row voltages by levels of a DAC whose steps are uneven.

    Parameters
    ----------
    x : (n,) float32 array
        Even ones, in [-1, 1]; what lies beyond is taken for the end, NaN stays.
    levels : (points,) float32 array
        Level at evenly spaced ones from -1 to 1; linear in between.
    out : (n,) float32 array
        Receives the levels.
    """
    last = levels.size - 1
    half = np.float32(0.5) * np.float32(last)
    for i in range(x.size):
        at = (x[i] + np.float32(1.0)) * half
        if np.isnan(at):
            out[i] = at
            continue
        at = min(max(at, np.float32(0.0)), np.float32(last))
        k = min(int(at), last - 1)
        out[i] = levels[k] + (levels[k + 1] - levels[k]) * (at - np.float32(k))


@njit(cache=True)
def follow(x, first, levels, out):
    """Replace row voltages by those that the drivers of the rows give.

    Parameters
    ----------
    x : (samples, inputs) float32 array
    first : int
        Input of the first row.
    levels : (rows, levels) float32 array
        Row voltage at evenly spaced ideal ones from -1 to 1; linear in between.
    out : (samples, rows) float32 array
        Receives the row voltages; NaN stays NaN.

    Returns
    -------
    int
        Inputs outside [-1, 1], taken for its ends, and NaN.
    """
    last = levels.shape[1] - 1
    half = np.float32(0.5) * np.float32(last)
    outside = 0
    for m in range(x.shape[0]):
        for i in range(levels.shape[0]):
            place = (x[m, first + i] + np.float32(1.0)) * half
            if np.isnan(place):
                out[m, i] = place
                outside += 1
                continue
            if place < 0.0 or place > last:
                outside += 1
                place = min(max(place, np.float32(0.0)), np.float32(last))
            k = min(int(place), last - 1)
            low = levels[i, k]
            out[m, i] = low + (levels[i, k + 1] - low) * (place - np.float32(k))
    return outside

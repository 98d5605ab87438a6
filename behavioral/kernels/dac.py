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

"""The characterised 6T2M cell in the form that kernels read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from behavioral.drift import Drift
from behavioral.kernels.acam import Cell
from behavioral.noise import NoiseLaw
from behavioral.overlap import Overlap
from circuits.errors import ParameterError
from circuits.parameters import Device

FloatArray = NDArray[np.float64]

_INVERSE_POINTS = 4096  # data-line positions of the inverse threshold curve
_NO_OVERLAP = Overlap(
    0.0, 1.0, 1.0, *(np.zeros(shape, np.float32) for shape in (2, (2, 2, 2), (2, 2, 2)))
)


def check_curves(g: FloatArray, curves: list[FloatArray], device: Device) -> None:
    """Raise ParameterError unless both curves (n,) rise over conductances that a device needs."""
    for name, curve in zip(("g", "th_lower", "th_upper"), (g, *curves), strict=True):
        if curve.shape != g.shape or g.ndim != 1 or g.size < 4:
            raise ParameterError(f"{name} of shape {curve.shape}; give (n,) arrays with n >= 4")
        if not (np.all(np.isfinite(curve)) and np.all(np.diff(curve) > 0)):
            raise ParameterError(f"{name} must be finite and increasing; characterise again")
    if g[0] <= 0 or g[0] > device.g_min_s or g[-1] < device.g_max_s:
        raise ParameterError(
            f"the curves cover {g[0]:g} to {g[-1]:g} S, the device needs"
            f" {device.g_min_s:g} to {device.g_max_s:g} S; characterise this device"
        )


def sample_cell(
    device: Device,
    g_range: tuple[float, float],
    v_range: tuple[float, float],
    forward: list[PchipInterpolator],
    logs: FloatArray,
    reach: FloatArray,
    overlap: Overlap | None,
) -> Cell:
    """Sample threshold curves, overlap and noise laws of a cell into the form of the kernels.

    Parameters
    ----------
    device : Device
    g_range : (float, float) [S], characterised
    v_range : (float, float) [V], ends of the data line
    forward : threshold [V] of ln G, of the lower and the upper bound
    logs : (n,) float array, ln G that devices can be programmed to
    reach : (2, n) float array [V], thresholds there
    overlap : Overlap or None
    """
    base, nodes = _octaves(*g_range)
    volts = np.linspace(reach[:, 0], reach[:, -1], _INVERSE_POINTS, axis=1)
    inverse = [np.exp(np.interp(v, r, logs)) for v, r in zip(volts, reach, strict=True)]
    laws = (NoiseLaw.write(device), NoiseLaw.read(device))
    write, read = (law.sigma(nodes) for law in laws)
    drift = Drift.of(device)
    o = overlap or _NO_OVERLAP
    step = max(o.a_hi - o.a_lo, 1e-12) / (len(o.least) - 1)
    return Cell(
        inverse=np.array(inverse, np.float32),
        inverse_start=volts[:, 0].astype(np.float32),
        inverse_gain=(1.0 / (volts[:, 1] - volts[:, 0])).astype(np.float32),
        forward=np.stack([th(np.log(nodes)) for th in forward]).astype(np.float32),
        write=write.astype(np.float32),
        read=np.hypot(read, drift.spread).astype(np.float32),
        shift=np.float32(drift.shift),
        base=base,
        g_range=np.array(g_range, np.float32),
        v_range=np.array(v_range, np.float32),
        overlap_axis=np.array([o.a_lo, 1.0 / step, o.width_max, overlap is not None], np.float32),
        least=o.least,
        narrow=o.narrow,
        widen=o.widen,
    )


def _octaves(low: float, high: float) -> tuple[int, FloatArray]:
    """Nodes of an octave table that covers [low, high]; see `kernels.octave_lookup`."""
    words = np.array([low, high], np.float32).view(np.int32) >> 16
    index = np.arange(words[0], words[1] + 2, dtype=np.int32)
    return int(words[0]), (index << 16).astype(np.int32).view(np.float32).astype(np.float64)

"""Energies and times that ngspice measured, read from a library as functions of data.

Cell power: row voltage times the cell's characterised current into a bit line at the virtual
ground (its rise under load, a few mV, is left out). Times: the characterised settling of the loaded
column and of the read-out, and the phases of a search. The ACAM: `system.cost.conversion`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.library import Library
from circuits.errors import SimulationError

Floats = NDArray[np.float64]

REMEDY = "characterise again: nldpe characterize --out FILE.h5"


class CellPower:
    """Dissipation of crossbar cells, from the characterised cell current.

    Between the conductances of the table the power over G is interpolated linearly in ln G, between
    its voltages the power linearly in v squared: exact for ohmic cells.
    """

    def __init__(self, library: Library) -> None:
        data = library.crossbar
        middle = int(np.argmin(np.abs(data.v_bl)))
        self._ln_g = np.log(data.g)
        self._v = np.asarray(data.v_row, float)
        self._power = data.current[:, :, middle] * self._v / data.g[:, None]  # (g, v) [W / S]

    def rows(self, g: Floats) -> Floats:
        """Return the power of whole rows (rows, v) [W] at the table's voltages; g is (rows, n)."""
        g = np.asarray(g, float)
        ln_g = np.clip(np.log(np.maximum(g, 1e-30)), self._ln_g[0], self._ln_g[-1])
        return np.asarray(shares(self._ln_g, ln_g, g) @ self._power)

    def total(self, g: Floats, v: Floats) -> Floats:
        """Return the power [W] (samples,) of an array.

        Parameters
        ----------
        g : (rows, n) array [S]
            RRAM conductances on each row, all columns and all arrays that it drives.
        v : (samples, rows) array [V]
            Row voltages relative to the virtual ground.
        """
        curves, found = self.rows(g), np.zeros(len(v))
        for row, curve in enumerate(curves):
            found += interpolate_square(self._v, curve, v[:, row])
        return found


def interpolate_square(v: Floats, power: Floats, at: Floats) -> Floats:
    """Interpolate power over voltage, linearly in v |v|."""
    return np.asarray(np.interp(at * np.abs(at), v * np.abs(v), power), float)


def shares(axis: Floats, values: Floats, weights: Floats | float = 1.0) -> Floats:
    """Return how much of each row of values (rows, n) falls on each point of an axis, (rows, m).

    A value is shared between its two neighbours as in linear interpolation, so that the weighted
    sum over values of an interpolated function is the product of these shares and its table.
    """
    rows, points = len(values), len(axis)
    right = np.clip(np.searchsorted(axis, values, side="right"), 1, points - 1)
    above = (values - axis[right - 1]) / (axis[right] - axis[right - 1])
    place = right + points * np.arange(rows)[:, None]
    found = np.zeros(rows * points)
    for at, part in ((place - 1, weights * (1.0 - above)), (place, weights * above)):
        found += np.bincount(at.ravel(), part.ravel(), rows * points)
    return found.reshape(rows, points)


def settle_time(library: Library, load: Floats) -> float:
    """Return the time [s] until the slowest of some columns has settled.

    Parameters
    ----------
    load : (columns,) array [S]
        Sum of the conductances of each physical column.

    Raises
    ------
    SimulationError
        The characterised column did not settle.
    """
    data = library.crossbar
    good = np.isfinite(data.settle_s)
    if not good.all() or not good.size:
        raise SimulationError(
            f"the characterised column does not settle at every load (settle_s {data.settle_s}); "
            f"raise readout.opamp_gbw_hz and {REMEDY}"
        )
    mean = np.maximum(load / library.technology.column.rows, data.settle_g[0])
    times = np.interp(np.log(mean), np.log(data.settle_g), data.settle_s)
    return float(times.max())


def search_time(library: Library) -> float:
    """Return precharge and evaluation of one search [s]."""
    acam = library.technology.acam
    return acam.t_precharge_s + acam.t_sense_s


def has_measured_amplifier(library: Library) -> bool:
    """Tell whether ngspice measured the supply current of the read-out amplifiers."""
    power = np.asarray(library.readout.amplifier_power_w)
    return bool(power.size and np.isfinite(power).all())


def amplifier_power(library: Library, gm_over_id: float) -> tuple[float, float]:
    """Return the supply power [W] of a transimpedance stage and of a summing stage.

    Measured where the library has transistor-level amplifiers (class A: at rest as while they
    work); each stage then carries a quarter of the bias generator that four of them share.
    Otherwise an estimate, no SPICE result: the model's output resistance and its bandwidth into the
    data line ask for the transconductances 1 / r_output and 2 pi GBW c_load.
    """
    if has_measured_amplifier(library):
        stage, summing, bias = (float(x) for x in library.readout.amplifier_power_w)
        return stage + bias / 4, summing
    readout = library.technology.readout
    gm = 1.0 / readout.r_output_ohm + 2 * np.pi * readout.opamp_gbw_hz * readout.c_load_f
    power = float(library.technology.vdd_v * gm / gm_over_id)
    return power, power

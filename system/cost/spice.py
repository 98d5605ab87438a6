"""Energies and times that ngspice measured, read from a library as functions of data.

Cell power: row voltage times the cell's characterised current into a bit line at the virtual
ground (its rise under load, a few mV, is left out). ACAM energy: the characterised halves over
conductance and data line, and match lines by what they decide. Times: the characterised settling of
the loaded column and of the read-out, and the phases of a search.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit
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


class SearchEnergy:
    """Energy of ACAM searches, from the characterised halves and match lines."""

    def __init__(self, library: Library, acam: AcamModel) -> None:
        data = library.acam
        self._ln_g = np.log(data.energy_g)
        self._v = np.asarray(data.energy_v_dl, float)
        self._halves = (np.asarray(data.energy_lower_j), np.asarray(data.energy_upper_j))
        self._line = np.asarray(data.energy_match_line_j, float)  # after a match, a mismatch
        self._shared = library.technology.acam.match_lines == 1
        self._acam = acam
        tables = (*self._halves, self._line)
        if not all(np.isfinite(t).all() for t in tables) or not self._line.size:
            raise SimulationError(f"the library lacks points of the ACAM energy table; {REMEDY}")

    def column(self, unit: AcamUnit, column: int, u: Floats) -> Floats:
        """Return the energy [J] of one unit for searches at u (n,) in [0, 1]."""
        assert unit.lo is not None
        assert unit.hi is not None
        assert unit.g_lo is not None
        assert unit.g_hi is not None
        k = column if len(unit.lo) > 1 else 0
        used = programmed_rows(unit, k)
        u = np.clip(np.asarray(u, float), 0.0, 1.0)
        volts = self._acam.voltage(u)
        energy = self._match_lines(unit.lo[k][used], unit.hi[k][used], u)
        for g, table in zip((unit.g_lo[k], unit.g_hi[k]), self._halves, strict=True):
            on = g[g > 0.0].astype(float)  # a half that is switched off carries no current
            if on.size:
                ln_g = np.clip(np.log(on), self._ln_g[0], self._ln_g[-1])
                energy += np.interp(volts, self._v, (shares(self._ln_g, ln_g[None]) @ table)[0])
        return energy

    def _match_lines(self, lo: NDArray[np.float32], hi: NDArray[np.float32], u: Floats) -> Floats:
        """Return the energy to restore the match lines of all rows after searches at u."""
        below = len(lo) - np.searchsorted(np.sort(lo), u, side="left")  # rows with lo >= u
        above = np.searchsorted(np.sort(hi), u, side="right")  # rows with hi <= u
        lines = len(lo) if self._shared else 2 * len(lo)
        fallen = np.minimum(below + above, lines)
        return np.asarray(fallen * self._line[1] + (lines - fallen) * self._line[0], float)


def programmed_rows(unit: AcamUnit, column: int) -> NDArray[np.bool_]:
    """Tell which rows of a column hold a bound; columns of one unit may need fewer than others."""
    assert unit.g_lo is not None
    assert unit.g_hi is not None
    return np.asarray((unit.g_lo[column] > 0.0) | (unit.g_hi[column] > 0.0))


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

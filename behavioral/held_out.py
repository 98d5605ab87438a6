"""Errors of look-up models at points that ngspice measured but no table contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from behavioral import reference
from behavioral.cell_mismatch import current_sigma, interpolate_sigma
from behavioral.crossbar import CrossbarModel
from behavioral.table import Table

if TYPE_CHECKING:
    from behavioral.library import Library

FloatArray = NDArray[np.float64]

BAR_LSB = 0.1  # rms; what tables of inference are to keep at held-out points


def errors(library: Library) -> dict[str, float]:
    """Return the error of every table that has points off its grid.

    Returns
    -------
    dict
        ``<model>_{rms,max}_<unit>``, and ``<model>_{rms,max}_lsb`` where a code stands behind it:
        the cell current, whole columns with wires (LSB: range of each column over its inputs /
        256), thresholds, data line behind the read-out (LSB: data-line range / 256), rows behind a
        driver (LSB: swing / 256). Energies and settling: ``_share`` of the mean of the points; the
        spread of cells by mismatch: of each. Tables without held-out points are left out.
    """
    model, found = CrossbarModel(library), _Errors()
    _crossbar(library, model, found)
    with np.errstate(invalid="ignore"):  # delays beyond the search are infinite
        _acam(library, found)
    readout = library.readout
    line = readout.offset_v + np.outer(readout.gain_v_per_a[:2], readout.i_in)
    found.lsb("readout_line", "v", line - np.asarray(readout.v_dl)[:2], _step(library))
    rows = library.row_transfer
    if rows is not None and model.row_transfer is not None and rows.held_out_load_s.size:
        volts = model.row_transfer.voltages(rows.held_out_load_s) * model.v_read
        found.lsb("row_driver", "v", volts - rows.held_out_row_v, 2 * model.v_read / 256)
    return found.named


def above_bar(found: dict[str, float]) -> dict[str, float]:
    """Return the errors [LSB rms] of tables that inference uses where they are above `BAR_LSB`."""
    used = ("cell_current", "column_current", "acam_lower", "acam_upper", "row_driver")
    rms = {name: found.get(f"{name}_rms_lsb", 0.0) for name in used}
    return {name: error for name, error in rms.items() if error > BAR_LSB}


class _Errors:
    """Collects errors by name; what is not finite does not count."""

    def __init__(self) -> None:
        self.named: dict[str, float] = {}

    def lsb(self, name: str, unit: str, error: FloatArray, lsb: float | FloatArray) -> None:
        """Note errors in a unit, and over an LSB."""
        self.note(name, unit, error)
        self.note(name, "lsb", error / lsb)

    def share(self, name: str, unit: str, estimate: FloatArray, measured: FloatArray) -> None:
        """Note errors in a unit, and over the mean of what was measured."""
        error = estimate - measured
        self.note(name, unit, error)
        good = np.isfinite(error)
        if good.any():
            self.note(name, "share", error / np.abs(measured[good]).mean())

    def note(self, name: str, suffix: str, error: Any) -> None:
        values = np.asarray(error)[np.isfinite(error)]
        if values.size:
            self.named[f"{name}_rms_{suffix}"] = float(np.sqrt(np.mean(values**2)))
            self.named[f"{name}_max_{suffix}"] = float(np.abs(values).max())


def _step(library: Library) -> float:
    """Return a code's share of the data line [V]."""
    readout = library.technology.readout
    return (readout.v_dl_hi_v - readout.v_dl_lo_v) / 256


def _crossbar(library: Library, model: CrossbarModel, found: _Errors) -> None:
    data = library.crossbar
    estimate = model.cell.current(data.held_out_g, data.held_out_v_row, data.held_out_v_bl)
    full = np.abs(data.current).max()
    found.lsb("cell_current", "a", estimate - data.held_out_current, full / 256)
    measured = np.asarray(data.column_current, float)
    if measured.size:
        solved = reference.solve(model, data.column_g, data.column_v)
        found.lsb("column_current", "a", solved - measured, np.ptp(measured, axis=0) / 256)
    if data.held_out_settle_g.size:
        at, axis = np.log(data.held_out_settle_g), np.log(data.settle_g)
        for name, unit in (("settle_s", "s"), ("settle_energy_j", "j")):
            table = getattr(data, name)
            if unit == "j":  # a line at both logarithms: it rises with the load and its settling
                estimate = np.exp(np.interp(at, axis, np.log(table)))
            else:
                estimate = np.interp(at, axis, table)
            label = name.removesuffix(f"_{unit}")
            found.share(label, unit, estimate, getattr(data, f"held_out_{name}"))
    if data.held_out_mismatch_g.size:
        sigma = np.sqrt((data.held_out_mismatch_parts**2).sum(axis=2).mean(axis=1))
        estimate = interpolate_sigma(data.mismatch_g, current_sigma(data), data.held_out_mismatch_g)
        found.note("cell_mismatch", "share", estimate / sigma - 1.0)


def _acam(library: Library, found: _Errors) -> None:
    acam, step = library.acam, _step(library)
    off = acam.held_out_energy_g, acam.held_out_energy_v_dl
    for bound in ("lower", "upper"):
        for kind in ("", "_static"):
            measured = np.asarray(getattr(acam, f"held_out_{bound}{kind}_v"), float)
            curve = getattr(acam, f"{bound}{kind}_v")
            if measured.size and np.isfinite(curve).all():
                table = Table(bound, [("g", acam.g)], curve, method="pchip", log=("g",))
                found.lsb(f"acam_{bound}{kind}", "v", table(acam.held_out_g) - measured, step)
        if off[0].size:
            delay = acam.delay_g if acam.delay_g.size else acam.energy_g  # one table until 2.1
            volts = acam.delay_v_dl if acam.delay_g.size else acam.energy_v_dl
            joules = _bilinear(
                acam.energy_g, acam.energy_v_dl, getattr(acam, f"energy_{bound}_j"), off
            )
            found.share(
                f"acam_energy_{bound}", "j", joules, getattr(acam, f"held_out_energy_{bound}_j")
            )
            late = _bilinear(delay, volts, getattr(acam, f"delay_{bound}_s"), off)
            late -= getattr(acam, f"held_out_delay_{bound}_s")
            found.note(f"acam_delay_{bound}", "s", late)


def _bilinear(
    g: FloatArray, v: FloatArray, values: FloatArray, at: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Interpolate at conductances and voltages, linearly in ln G and volts."""
    table = RegularGridInterpolator((np.log(g), v), values)
    return np.asarray(table((np.log(at[0]), at[1])), np.float64)

"""Plots of a library, one panel each: what ngspice measured, and what the models make of it.

Every function draws into matplotlib axes and needs no simulator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from behavioral.noise import NoiseLaw

if TYPE_CHECKING:
    from behavioral.acam import AcamUnit
    from behavioral.library import Library

BITS = 8
COLUMNS = 256  # of the unit, and loads of the tile, that the panels of the models show
INPUTS = 512
WRITTEN, READ = "#5e81ac", "#bf616a"


def draw_thresholds(ax: Any, library: Library) -> None:
    """Threshold of both bounds of the ACAM cell over conductance; dots: held-out ngspice points."""
    acam = library.acam
    for bound, colour in (("lower", "C0"), ("upper", "C1")):
        ax.semilogx(acam.g * 1e6, getattr(acam, f"{bound}_v"), colour, label=f"{bound} (sense)")
        static = getattr(acam, f"{bound}_static_v")
        ax.semilogx(acam.g * 1e6, static, colour, ls=":", label=f"{bound} (static)")
        measured = getattr(acam, f"held_out_{bound}_v")
        ax.semilogx(acam.held_out_g * 1e6, measured, colour, marker=".", ls="none")
    ax.set(xlabel="RRAM conductance [uS]", ylabel="threshold [V]", title="ACAM")
    ax.legend(fontsize="small")


def draw_measured_windows(ax: Any, library: Library) -> None:
    """Match windows of whole cells as ngspice measured them, in order, and the model's bounds."""
    from behavioral.acam import AcamModel

    acam, model = library.acam, AcamModel.from_library(library)
    order = np.argsort(acam.window_lower_v)
    place = np.arange(order.size)
    lower, upper = acam.window_lower_v[order], acam.window_upper_v[order]
    ax.bar(place, upper - lower, 0.6, bottom=lower, color="C0", alpha=0.6, label="ngspice")
    for g, bound in ((acam.window_g_lo, "lower"), (acam.window_g_hi, "upper")):
        label = "model" if bound == "lower" else None
        ax.plot(place, model.threshold(g[order], bound), "_", color="C1", ms=9, label=label)
    ax.set(xlabel="cell", ylabel="data line that matches [V]", title="match windows")
    ax.set_xticks([])
    ax.legend(fontsize="small")


def draw_unit_windows(ax: Any, library: Library) -> None:
    """Windows of an 8-bit identity unit, one Gray bit a line, as one noisy column holds them."""
    model, unit = _unit(library, noise=True)
    span = model.v_hi - model.v_lo
    assert unit.lo is not None
    assert unit.hi is not None
    lo, hi = np.clip(unit.lo[0], 0.0, 1.0), np.clip(unit.hi[0], 0.0, 1.0)
    for bit in range(BITS):
        rows = np.flatnonzero((unit.bit == bit) & (hi > lo))
        bars = [(model.v_lo + lo[r] * span, (hi[r] - lo[r]) * span) for r in rows]
        ax.broken_barh(bars, (bit - 0.36, 0.72), color="C0")
    ax.set(xlabel="data line [V]", ylabel="Gray bit", title="8-bit unit, programmed with noise")
    ax.set_xlim(model.v_lo, model.v_hi)
    ax.set_yticks(range(BITS))


def draw_code_error(ax: Any, library: Library) -> None:
    """Error of the codes of 256 noisy identity units over the data line: rms and extremes."""
    model, noisy = _unit(library, noise=True)
    exact = _unit(library, noise=False)[1]
    u = np.repeat(np.linspace(0.0, 1.0, INPUTS)[:, None], COLUMNS, axis=1)
    codes = [model.convert(unit, u)[0].astype(int) for unit in (noisy, exact)]
    error = codes[0] - codes[1]
    volts = model.voltage(u[:, 0])
    ax.fill_between(
        volts, *np.percentile(error, (5, 95), axis=1), color="C0", alpha=0.3, lw=0, label="90 %"
    )
    ax.plot(volts, np.sqrt(np.mean(error**2, axis=1)), "C1", lw=1.2, label="rms")
    ax.set(xlabel="data line [V]", ylabel="code error [LSB]", title="ACAM transfer error by noise")
    ax.legend(fontsize="small")


def _unit(library: Library, *, noise: bool) -> tuple[Any, AcamUnit]:
    """Program an identity function into 256 columns."""
    from behavioral.acam import AcamModel
    from behavioral.windows import Windows

    model = AcamModel.from_library(library)
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), bits=BITS)
    lo, hi = windows.on_data_line(0.0, 1.0)
    return model, model.program(lo, hi, windows.bit, BITS, noise=noise, columns=COLUMNS)


def draw_cell(ax: Any, library: Library) -> None:
    """Current of the 1T1R cell over the row voltage, at five conductances."""
    data = library.crossbar
    middle = int(np.argmin(np.abs(data.v_bl)))
    for k in np.unique(np.linspace(data.g.size // 2, data.g.size - 1, 5).astype(int)):
        label = f"{data.g[k] * 1e6:.3g} uS"
        ax.plot(data.v_row, data.current[k, :, middle] * 1e6, label=label)
    ax.set(xlabel="row voltage [V]", ylabel="current [uA]", title="1T1R cell, bit line at 0 V")
    ax.legend(fontsize="small")


def draw_ir_drop(ax: Any, library: Library) -> None:
    """Share of a cell's current lost on the bit line, by place and load, no pre-distortion."""
    lost = ir_drop(library)
    image = ax.imshow(
        100.0 * lost, aspect="auto", origin="lower", cmap="viridis", vmin=0.0,
        extent=(0.0, library.device.g_max_s * 1e6, 0, len(lost)), interpolation="nearest",
    )  # fmt: skip
    ax.figure.colorbar(image, ax=ax, label="lost [%]")
    ax.set(
        xlabel="conductance of all cells [uS]", ylabel="row (last: at the read-out)",
        title="IR drop of a column",
    )  # fmt: skip


def ir_drop(library: Library) -> NDArray[np.float64]:
    """Return the share of each cell's output that is lost (rows, loads) on the bit line.

    Column k has all cells at the same conductance, from 1/256 of full scale to full scale; no
    noise, no pre-distortion, no error pair. Cells count as ohmic.
    """
    from behavioral.crossbar import CrossbarModel

    model = CrossbarModel(library)
    wanted = np.arange(1, COLUMNS + 1, dtype=np.float32) / COLUMNS
    weights = np.repeat(wanted[None, :], model.max_rows, axis=0)
    plain = {"noise": "none", "slices": 1, "predistort": False, "correction": "none"}
    array = model.program(weights, **plain)  # type: ignore[arg-type]
    return np.asarray(1.0 - array.effective.astype(float) / weights)


def draw_columns(ax: Any, library: Library) -> None:
    """Error of Newton's method on the cell table against whole columns in ngspice."""
    from behavioral import reference
    from behavioral.crossbar import CrossbarModel

    data = library.crossbar
    if np.size(data.column_current):
        model = reference.solve(CrossbarModel(library), data.column_g, data.column_v)
        lsb = np.ptp(data.column_current, axis=0) / 256
        error = (model - data.column_current) / lsb
        ax.plot(data.column_current.ravel() * 1e6, error.ravel(), ".")
    ax.set(xlabel="column current, ngspice [uA]", ylabel="model error [LSB]", title="whole columns")


def draw_readout(ax: Any, library: Library) -> None:
    """Data-line voltage over the current of each of the four bit lines."""
    data = library.readout
    for name, curve in zip(("main +", "main -", "error +", "error -"), data.v_dl, strict=False):
        ax.plot(data.i_in * 1e6, curve, label=name)
    ax.set(xlabel="column current [uA]", ylabel="data line [V]", title="read-out")
    ax.legend(fontsize="small")


def draw_noise(ax: Any, library: Library) -> None:
    """Standard deviation of programming and reading a device, over its conductance."""
    device = library.device
    g = np.geomspace(device.g_min_s, device.g_max_s, 200)
    for law, name, colour in (
        (NoiseLaw.write(device), "programming", WRITTEN),
        (NoiseLaw.read(device), "read", READ),
    ):
        ax.loglog(g * 1e6, law.sigma(g) * 1e6, color=colour, label=name)
    ax.set(xlabel="conductance [uS]", ylabel="one sigma [uS]", title=f"noise of {device.name}")
    ax.legend(fontsize="small")

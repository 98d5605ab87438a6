"""Match lines, sense amplifier and moving data lines of a library's ACAM, in ngspice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from behavioral.library import Library
from circuits import idle_rows, match_line, sense, sense_mismatch
from circuits.idle_rows import IdleRows
from circuits.match_line import History, LongLines
from circuits.plan import RunLog

Floats = NDArray[np.float64]

POINTS = 5  # conductances, from the device's least to its largest
TOLERANCE_LSB = 0.25  # that the history of a data line may cost


def conductances(library: Library) -> Floats:
    """Return logarithmic conductances (POINTS,) [S] over the device's range."""
    return np.geomspace(library.device.g_min_s, library.device.g_max_s, POINTS)


def thresholds(library: Library, g: Floats) -> tuple[Floats, Floats]:
    """Return the characterised lower and upper thresholds [V] of conductances."""
    axis = np.log(library.acam.g)
    curves = [PchipInterpolator(axis, v) for v in (library.acam.lower_v, library.acam.upper_v)]
    lower, upper = (np.asarray(curve(np.log(g)), np.float64) for curve in curves)
    return lower, upper


def lsb(library: Library) -> float:
    """Return 1/256 of the data line [V]."""
    readout = library.technology.readout
    return (readout.v_dl_hi_v - readout.v_dl_lo_v) / 256


def measure(library: Library, **run_options: Any) -> tuple[History, LongLines]:
    """Measure moving data lines and match lines of 1 to 128 cells."""
    g, device, technology = conductances(library), library.device, library.technology
    lower, upper = thresholds(library, g)
    history = match_line.measure_history(device, technology, g, lower, upper, **run_options)
    lines = match_line.measure_lines(device, technology, g, lower, **run_options)
    return history, lines


def measure_idle(library: Library, **run_options: Any) -> IdleRows:
    """Measure rows that are not searched."""
    g = conductances(library)
    return idle_rows.measure(library.device, library.technology, g, **run_options)


def text(library: Library, history: History, lines: LongLines) -> str:
    """Return both measurements as tables."""
    g = history.g * 1e6
    out = ["shift of the threshold [mV] when the data line falls from its upper end, over the time"]
    out.append("from its step to the evaluation (gone: beyond -600 mV, the half answers as before)")
    out.append("half   G [uS]  " + "".join(f"{t * 1e9:>9.3g} ns" for t in history.settle_s))
    needed = history.needed_s(TOLERANCE_LSB * lsb(library))
    for side, half in enumerate(("lower", "upper")):
        for k, x in enumerate(g):
            row = "".join(
                f"{'gone' if np.isnan(v) else f'{v * 1e3:.2f}':>12}"
                for v in history.shift_v[side, k]
            )
            out.append(
                f"{half:6} {x:7.3g} {row}   settled within {TOLERANCE_LSB} LSB: "
                f"{needed[side, k] * 1e9:.3g} ns"
            )
    out += ["", "lower bound [V] over the cells of a match line (-: not discharged in time)"]
    out.append("cells " + "".join(f"{x:>8.3g} uS" for x in g) + "    droop, all match")
    for k, cells in enumerate(lines.cells):
        row = "".join(f"{'-' if np.isnan(v) else f'{v:.4f}':>11}" for v in lines.threshold_v[k])
        out.append(f"{cells:5} {row}    {lines.droop_v[k] * 1e3:.2f} mV")
    middle = len(g) // 2
    out += ["", f"one cell of {g[middle]:.3g} uS mismatches: delay [ps], energy of the line [fJ]"]
    out.append("cells " + "".join(f"{b * 1e3:>13.0f} mV" for b in lines.beyond_v))
    for k, cells in enumerate(lines.cells):
        pairs = zip(lines.delay_s[k, middle], lines.energy_j[k, middle], strict=True)
        out.append(f"{cells:5} " + "".join(f"{t * 1e12:9.0f}, {e * 1e15:4.1f} " for t, e in pairs))
    return "\n".join(out)


def idle_text(rows: IdleRows) -> str:
    """Return what rows take that are not searched."""
    out = ["rows that are not searched: power of a half [W], current from its precharged line [A]"]
    out.append("half   G [uS]   search lines on, matching     search lines at ground")
    for side, half in enumerate(("lower", "upper")):
        for k, g in enumerate(rows.g * 1e6):
            states = zip(rows.power_w[:, side, k], rows.line_a[:, side, k], strict=True)
            out.append(
                f"{half:6} {g:7.3g} " + "".join(f"{w:12.2e}, {a:9.2e}   " for w, a in states)
            )
    return "\n".join(out)


def draw(library: Library, history: History, lines: LongLines, path: Path) -> None:
    """Draw static and moving thresholds, their shift over the settling time, and long lines."""
    from matplotlib.figure import Figure

    from circuits.files import write_picture

    figure = Figure(figsize=(13, 4), layout="constrained")
    edges, shifts, delays = figure.subplots(1, 3)
    g, static = history.g * 1e6, thresholds(library, history.g)
    for side, half in enumerate(("lower", "upper")):
        edges.semilogx(g, static[side], f"C{side}-", label=f"{half}, settled")
        for t, style in ((0, ":"), (3, "--")):
            moved = static[side] + history.shift_v[side, :, t]
            name = f"{half}, stepped {history.settle_s[t] * 1e9:.3g} ns before"
            edges.semilogx(g, moved, f"C{side}{style}o", ms=3, label=name)
        time = np.maximum(history.settle_s, history.settle_s[1] / 2)
        for k in range(g.size):
            shift = np.abs(history.shift_v[side, k]) / lsb(library)
            shift = np.where(np.isnan(shift), 300, np.maximum(shift, 1e-3))
            shifts.loglog(time * 1e9, shift, f"C{k}{'-' if side == 0 else '--'}")
    edges.set(xlabel="conductance [uS]", ylabel="threshold at the sense time [V]")
    shifts.axhline(TOLERANCE_LSB, color="k", lw=0.6)
    shifts.set(
        title="lower full, upper dashed; colours as on the right",
        xlabel="data line moved before the evaluation [ns], leftmost: at its start",
        ylabel="shift [LSB], 300: gone",
    )
    for k, x in enumerate(g):
        delays.loglog(lines.cells, lines.delay_s[:, k, -1] * 1e12, "o-", ms=3, label=f"{x:.3g} uS")
    delays.axhline(library.technology.acam.t_sense_s * 1e12, color="k", lw=0.6)
    delays.set(xlabel="cells on the match line", ylabel="delay of one clear mismatch [ps]")
    for ax in (edges, delays):
        ax.legend(fontsize=6)
    write_picture(path, figure, dpi=120)


def sense_text(library: Library, **run_options: Any) -> str:
    """Measure the sense amplifier and return the table."""
    g = conductances(library)
    lower, upper = thresholds(library, g)
    found = sense.measure(library.device, library.technology, g, lower, upper, **run_options)
    unequal = sense_mismatch.characterize(
        library.device, library.technology, g, lower, log=RunLog(), **run_options
    )
    spread = np.sqrt((unequal["mismatch_sense_parts_v"] ** 2).sum())
    used = library.technology.unit.v_reference_v
    error = found.data_line_error(used) / lsb(library)
    out = [
        f"reference of least error {found.trimmed_reference():.4f} V, used {used:.4f} V",
        "reference at which a line on its threshold turns over [V], and what the used one moves"
        " the threshold by [LSB]",
    ]
    for side, half in enumerate(("lower", "upper")):
        for k, x in enumerate(g * 1e6):
            v, slope = found.reference_v[side, k], found.slope[side, k]
            out.append(
                f"{half:6} {x:7.3g} uS: {v:.4f} V, {error[side, k]:+.2f} LSB, slope {slope:.1f} V/V"
            )
    mv = found.overdrive_v * 1e3
    delays = ", ".join(f"{x:g} mV: {t * 1e12:.0f}" for x, t in zip(mv, found.delay_s, strict=True))
    out += [
        f"mismatch: {spread * 1e3:.1f} mV (one sigma) of the reference",
        f"delay from the strobe [ps] for an overdrive of {delays}; regeneration"
        f" {found.regeneration_s * 1e12:.1f} ps",
        f"noise (estimate): {found.noise_v * 1e3:.2f} mV rms",
        f"energy: {found.energy_j * 1e15:.2f} fJ a decision",
    ]
    return "\n".join(out)

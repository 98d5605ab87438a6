"""Write-verify and read disturb of a device as tables, files and plots."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.disturb import Disturbed
from circuits.errors import ParameterError
from circuits.files import write_picture
from circuits.parameters import Device, Technology
from circuits.programming import Written
from circuits.units import parse_number
from system.files import write_text

Floats = NDArray[np.float64]

MICRO = 1e-6


def read_levels(text: str, levels: int, option: str) -> Floats:
    """Return conductances [S] of a text in uS: ``1..150``, log-spaced, or ``1,10,100``.

    Raises
    ------
    ParameterError
        Another form, or a conductance that is not positive.
    """
    low, dots, high = text.partition("..")
    try:
        ends = [parse_number(x) for x in ((low, high) if dots else text.split(","))]
    except ParameterError as error:
        raise ParameterError(f"{option} {text!r}: {error}; write 1..90 or 1,10,90") from None
    if min(ends) <= 0 or (dots and ends[0] >= ends[1]):
        raise ParameterError(f"{option} {text!r}: write rising positive uS, 1..90 or 1,10,90")
    return np.geomspace(ends[0], ends[1], levels) * MICRO if dots else np.array(ends) * MICRO


def read_voltages(text: str | None, technology: Technology) -> Floats:
    """Return the read voltages of a text ``-0.2,0.2``; without one, the row swing to both sides."""
    if text is None:
        return np.array([-1.0, 1.0]) * technology.column.v_read_v
    try:
        values = np.array([parse_number(x) for x in text.split(",")])
    except ParameterError as error:
        raise ParameterError(f"--voltages-v {text!r}: {error}; write -0.2,0.2") from None
    if not (np.abs(values) <= 5).all():
        raise ParameterError(f"--voltages-v {text!r}: permitted -5 to 5 V")
    return values


def write_programming(folder: Path, written: Written, device: Device) -> list[str]:
    """Write measurements.csv (for ``devices fit``), cells.csv and program.png; return the names."""
    good = np.isfinite(written.g_s)
    rows = [
        (f"{t:.6g}", f"{g:.8g}", k)
        for k, (t, g) in enumerate(zip(written.target_s, written.g_s, strict=True))
        if good[k]
    ]
    _write_csv(folder / "measurements.csv", ("target_s", "measured_s", "cell"), rows)
    columns = (written.target_s, written.g_s, written.pulses, written.v_last_v, written.done)
    cells = [
        (k, f"{t:.6g}", f"{g:.8g}", n, f"{v:.6g}", int(done))
        for k, (t, g, n, v, done) in enumerate(zip(*columns, strict=True))
    ]
    header = ("cell", "target_s", "measured_s", "pulses", "v_last_v", "done")
    _write_csv(folder / "cells.csv", header, cells)
    _draw_programming(folder / "program.png", written, device)
    return ["measurements.csv", "cells.csv", "program.png"]


def describe_programming(written: Written) -> str:
    """Return a line per target: share that converged, deviation, spread, pulses."""
    lines = ["target      cells  done    mean off  spread    pulses: median  90 %  most"]
    for target in np.unique(written.target_s):
        here = written.target_s == target
        done, pulses = written.done[here], written.pulses[here]
        ratio = written.g_s[here & written.done] / target
        text = "         -         -" if not len(ratio) else f"{ratio.mean() - 1:+10.2%}"
        text += f"{ratio.std():8.2%}" if len(ratio) > 1 else "       -"
        median, high = np.percentile(pulses, [50, 90])
        lines.append(
            f"{target / MICRO:8.4g} uS {here.sum():5d} {done.mean():6.1%} {text}"
            f" {median:17.0f} {high:5.0f} {pulses.max():5d}"
        )
    failed = int((~written.done).sum())
    lines.append(
        f"{len(written.done) - failed} of {len(written.done)} cells within the tolerance; mean and"
        " spread are of these, of the RRAM's own conductance"
    )
    return "\n".join(lines)


def write_disturb(folder: Path, found: Disturbed, device: Device) -> list[str]:
    """Write disturb.csv and disturb.png; return the names."""
    rows = [
        (f"{g:.6g}", f"{v:.6g}", f"{n:.6g}", f"{g * (1 + x):.12g}", f"{x:.6g}")
        for g, by_voltage in zip(found.start_s, found.change, strict=True)
        for v, by_reads in zip(found.voltage_v, by_voltage, strict=True)
        for n, x in zip(found.reads, by_reads, strict=True)
    ]
    header = ("start_s", "voltage_v", "reads", "g_s", "change")
    _write_csv(folder / "disturb.csv", header, rows)
    _draw_disturb(folder / "disturb.png", found, device)
    return ["disturb.csv", "disturb.png"]


def describe_disturb(found: Disturbed) -> str:
    """Return the change after all reads, a line per state and a column per voltage."""
    heads = "".join(f"{v:+12.3g} V" for v in found.voltage_v)
    lines = [f"change of conductance after {found.reads[-1]:.3g} reads", f"state      {heads}"]
    for g, row in zip(found.start_s, found.change[:, :, -1], strict=True):
        lines.append(f"{g / MICRO:8.4g} uS" + "".join(f"{x:+14.2e}" for x in row))
    return "\n".join(lines)


def _write_csv(place: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    text = io.StringIO(newline="")
    out = csv.writer(text, lineterminator="\n")
    out.writerow(header)
    out.writerows(rows)
    write_text(place, text.getvalue())


def _draw_programming(place: Path, written: Written, device: Device) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    targets = written.target_s / MICRO
    good = written.done
    off = 100 * (written.g_s / written.target_s - 1)
    left.semilogx(targets[good], off[good], "o", ms=3)
    left.set(xlabel="target [uS]", ylabel="off target [%]", title="reached, within the tolerance")
    right.semilogx(targets[good], written.pulses[good], "o", ms=3, label="done")
    right.semilogx(targets[~good], written.pulses[~good], "x", color="C3", label="not done")
    right.set(xlabel="target [uS]", ylabel="pulses", title="write-verify pulses")
    right.legend()
    figure.suptitle(f"{device.name}: {device.description}", fontsize="small")
    write_picture(place, figure, dpi=150)


def _draw_disturb(place: Path, found: Disturbed, device: Device) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    for j, v in enumerate(found.voltage_v):
        for k, g in enumerate(found.start_s):
            change = np.abs(found.change[k, j])
            style = {"color": f"C{k}", "ls": ("-", "--", ":", "-.")[j % 4]}
            ax.loglog(found.reads, change, label=f"{g / MICRO:.3g} uS, {v:+.3g} V", **style)
    ax.set(xlabel="reads", ylabel="|change of conductance| [-]", title=f"{device.name}: disturb")
    ax.legend(fontsize="x-small")
    write_picture(place, figure, dpi=150)

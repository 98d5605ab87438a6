"""What ``nldpe inspect`` shows of a library: a summary in text, and plots."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from behavioral import panels
from behavioral.cell_mismatch import current_sigma
from behavioral.layout import circuits_of, describe
from behavioral.variation import measured_sigma
from circuits.amplifier import AmplifierData
from circuits.files import write_picture
from circuits.parameters import Technology

if TYPE_CHECKING:
    from behavioral.library import Library


def summarize(library: "Library") -> str:
    """Readable contents of a library: origin, tables, axes and ranges, held-out errors."""
    lines = [
        f"device       {library.device.name}: {library.device.description}",
        f"technology   {library.technology.name}: {library.technology.description}",
        f"sha256       {library.sha256}",
        "made with    " + ", ".join(f"{k} {v}" for k, v in sorted(library.versions.items())),
        f"corner       {library.corner}: {_describe_corner(library.technology)}",
    ]
    if library.corners:
        lines += ["", "further corners (--corner NAME)"]
        lines += [
            f"  {name:18} {_describe_corner(tables.technology)}"
            for name, tables in library.corners.items()
        ]
    for circuit in circuits_of(library.technology):
        data = getattr(library, circuit)
        origin = data.provenance
        lines += [
            "",
            f"{circuit}: {origin.jobs} jobs with {origin.simulator}, {origin.failed} failed",
        ]
        unmeasured = {"provenance"}
        if circuit == "readout" and not np.size(data.amplifier_gain):
            lines.append("  amplifier: model, of the technology file; no transistors, no supply")
            unmeasured |= {item.name for item in dataclasses.fields(AmplifierData)}
        for item in dataclasses.fields(data):
            if item.name not in unmeasured and np.size(getattr(data, item.name)):
                lines.append("  " + _describe(circuit, item.name, getattr(data, item.name)))
    lines += _describe_mismatch(library)
    if library.errors:
        lines += ["", "held-out error of the look-up models against ngspice (LSB: 8 bits)"]
    lines += [f"  {key:26} {value:.4g}" for key, value in sorted(library.errors.items())]
    return "\n".join(lines)


def _describe_corner(technology: Technology) -> str:
    process = technology.process.corner
    return f"process {process}, {technology.temperature_c:g} C, {technology.vdd_v:.4g} V"


def _describe_mismatch(library: "Library") -> list[str]:
    """Lines on the spread by mismatch; none where it was not measured."""
    acam, crossbar, readout = library.acam, library.crossbar, library.technology.readout
    lsb = (readout.v_dl_hi_v - readout.v_dl_lo_v) / 256
    sense = "of the cell and of its sense amplifier " if acam.mismatch_sense_parts_v.size else ""
    lines = ["", f"spread of the ACAM thresholds by mismatch, one sigma {sense}(LSB: 8 bits)"]
    for k, g in enumerate(acam.mismatch_g):
        texts = []
        for bound in ("lower", "upper"):
            cell, sensed = (float(x[k]) for x in measured_sigma(acam, bound))
            more = f" and {sensed * 1e3:5.2f} mV {sensed / lsb:4.1f} LSB" if sensed else ""
            texts.append(f"{bound} {cell * 1e3:6.2f} mV {cell / lsb:5.1f} LSB{more}")
        lines.append(f"  {g * 1e6:10.4g} uS  " + "   ".join(texts))
    found = lines if np.size(acam.mismatch_g) else []
    if np.size(crossbar.mismatch_g):
        found += ["", "spread of crossbar cell currents by mismatch, one sigma; left if trimmed"]
        kinds = (current_sigma(crossbar, trimmed=trimmed) for trimmed in (False, True))
        found += [
            f"  {g * 1e6:10.4g} uS  {100 * free:8.4f} %  {100 * left:8.4f} %"
            for g, free, left in zip(crossbar.mismatch_g, *kinds, strict=True)
        ]
    return found


def _describe(circuit: str, name: str, value: Any) -> str:
    entry = describe(circuit, name)
    array = np.asarray(value, float)
    shape = "x".join(str(n) for n in array.shape) or "scalar"
    good = array[np.isfinite(array)]
    span = f"{good.min():.4g} .. {good.max():.4g}" if good.size else "no values"
    if array.ndim == 0:
        span = f"{float(array):.4g}"
    lost = f", {array.size - good.size} not finite" if good.size < array.size else ""
    units = f" {entry.units}" if entry.units != "1" else ""
    named = [axis for axis in entry.axes if axis and axis != name]
    axes = " over " + ", ".join(named) if named else ""
    return f"{name:22} {shape:10} {span}{units}{lost}  {entry.long_name}{axes}"


def draw(library: "Library", path: Path) -> None:
    """Four panels: thresholds, cell current, held-out column error, read-out transfer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    panels.draw_thresholds(axes[0, 0], library)
    panels.draw_cell(axes[0, 1], library)
    panels.draw_columns(axes[1, 0], library)
    panels.draw_readout(axes[1, 1], library)
    figure.suptitle(f"{library.device.name} in {library.technology.name}")
    write_picture(path, figure, dpi=150)

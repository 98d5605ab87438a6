"""Draws column_measured.svg, acam_measured.svg: python docs/circuits/draw_measured.py LIBRARY."""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from behavioral import panels
from behavioral.library import Library
from circuits import plan
from circuits.netlist import render
from circuits.search import T_EVAL, SearchBench

HERE = Path(__file__).parent
SUPPLIES = (
    "vdd vdd 0 {vdd}", "vddp vddp 0 {vdd}", "vslhi slhi 0 {v_sl_hi}", "vsllo sllo 0 {v_sl_lo}",
)  # fmt: skip
OUTSIDE = 0.02  # how far beyond its bounds a row is searched to show a mismatch [V]


def draw_settling(ax: Axes, library: Library) -> None:
    """Draw settling time and energy of a column over the conductance of its cells."""
    data = library.crossbar
    ax.semilogx(data.settle_g * 1e6, data.settle_s * 1e9, "o-C0")
    ax.set(xlabel="conductance of all cells [uS]", ylabel="time to half an LSB [ns]")
    ax.set_title("settling")
    ax.set_ylim(bottom=0)
    ax.yaxis.label.set_color("C0")
    energy = ax.twinx()
    energy.loglog(data.settle_g * 1e6, data.settle_energy_j * 1e15, "s-C1")
    energy.set_ylabel("energy [fJ]", color="C1")


def draw_search(ax: Axes, library: Library) -> None:
    """Draw both match lines of one row in ngspice: evaluation, precharge, evaluation."""
    device, technology, acam = library.device, library.technology, library.acam
    bench = SearchBench(device, technology, {})
    row = int(np.argsort(acam.window_lower_v)[acam.window_lower_v.size // 2])
    lower, upper = acam.window_lower_v[row], acam.window_upper_v[row]
    places = {"below": lower - OUTSIDE, "inside": (lower + upper) / 2, "above": upper + OUTSIDE}
    cells = list(SUPPLIES)
    for k, v in enumerate(places.values()):
        lines = bench.row(acam.window_g_lo[row], acam.window_g_hi[row], v)
        cells += [line.replace("#", str(k)) for line in lines]
    lines = [f"v(ml{mark}{k})" for k in range(len(places)) for mark in ("", "u")]
    text = render(
        "bench_energy", title="search", models=bench.models, cells="\n".join(cells),
        temperature=bench.temperature, save=" ".join([*lines, "v(pcb)"]), step=bench.step,
        stop=T_EVAL + 2 * technology.acam.t_sense_s + technology.acam.t_precharge_s,
    )  # fmt: skip
    v = plan.run([plan.Job("search", text, ("time", *lines, "v(pcb)"))])[0].vectors
    ps = v["time"] * 1e12
    ax.plot(ps, v["v(pcb)"], color="0.7", label="pcb")
    for k, (name, volts) in enumerate(places.items()):
        ax.plot(ps, v[f"v(ml{k})"], f"C{k}", label=f"{name}: {volts:.3f} V")
        ax.plot(ps, v[f"v(mlu{k})"], f"C{k}", ls="--")
    ax.axhline(technology.acam.v_sense_v, color="k", lw=0.6)
    ax.set(xlabel="time [ps]", ylabel="ml (full), mlu (dashed) [V]", ylim=(-0.05, 1.3),
           title=f"row that matches from {lower:.3f} to {upper:.3f} V")  # fmt: skip
    ax.legend(fontsize=7, loc="upper center", ncols=2)


def draw_overlap(ax: Axes, library: Library) -> None:
    """Draw how much of the discharge is left at a distance from the bound."""
    acam = library.acam
    for k, g in enumerate((1e-8, 1e-6, 1e-5, 1e-4)):
        n = int(np.argmin(np.abs(np.log(acam.g / g))))
        for name, style in (("lower", "-"), ("upper", "--")):
            drop = getattr(acam, f"{name}_overlap")[n]
            label = f"{name}, {acam.g[n] * 1e6:.2g} uS"
            ax.plot(acam.overlap_offset_v * 1e3, drop, f"C{k}{style}", label=label)
    ax.set(xlabel="data line inside the bound [mV]", ylabel="drop of the line / drop that trips",
           title="overlap of a half", xlim=(0, 100))  # fmt: skip
    ax.legend(fontsize=7)


def draw_cost(ax: Axes, library: Library, quantity: str, factor: float, unit: str) -> None:
    """Draw energy or delay of both halves over the data line, at five conductances."""
    acam = library.acam
    suffix, mark = ("j", "") if quantity == "energy" else ("s", ".")
    tables = {half: getattr(acam, f"{quantity}_{half}_{suffix}") for half in ("lower", "upper")}
    g, v_dl = (getattr(acam, f"{quantity}_{axis}") for axis in ("g", "v_dl"))
    for colour, n in enumerate(range(0, g.size, g.size // 4)):
        for half, style in (("lower", "-"), ("upper", "--")):
            values = np.where(np.isfinite(tables[half][n]), tables[half][n], np.nan) * factor
            label = f"{g[n] * 1e6:.3g} uS" if half == "lower" else None
            ax.plot(v_dl, values, f"C{colour}{style}", marker=mark, label=label)
    ax.set(xlabel="data line [V]", ylabel=f"{quantity} [{unit}]",
           title=f"{quantity}: lower (full), upper (dashed)")  # fmt: skip
    ax.legend(fontsize=7)


def main() -> None:
    """Draw both figures."""
    library = Library.from_hdf5(sys.argv[1])
    mpl.rcParams.update({"svg.hashsalt": "measured", "svg.fonttype": "path", "font.size": 9})
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    draws = (panels.draw_cell, panels.draw_ir_drop, panels.draw_columns, draw_settling)
    for ax, draw in zip(axes, draws, strict=True):
        draw(ax, library)
    figure.savefig(HERE / "column_measured.svg", metadata={"Date": None})
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    panels.draw_thresholds(axes[0], library)
    draw_search(axes[1], library)
    draw_overlap(axes[2], library)
    panels.draw_measured_windows(axes[3], library)
    draw_cost(axes[4], library, "energy", 1e15, "fJ")
    axes[4].set_yscale("log")
    draw_cost(axes[5], library, "delay", 1e12, "ps")
    figure.savefig(HERE / "acam_measured.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

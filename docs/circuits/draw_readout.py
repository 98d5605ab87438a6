"""Draws readout.svg and readout_measured.svg: python docs/circuits/draw_readout.py."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuits import amplifier, plan, readout_bench
from circuits.parameters import load_parameters

HERE = Path(__file__).parent
INK = "#2e3440"
VDDA, GROUND = 9.0, 0.0
# name: (x, y, kind, side of the gate); source of a p device and drain of an n device are on top
TRANSISTORS = {
    "mr": (0.6, 8.1, "p", "right"),
    "mp1": (2.0, 8.1, "p", "left"),
    "mp2": (3.4, 8.1, "p", "left"),
    "mn1": (2.0, 0.9, "n", "right"),
    "mn2": (3.4, 2.4, "n", "right"),
    "mb": (5.2, 6.3, "p", "right"),
    "ms": (5.2, 0.9, "n", "left"),
    "mtail": (7.6, 8.1, "p", "left"),
    "m1": (6.8, 6.3, "p", "left"),
    "m2": (8.4, 6.3, "p", "right"),
    "m3": (6.8, 5.0, "p", "left"),
    "m4": (8.4, 5.0, "p", "left"),
    "m5": (6.8, 2.7, "n", "left"),
    "m6": (8.4, 2.7, "n", "left"),
    "m7": (6.8, 0.9, "n", "right"),
    "m8": (8.4, 0.9, "n", "left"),
    "m9": (10.6, 0.9, "n", "left"),
    "m10": (10.6, 8.1, "p", "left"),
}
WIRES = (
    ((0.0, VDDA), (11.2, VDDA)),
    ((0.0, GROUND), (11.2, GROUND)),
    # bias generator
    ((0.6, 7.6), (0.6, 4.75)), ((1.15, 8.1), (1.15, 7.4), (0.6, 7.4)), ((0.6, 4.05), (0.6, GROUND)),
    ((1.15, 8.1), (1.45, 8.1)), ((2.0, 7.6), (2.0, 1.4)), ((2.55, 0.9), (2.55, 1.7), (2.0, 1.7)),
    ((3.4, 7.6), (3.4, 2.9)), ((3.95, 2.4), (3.95, 3.2), (3.4, 3.2)), ((3.4, 1.9), (3.4, GROUND)),
    # first stage
    ((7.6, 7.6), (7.6, 7.1)), ((5.2, 7.1), (8.4, 7.1)), ((5.2, 7.1), (5.2, 6.8)),
    ((6.8, 7.1), (6.8, 6.8)), ((8.4, 7.1), (8.4, 6.8)), ((6.8, 5.8), (6.8, 5.5)),
    ((8.4, 5.8), (8.4, 5.5)), ((5.2, 5.8), (5.2, 1.4)), ((5.75, 6.3), (5.75, 5.0), (5.2, 5.0)),
    ((5.75, 5.0), (6.25, 5.0)), ((6.8, 4.5), (6.8, 3.2)), ((8.4, 4.5), (8.4, 3.2)),
    ((6.8, 2.2), (6.8, 1.4)), ((8.4, 2.2), (8.4, 1.4)),
    ((6.8, 3.7), (7.6, 3.7), (7.6, 0.9)), ((7.35, 0.9), (7.85, 0.9)),
    # output stage
    ((8.4, 3.7), (9.9, 3.7), (9.9, 0.9), (10.05, 0.9)), ((10.6, 7.6), (10.6, 1.4)),
    ((10.6, 4.6), (11.2, 4.6)), ((8.4, 1.8), (9.1, 1.8)), ((9.3, 1.8), (10.6, 1.8)),
)  # fmt: skip
DOTS = (
    (0.6, 7.4), (1.15, 8.1), (2.0, 1.7), (3.4, 3.2), (7.6, 7.1), (6.8, 7.1), (5.2, 5.0),
    (5.75, 5.0), (6.8, 3.7), (7.6, 0.9), (8.4, 3.7), (10.6, 4.6), (10.6, 1.8), (8.4, 1.8),
)  # fmt: skip
# x, y, text, horizontal alignment
LABELS = (
    (11.25, VDDA, "vdda", "left"), (11.25, GROUND, "0", "left"), (11.25, 4.6, "out", "left"),
    (6.2, 6.3, "inn", "right"), (9.0, 6.3, "inp", "left"), (1.0, 4.4, "i_reference", "left"),
    (1.3, 8.25, "bp", "center"), (7.0, 8.1, "bp", "right"), (10.0, 8.1, "bp", "right"),
    (2.85, 8.3, "bp", "center"),
    (2.6, 1.3, "bn", "left"), (4.6, 0.9, "bn", "right"), (4.0, 2.9, "cn", "left"),
    (6.2, 2.7, "cn", "right"), (7.9, 2.92, "cn", "center"), (5.1, 4.6, "cp", "right"),
    (7.8, 5.0, "cp", "right"), (7.4, 7.25, "t", "right"), (6.7, 3.95, "x", "right"),
    (8.5, 3.95, "y", "left"), (6.7, 1.8, "e1", "right"), (8.3, 1.8, "e2", "right"),
    (9.2, 2.2, "c_miller", "center"),
)  # fmt: skip


def transistor(ax: Axes, name: str) -> None:
    """Draw one device: channel, terminals, gate, circle of a p device, name."""
    x, y, kind, side = TRANSISTORS[name]
    towards = -1 if side == "left" else 1
    plate, gate = x + towards * 0.2, x + towards * 0.3
    for points in (
        ((x, y + 0.5), (x, y + 0.28), (plate, y + 0.28), (plate, y - 0.28), (x, y - 0.28)),
        ((x, y - 0.28), (x, y - 0.5)),
        ((gate, y + 0.22), (gate, y - 0.22)),
    ):
        ax.plot(*zip(*points, strict=True), color=INK, lw=1.1)
    end = x + towards * 0.55
    start = gate + towards * (0.14 if kind == "p" else 0.0)
    ax.plot((start, end), (y, y), color=INK, lw=1.1)
    if kind == "p":
        ax.plot(gate + towards * 0.07, y, "o", ms=3.2, mfc="white", mec=INK)
    rail = VDDA if kind == "p" else GROUND
    edge = y + 0.5 if kind == "p" else y - 0.5
    if abs(rail - edge) < 0.6:
        ax.plot((x, x), (edge, rail), color=INK, lw=1.1)
    ax.text(x - towards * 0.12, y, name, ha="left" if towards < 0 else "right", va="center", size=8)


def draw_amplifier(ax: Axes) -> None:
    """Draw the transistor-level amplifier and its bias generator."""
    for wire in WIRES:
        ax.plot(*zip(*wire, strict=True), color=INK, lw=1.1)
    for name in TRANSISTORS:
        transistor(ax, name)
    ax.plot(*zip(*DOTS, strict=True), "o", ms=2.8, color=INK)
    ax.add_patch(mpl.patches.Circle((0.6, 4.4), 0.35, fill=False, color=INK, lw=1.1))
    ax.annotate("", (0.6, 4.12), (0.6, 4.68), arrowprops={"arrowstyle": "->", "color": INK})
    for x in (9.1, 9.3):
        ax.plot((x, x), (1.55, 2.05), color=INK, lw=1.4)
    for x, y, text, side in LABELS:
        ax.text(x, y, text, ha=side, va="center", size=8, style="italic")
    for x, text in ((2.0, "bias generator, one a column"), (7.2, "first stage"), (10.6, "output")):
        ax.text(x, 9.6, text, ha="center", size=9, weight="bold")
    ax.set(xlim=(-0.2, 12.0), ylim=(-0.4, 10.0))


def resistor(ax: Axes, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    """Draw a horizontal resistor as a box in a wire."""
    (x0, y), (x1, _) = start, end
    middle = (x0 + x1) / 2
    ax.plot((x0, x1), (y, y), color=INK, lw=1.1, zorder=1)
    box = (middle - 0.4, y - 0.14)
    ax.add_patch(mpl.patches.Rectangle(box, 0.8, 0.28, fc="white", ec=INK, lw=1.1, zorder=2))
    ax.text(middle, y + 0.24, text, ha="center", va="bottom", size=8)


def triangle(ax: Axes, x: float, y: float, signs: str) -> None:
    """Draw an amplifier whose output is at (x + 1.2, y); signs of upper and lower input."""
    shape = ((x, y + 0.7), (x, y - 0.7), (x + 1.2, y))
    ax.add_patch(mpl.patches.Polygon(shape, fc="#e3ebf4", ec=INK, lw=1.1))
    for sign, at in zip(signs, (0.35, -0.35), strict=True):
        ax.text(x + 0.12, y + at, sign, va="center", size=10)


def draw_chain(ax: Axes) -> None:
    """Draw four transimpedance stages and the summing stage."""
    for k, (line, r) in enumerate(zip(readout_bench.LINES, ("r", "r", "k r", "k r"), strict=True)):
        order = (0, 2, 1, 3)[k]  # p and pe on top: both go to the inverting input
        y = 8.6 - 2.4 * order
        triangle(ax, 1.6, y, "-+")
        ax.plot((0.2, 1.6), (y + 0.35, y + 0.35), color=INK, lw=1.1)
        ax.plot((1.0, 1.0), (y + 0.35, y + 1.0), color=INK, lw=1.1)
        ax.plot((3.2, 3.2), (y + 1.0, y), color=INK, lw=1.1)
        ax.plot((2.8, 3.2), (y, y), color=INK, lw=1.1)
        resistor(ax, (1.0, y + 1.0), (3.2, y + 1.0), "r_feedback | c_feedback")
        ax.plot((1.3, 1.6), (y - 0.35, y - 0.35), color=INK, lw=1.1)
        ax.text(1.25, y - 0.35, "v_cm", ha="right", va="center", size=8, style="italic")
        ax.text(0.1, y + 0.35, f"line {line}", ha="right", va="center", size=8, weight="bold")
        resistor(ax, (3.2, y), (5.2, y), r)
    for top, bottom, end in ((8.6, 6.2, 5.35), (3.8, 1.4, 4.65)):
        ax.plot((5.2, 5.2), (top, bottom), color=INK, lw=1.1)
        ax.plot((5.2, 7.4), (end, end), color=INK, lw=1.1)
    ax.plot((5.2, 5.2), (6.2, 5.35), color=INK, lw=1.1)
    ax.plot((5.2, 5.2), (3.8, 4.65), color=INK, lw=1.1)
    triangle(ax, 7.4, 5.0, "-+")
    ax.plot((6.2, 6.2), (5.35, 7.0), color=INK, lw=1.1)
    ax.plot((9.2, 9.2), (7.0, 5.0), color=INK, lw=1.1)
    ax.plot((8.6, 10.0), (5.0, 5.0), color=INK, lw=1.1)
    resistor(ax, (6.2, 7.0), (9.2, 7.0), "s r | c_sum")
    ax.plot((6.2, 6.2), (4.65, 3.0), color=INK, lw=1.1)
    resistor(ax, (6.2, 3.0), (9.2, 3.0), "s r")
    ax.text(9.3, 3.0, "v_ref (ideal)", va="center", size=8, style="italic")
    ax.text(10.1, 5.0, "data line\n(c_load)", va="center", size=8, weight="bold")
    ax.set(xlim=(-1.2, 11.8), ylim=(0.2, 10.2))


def draw_measured(axes: tuple[Axes, ...]) -> None:
    """Draw loop gains, full-scale steps and the transfer error, from ngspice."""
    _, technology = load_parameters("taox", "lp16", ["readout.amplifier=two-stage"])
    loads = [technology.readout.c_load_f * k for k in amplifier.LOADS]
    transfer_job = amplifier.transfer_jobs(technology)[0]
    jobs = [*amplifier.loop_jobs(technology), transfer_job]
    jobs += [readout_bench.step_job(technology, load) for load in loads]
    results = plan.run(jobs, workers=1)
    bode, step, error = axes
    for k, stage in enumerate(("transimpedance", "summing")):
        v = {**results[2 * k].vectors, **results[2 * k + 1].vectors}
        frequency, loop = amplifier.loop_gain(v)
        bode.loglog(frequency, np.abs(loop), f"C{k}", label=f"{stage}: loop gain")
        gain = np.abs(v["v(o)"] / v["v(g)"])
        bode.loglog(frequency, gain, f"C{k}", ls=":", label=f"{stage}: open-loop gain")
    bode.set(xlabel="frequency [Hz]", ylabel="gain", xlim=(1e4, 3e10), ylim=(0.05, 5e3))
    bode.axhline(1, color=INK, lw=0.6)
    for load, result in zip(loads, results[5:], strict=True):
        time, v = result.vectors["time"], result.vectors["v(dl)"]
        step.plot((time - time[-1] / 50) * 1e9, v, label=f"{load * 1e15:.0f} fF")
    step.set(xlabel="time from the step [ns]", ylabel="data line [V]", xlim=(-0.2, 3))
    v = results[4].vectors
    current = np.linspace(-1, 1, v["v(p)"].size) * amplifier.SWEEP
    current *= technology.readout.i_full_scale_a / 2
    error.plot(current * 1e6, (v["v(p)"] - technology.column.v_cm_v) * 1e3)
    error.axvspan(-240, 240, color="#e6f0e4", label="full scale")
    error.set(
        xlabel="current of the bit line [uA]", ylabel="virtual ground - v_cm [mV]",
        xlim=(-500, 500), ylim=(-3, 3),
    )  # fmt: skip
    for ax in axes:
        ax.legend(fontsize=7.5)


def main() -> None:
    """Draw both pictures."""
    mpl.rcParams.update({"text.color": INK, "svg.hashsalt": "readout", "svg.fonttype": "path"})
    figure = Figure(figsize=(13, 6), layout="constrained")
    chain, circuit = figure.subplots(1, 2, width_ratios=(1, 1.15))
    draw_chain(chain)
    draw_amplifier(circuit)
    for ax in (chain, circuit):
        ax.set_axis_off()
    figure.savefig(HERE / "readout.svg", metadata={"Date": None})
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    draw_measured(tuple(figure.subplots(1, 3)))
    figure.savefig(HERE / "readout_measured.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

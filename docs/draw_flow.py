"""Draws docs/flow.svg, the picture of the README: python docs/draw_flow.py."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK = "#2e3440"
FILL = {"file": "#f4f1e8", "code": "#e3ebf4", "result": "#e6f0e4"}
# name: (left, bottom, width, height, kind, title, lines)
BOXES = {
    "netlists": (0.0, 3.2, 2.3, 1.5, "file", "netlists/",
                 ("SPICE sub-circuits", "device and technology", "cards (TOML)")),
    "circuits": (2.9, 3.2, 2.3, 1.5, "code", "circuits/",
                 ("ngspice: 1T1R column,", "read-out, 6T2M ACAM", "cell and match line")),
    "library": (5.8, 3.2, 2.3, 1.5, "file", "library.h5",
                ("measured curves with", "axes, units, their own", "error, all netlists")),
    "behavioral": (5.8, 0.9, 2.3, 1.5, "code", "behavioral/",
                   ("effective matrices,", "step tables, log codes,", "noise of each device")),
    "system": (2.9, 0.9, 2.3, 1.5, "code", "system/",
               ("tiles, 8-bit codes,", "CNN and Llama on one", "programmed chip")),
    "result": (0.0, 0.9, 2.3, 1.5, "result", "results",
               ("accuracy, perplexity,", "text, as JSON; spread", "over chips")),
}  # fmt: skip
# from, to, label, where the label stands relative to the middle of the arrow
ARROWS = (
    ((2.3, 3.95), (2.9, 3.95), "", (0, 0)),
    ((5.2, 3.95), (5.8, 3.95), "", (0, 0)),
    ((6.95, 3.2), (6.95, 2.4), "read once", (0.08, 0)),
    ((5.8, 1.65), (5.2, 1.65), "", (0, 0)),
    ((2.9, 1.65), (2.3, 1.65), "", (0, 0)),
    ((4.05, 2.4), (4.05, 3.2), "nldpe validate:\nstimuli back to ngspice", (0.08, 0)),
)
COMMANDS = (
    (4.05, 4.98, "nldpe characterize"),
    (6.95, 4.98, "nldpe inspect"),
    (4.05, 0.52, "nldpe infer, generate, finetune"),
)


def box(ax: Axes, name: str) -> None:
    """Draw one box with its title and lines."""
    left, bottom, width, height, kind, title, lines = BOXES[name]
    ax.add_patch(
        FancyBboxPatch(
            (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=FILL[kind], edgecolor=INK, linewidth=1.0,
        )
    )  # fmt: skip
    middle, top = left + width / 2, bottom + height
    ax.text(middle, top - 0.28, title, ha="center", va="center", weight="bold", size=10.5)
    for i, line in enumerate(lines):
        ax.text(middle, top - 0.63 - 0.28 * i, line, ha="center", va="center", size=8.5)


def main() -> None:
    """Draw the loop from netlist to network and back."""
    mpl.rcParams.update({"text.color": INK, "svg.hashsalt": "flow", "svg.fonttype": "path"})
    figure = Figure(figsize=(8.3, 4.9))
    ax = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    ax.set(xlim=(-0.1, 8.2), ylim=(0.3, 5.2), aspect="equal")
    ax.axis("off")
    for name in BOXES:
        box(ax, name)
    for start, end, label, (dx, dy) in ARROWS:
        ax.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=13, color=INK, shrinkA=1, shrinkB=1
            )
        )
        middle = (start[0] + end[0]) / 2 + dx, (start[1] + end[1]) / 2 + dy
        ax.text(*middle, label, size=8.5, va="center", style="italic")
    for x, y, text in COMMANDS:
        ax.text(x, y, text, ha="center", va="center", family="monospace", size=9, color="#5e6f8d")
    figure.savefig(Path(__file__).with_name("flow.svg"), facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()

"""The table of accuracy: every network in every mode, published rows beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from system.engine import MODES
from system.sweep.axes import Axis
from system.sweep.table import Row

MODELS = ("lenet-mnist-float", "lenet-mnist", "ccexam-mnist")
HEAD = ("network", "metric", "samples", *MODES, "worst chip", "worst chip - float")


@dataclass(frozen=True)
class Published:
    """A row that somebody else published; percent, None where nothing was published."""

    network: str
    float32: float
    quantized: float | None
    noisy: float
    fine_tuned: float


SOURCE = "RACE-IT (predecessor of NL-DPE), Table III; NL-DPE's own table was not available to us"
PUBLISHED = (
    Published("EfficientNet, CIFAR-10", 91.15, 89.32, 70.25, 89.37),
    Published("BERT-base, MNLI", 84.2, None, 77.42, 82.09),
    Published("BERT-base, SST-2", 92.43, None, 91.36, 91.69),
    Published("BERT-base, QQP", 90.92, None, 89.27, 90.11),
    Published("BERT-base, RTE", 64.98, None, 62.05, 64.81),
)


def mode_axis() -> Axis:
    """Return the axis of the table: from software to silicon."""
    return Axis.from_text(f"mode={','.join(MODES)}")


def to_markdown(rows: Sequence[Row], chips: int, library: str) -> str:
    """Return the table of our rows, and that of the published ones.

    Parameters
    ----------
    rows : of a study over `mode_axis`.
    chips : of the noisy column.
    library : one line on what the circuits were.
    """
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for name in dict.fromkeys(row.point.model for row in rows):
        modes = {row.mode: row for row in rows if row.point.model == name}
        lines.append(_line(name, modes))
    noisy = f"Noisy: mean and standard deviation of {chips} programmed chips; {library}."
    return "\n".join([*lines, "", noisy, "", *_published()]) + "\n"


def _line(name: str, modes: dict[str, Row]) -> str:
    exact, noisy = modes["float"], modes["noisy"]
    scale, unit = (100.0, " points") if exact.percent else (1.0, "")
    gap = "" if noisy.reason else f"{(noisy.worst - exact.mean) * scale:+.2f}{unit}"
    scores = (modes[mode].score_text().replace("+/-", "±") for mode in MODES)
    cells = (f"`{name}`", exact.metric, str(exact.samples), *scores, noisy.worst_text(), gap)
    return "| " + " | ".join(cells) + " |"


def _published() -> list[str]:
    lines = [
        "| published, not ours | FP32 | 8 bits | ACAM noise | after NAF |",
        "|---|---|---|---|---|",
    ]
    for row in PUBLISHED:
        values = (row.float32, row.quantized, row.noisy, row.fine_tuned)
        cells = ("" if v is None else f"{v:.2f} %" for v in values)
        lines.append(f"| {row.network} | " + " | ".join(cells) + " |")
    return [*lines, "", f"Source: {SOURCE}."]

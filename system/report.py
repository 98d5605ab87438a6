"""Writes what the demonstration found: a table, plots and report.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import validation

if TYPE_CHECKING:
    from system.demo import Findings
    from system.inference import Result

MODES = ("float", "quantized", "ideal-analog", "noisy")
COLORS = ("#4c566a", "#5e81ac", "#88c0d0", "#bf616a")


def write_report(findings: Findings, folder: Path) -> None:
    """Write plots and report.md into a folder."""
    findings.library.plot(folder / "circuits.png")
    draw_modes(findings.results, folder / "modes.png")
    draw_errors(findings.reports, folder / "spice.png")
    (folder / "report.md").write_text(to_markdown(findings), encoding="utf-8")


def results_table(results: list[Result]) -> str:
    """Return a Markdown table: one row a network, one column a mode."""
    lines = ["| network | metric | " + " | ".join(MODES) + " |", "|" + "---|" * (2 + len(MODES))]
    for name in dict.fromkeys(r.model for r in results):
        rows = {r.mode: r for r in results if r.model == name}
        first = next(iter(rows.values()))
        cells = [_cell(rows[m]) if m in rows else "" for m in MODES]
        lines.append(f"| {name} | {first.metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(result: Result) -> str:
    scale, unit, digits = (100.0, " %", 2) if result.metric != "perplexity" else (1.0, "", 2)
    text = f"{result.mean * scale:.{digits}f}"
    if result.chips > 1:
        text += f" ± {result.std * scale:.{digits}f}"
    return text + unit


def to_markdown(findings: Findings) -> str:
    """Return the whole report."""
    library = findings.library
    parts = [
        "# From the transistor to the network\n",
        f"Device `{library.device.name}`, technology `{library.technology.name}`, library sha256 "
        f"`{library.sha256}`.\n",
        "## Accuracy from exact arithmetic to noisy silicon\n",
        results_table(findings.results) + "\n",
        "`-float`: weights before noise-aware fine-tuning. Perplexity: lower is better. "
        "Spread over programmed chips.\n",
        "![modes](modes.png)\n",
        "## The characterised circuits\n",
        "![circuits](circuits.png)\n",
        "## The look-up models against ngspice, on stimuli of these inferences\n",
    ]
    for name, reports in findings.reports.items():
        totals = validation.to_dict(reports)
        parts.append(
            f"### {name}\n\n```\n{validation.to_table(reports)}\n```\n\nColumns: rms "
            f"{totals['column_rms_lsb']:.3f} LSB, max {totals['column_max_lsb']:.3f} LSB over "
            f"{totals['points']} outputs. Codes: {totals['code_equal']:.2%} equal, "
            f"{totals['code_agreement']:.2%} equal or adjacent over {totals['searches']} "
            "searches.\n"
        )
    parts.append("![error](spice.png)\n")
    if findings.texts:
        parts.append("## Generated text\n")
        parts += [f"*{name}, {mode}*: {text}\n" for name, mode, text in findings.texts]
    parts.append("## Seconds\n")
    parts.append(
        "| step | seconds |\n|---|---|\n"
        + "\n".join(f"| {k} | {v:.1f} |" for k, v in findings.seconds.items())
        + "\n"
    )
    return "\n".join(parts)


def draw_modes(results: list[Result], path: Path) -> None:
    """Draw the metric of every network in every mode."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    metrics = list(dict.fromkeys(r.metric for r in results))
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(5.5 * len(metrics), 3.8), squeeze=False, layout="constrained"
    )
    for ax, metric in zip(axes[0], metrics, strict=True):
        chosen = [r for r in results if r.metric == metric]
        names = list(dict.fromkeys(r.model for r in chosen))
        for k, mode in enumerate(MODES):
            rows = [next(r for r in chosen if r.model == n and r.mode == mode) for n in names]
            scale = 100.0 if metric != "perplexity" else 1.0
            ax.bar(
                [i + 0.2 * (k - 1.5) for i in range(len(names))],
                [r.mean * scale for r in rows],
                width=0.19,
                yerr=[r.std * scale for r in rows],
                color=COLORS[k],
                label=mode,
                capsize=2,
            )
        ax.set_xticks(range(len(names)), names)
        ax.set_ylabel(metric if metric == "perplexity" else f"{metric} [%]")
        _zoom(ax, [r.mean * (100.0 if metric != "perplexity" else 1.0) for r in chosen])
        ax.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _zoom(ax: Any, values: list[float]) -> None:
    """Show the differences: the axis starts below the smallest value."""
    low, high = min(values), max(values)
    room = max(high - low, 0.02 * high)
    ax.set_ylim(max(0.0, low - 0.6 * room), high + 0.6 * room)


def draw_errors(reports: dict[str, list[validation.LayerReport]], path: Path) -> None:
    """Draw the column error of every replayed layer."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [(f"{name}\n{r.name}", r) for name, layers in reports.items() for r in layers]
    figure, ax = plt.subplots(figsize=(max(6.0, 0.9 * len(rows)), 4.2), layout="constrained")
    place = range(len(rows))
    ax.bar(place, [r.max_lsb for _, r in rows], color="#d8dee9", label="largest")
    ax.bar(place, [r.rms_lsb for _, r in rows], color="#5e81ac", label="rms")
    ax.axhline(0.1, color="#5e81ac", linestyle=":", linewidth=1, label="rms bar 0.1")
    ax.axhline(0.5, color="#4c566a", linestyle=":", linewidth=1, label="largest bar 0.5")
    ax.set_xticks(list(place), [label for label, _ in rows], rotation=60, ha="right", fontsize=7)
    ax.set_ylabel("column error against ngspice [LSB]")
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)

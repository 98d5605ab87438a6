"""Draws corners.svg and prints the tables of corners.md.

nldpe characterize --corners all --monte-carlo 1000 --out corners.h5
python docs/circuits/draw_corners.py corners.h5
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from behavioral.variation import acam_model, measured_sigma, vary
from system.engine import AnalogOps, make_ops
from system.hardware import Chip
from system.networks import Network, load_network

HERE = Path(__file__).parent
DRAWN = ("nominal", "ff", "ss", "tt_-40c", "tt_125c", "ss_-40c", "ff_125c")
G_TABLE = 1e-6  # conductance of the threshold columns [S]
NETWORK = "lenet-mnist"


def accuracy(network: Network, library: Library, samples: int, chips: int) -> tuple[float, float]:
    """Return mean and standard deviation [%] over chips, ACAM cells as the library varies them."""
    chosen, found = network.samples(samples), []
    for index in range(chips):
        with one_blas_thread():
            ops = make_ops(network, library, "noisy", Chip(0, index))
            assert isinstance(ops, AnalogOps)
            ops.hardware.acam = acam_model(library)  # before anything is programmed
            found.append(100 * network.score(ops, chosen, f"chip {index}"))
    return float(np.mean(found)), float(np.std(found, ddof=1))


def figures(library: Library) -> dict[str, float]:
    """Return what moves with the corner."""
    acam, model = library.acam, acam_model(library)
    at = np.log(G_TABLE)
    return {
        "lower": float(np.interp(at, np.log(acam.g), acam.lower_v)),
        "upper": float(np.interp(at, np.log(acam.g), acam.upper_v)),
        "v_lo": model.v_lo,
        "v_hi": model.v_hi,
        "cell": float(library.crossbar.current.max()),
        "energy": float((acam.energy_lower_j + acam.energy_upper_j).mean()),
        "line": float(acam.energy_match_line_j[1]),
        "delay": float(acam.delay_lower_s[-1, 8]),
    }


def measure(library: Library, samples: int, chips: int) -> dict[str, dict[str, Any]]:
    """Return figures and accuracies of every corner, recharacterised and mapped nominally."""
    network = load_network(NETWORK, tile_rows=library.technology.column.rows)
    rows: dict[str, dict[str, Any]] = {}
    for name in ("nominal", *sorted(library.corners)):
        corner = library.at(name)
        rows[name] = {**figures(corner), "own": accuracy(network, corner, samples, chips)}
        if name != "nominal":
            mapped = vary(corner, programmed_for=library)
            rows[name]["nominal"] = accuracy(network, mapped, samples, chips)
    for mismatch in ("trimmed", "open"):
        rows["nominal"][mismatch] = accuracy(network, vary(library, mismatch), samples, chips)
    return rows


def print_tables(rows: dict[str, dict[str, Any]]) -> None:
    """Print the tables in Markdown."""
    base = rows["nominal"]
    print("| corner | lower, upper bound at 1 uS | data line | cell at full swing | search energy |"
          " mismatching line | delay | LeNet, own tables | LeNet, nominal mapping |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        shifts = [f"{(row[b] - base[b]) * 1e3:+.0f}" for b in ("lower", "upper")]
        if name == "nominal":
            shifts = [f"{row[b]:.3f} V" for b in ("lower", "upper")]
        mapped = row.get("nominal")
        print(
            f"| {name} | {', '.join(shifts)}{'' if name == 'nominal' else ' mV'} "
            f"| {row['v_lo']:.3f} to {row['v_hi']:.3f} V | {row['cell'] * 1e6:.1f} uA "
            f"| {row['energy'] * 1e15:.2f} fJ | {row['line'] * 1e15:.1f} fJ "
            f"| {row['delay'] * 1e12:.0f} ps | {show(row['own'])} "
            f"| {show(mapped) if mapped else '-'} |"
        )
    for mismatch in ("trimmed", "open"):
        print(f"mismatch, {mismatch}: {show(base[mismatch])}")


def show(score: tuple[float, float]) -> str:
    """Return mean and spread."""
    return f"{score[0]:.2f} ± {score[1]:.2f} %"


def draw_thresholds(ax: Any, library: Library) -> None:
    """Draw both bounds over conductance."""
    for k, name in enumerate(n for n in DRAWN if n == "nominal" or n in library.corners):
        acam = library.at(name).acam
        ax.semilogx(acam.g * 1e6, acam.lower_v, f"C{k}", label=name)
        ax.semilogx(acam.g * 1e6, acam.upper_v, f"C{k}", ls="--", lw=0.8)
    readout = library.technology.readout
    ax.axhspan(readout.v_dl_lo_v, readout.v_dl_hi_v, color="0.93", zorder=0)
    ax.set(xlabel="RRAM conductance [uS]", ylabel="threshold [V]")
    ax.set_title("bounds: lower (full), upper (dashed); data line grey")
    ax.legend(fontsize="x-small", ncols=2)


def draw_accuracy(ax: Any, rows: dict[str, dict[str, Any]]) -> None:
    """Draw LeNet at each corner, as mapped onto its own and onto the nominal tables."""
    names = list(rows)
    for key, colour, label in (("own", "C0", "own tables"), ("nominal", "C3", "nominal mapping")):
        shown = [(k, *rows[n][key]) for k, n in enumerate(names) if key in rows[n]]
        at, mean, spread = np.transpose(shown)
        ax.errorbar(at, mean, spread, fmt="o", ms=4, color=colour, capsize=2, label=label)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize="x-small")
    ax.set(ylabel="accuracy [%]", title=f"{NETWORK}, noisy", ylim=(0, 102))
    ax.legend(fontsize="x-small", loc="lower left")


def draw_movement(ax: Any, rows: dict[str, dict[str, Any]]) -> None:
    """Draw energy and delay over their nominal values."""
    names, base = list(rows), rows["nominal"]
    for key, label, marker in (
        ("energy", "search energy", "o"),
        ("line", "mismatching line", "s"),
        ("delay", "delay", "^"),
        ("cell", "cell current", "x"),
    ):
        ratio = [rows[n][key] / base[key] for n in names]
        ax.plot(range(len(names)), ratio, marker, ms=4, label=label)
    ax.axhline(1.0, color="0.8", zorder=0)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize="x-small")
    ax.set(ylabel="over nominal", title="energy, delay, current")
    ax.legend(fontsize="x-small")


def draw_mismatch(ax: Any, library: Library) -> None:
    """Draw the Monte-Carlo against the normal law that inference draws from."""
    acam = library.acam
    middle = len(acam.monte_carlo_g) // 2
    for bound, colour in (("lower", "C0"), ("upper", "C1")):
        cells = getattr(acam, f"monte_carlo_{bound}_v")[middle] * 1e3
        share = np.concatenate([np.linspace(0.001, 0.04, 14), np.linspace(0.05, 0.95, 40)])
        share = np.unique(np.concatenate([share, 1 - share]))
        shift = np.quantile(cells, share)
        at = np.argmin(np.abs(acam.mismatch_g - acam.monte_carlo_g[middle]))
        sigma = float(measured_sigma(acam, bound)[0][at]) * 1e3  # of the cell: it alone is drawn
        ax.plot(shift, norm.ppf(share), ".", ms=3, color=colour, label=f"{bound}, ngspice")
        ax.plot(shift, shift / sigma, lw=0.8, color=colour, label=f"{bound}, {sigma:.1f} mV")
    g = acam.monte_carlo_g[middle] * 1e6
    ax.set(xlabel="threshold less that of the matched cell [mV]", ylabel="normal quantile")
    ax.set_title(f"mismatch at {g:.3g} uS, {cells.size} cells a bound")
    ax.legend(fontsize="x-small")


def draw(library: Library, rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the four panels."""
    mpl.rcParams.update({"svg.hashsalt": "corners", "font.size": 8})
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    draw_thresholds(axes[0, 0], library)
    draw_accuracy(axes[0, 1], rows)
    draw_movement(axes[1, 0], rows)
    if np.size(library.acam.monte_carlo_g):
        draw_mismatch(axes[1, 1], library)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="made with --corners and --monte-carlo")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--chips", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "corners.svg")
    args = parser.parse_args()
    library = Library.from_hdf5(args.library)
    rows = measure(library, args.samples, args.chips)
    print_tables(rows)
    draw(library, rows, args.out)


if __name__ == "__main__":
    main()

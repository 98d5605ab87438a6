"""Error of a product against x @ w as the bit line's wire grows, with and without pre-distortion.

    nldpe characterize --out library.h5
    python examples/wire_resistance.py --library library.h5

The wire enters the column only, so one library serves the whole sweep: its cell tables stay.
Pre-distortion ends where cells would need more than g_max; their share is the last column.
"""

import argparse
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from behavioral.crossbar import CrossbarModel
from behavioral.library import Library

OHMS = (0.0, 0.25, 0.5, 1.0, 2.5)


def main() -> None:
    """Print and draw the rms error in LSB of an 8-bit output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", default="library.h5")
    parser.add_argument("--columns", type=int, default=128)
    parser.add_argument("--plot", default="wire_resistance.png")
    args = parser.parse_args()

    library = Library.from_hdf5(args.library)
    rng = np.random.default_rng(1)
    rows = library.technology.column.rows
    w = np.clip(rng.normal(0, 0.12, (rows, args.columns)), -1, 1).astype(np.float32)
    x = np.maximum(rng.normal(0, 0.4, (512, rows)), 0).clip(0, 1).astype(np.float32)
    ideal = x @ w
    lsb = np.ptp(ideal, axis=0) / 256

    errors = []
    print("ohm per cell   plain targets   pre-distorted   [LSB rms]   cells at g_max")
    for ohms in OHMS:
        override = {"column.r_wire_ohm_per_cell": str(ohms)}
        swept = replace(library, technology=library.technology.override(override))
        model = CrossbarModel(swept)
        row = []
        for predistort in (False, True):
            array = model.program(w, noise="none", predistort=predistort, inputs=x[:48])
            error = (model.multiply(array, x) - ideal)[48:] / lsb
            row.append(float(np.sqrt(np.mean(error**2))))
        errors.append(row)
        print(f"{ohms:12.2f} {row[0]:15.2f} {row[1]:15.2f} {array.clipped / w.size:26.2%}")

    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.add_subplot()
    for column, label in zip(np.transpose(errors), ("plain targets", "pre-distorted"), strict=True):
        ax.plot(OHMS, column, "o-", label=label)
    ax.set(xlabel="wire resistance [ohm per cell]", ylabel="error [LSB rms]", yscale="log")
    ax.legend()
    figure.savefig(args.plot, dpi=120)
    print(f"{args.plot} written")


if __name__ == "__main__":
    main()

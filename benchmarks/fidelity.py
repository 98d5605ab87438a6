"""The column model against ngspice at transistor level: technologies, wires, kinds of inputs.

    python -m benchmarks.fidelity [--technology lp16 --technology FILE.toml] [--wire 0 --wire 2.5]

Differential columns of 256 cells, noise frozen into the devices, weights normal (sigma 0.3). The
correction is fitted on 48 inputs of the same kind, as calibration records them, or on the default
mixture; errors are those of other inputs. LSB: 1/256 of the range of each column's outputs over
2,048 inputs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

from behavioral.crossbar import FIT_SAMPLES, typical_inputs
from behavioral.library import Library
from benchmarks.residual import COLUMNS, Array, Bench, show
from circuits.errors import NldpeError
from circuits.parameters import load_parameters

TECHNOLOGIES, OHMS = ("lp16", "lp45", "cmos180"), ("0", "0.5", "1", "2.5")
KINDS = ("both signs", "one sign, half of them 0")


def inputs(kind: str, samples: int, rows: int, rng: np.random.Generator) -> Array:
    """Return row drives (samples, rows)."""
    if kind == KINDS[0]:
        return np.clip(rng.normal(0, 0.35, (samples, rows)), -1, 1)
    return rng.uniform(0, 1, (samples, rows)) * (rng.random((samples, rows)) < 0.5)


def measure(library: Library, name: str, samples: int, mixture: bool) -> None:
    """Print one line for every kind of inputs."""
    bench, rng = Bench(library, samples), np.random.default_rng(1)
    w = np.clip(rng.normal(0, 0.3, (bench.rows, COLUMNS)), -1, 1)
    for kind in KINDS:
        own = inputs(kind, FIT_SAMPLES, bench.rows, rng)
        fitted = typical_inputs(bench.rows) if mixture else own
        array = bench.model.program(w, slices=1, keep_devices=True, inputs=fitted)
        many = bench.model.multiply(array, inputs(kind, 2048, bench.rows, rng))
        error, _ = bench.error(array, inputs(kind, samples, bench.rows, rng))
        show(f"{name}, {kind}", error, np.ptp(many, axis=0) / 256)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="taox")
    parser.add_argument("--technology", action="append", help="default: all three that ship")
    parser.add_argument("--wire", action="append", help="ohm per cell; default: 0, 0.5, 1, 2.5")
    parser.add_argument("--samples", type=int, default=16, help="inputs of each kind")
    parser.add_argument("--mixture", action="store_true", help="fit on the default mixture")
    given = parser.parse_args()
    print("| technology, ohm per cell, inputs | rms LSB | largest LSB |\n|---|---|---|")
    for name in given.technology or TECHNOLOGIES:
        library = Library.from_spice(*load_parameters(given.device, name))
        for ohms in given.wire or OHMS:
            wired = library.technology.override({"column.r_wire_ohm_per_cell": ohms})
            changed = replace(library, technology=wired)
            measure(changed, f"{name}, {ohms}", given.samples, given.mixture)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

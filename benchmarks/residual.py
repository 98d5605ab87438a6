"""What the column model leaves against ngspice, by the position of the driven rows and by load.

    python -m benchmarks.residual --library library.h5

Differential columns at transistor level, noise frozen into the devices. By position: normal
inputs (sigma 0.35) on 32 neighbouring rows, the others at rest; row 0 is farthest from the
read-out. By load: all rows driven, weights of growing size. Errors in LSB: 1/256 of the range of
each column's outputs when all rows are driven.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from behavioral.array import ProgrammedArray
from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from circuits import crossbar
from circuits.errors import NldpeError

Array = NDArray[np.float64]
BLOCK, COLUMNS = 32, 4
SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.5)  # of normal weights, clipped to [-1, 1]


class Bench:
    """One library, its model, and ngspice."""

    def __init__(self, library: Library, samples: int) -> None:
        self.library, self.samples = library, samples
        self.model, self.rows = CrossbarModel(library), library.technology.column.rows
        self.rng = np.random.default_rng(0)

    def inputs(self) -> Array:
        """Return normal row drives (samples, rows)."""
        return np.clip(self.rng.normal(0, 0.35, (self.samples, self.rows)), -1, 1)

    def program(self, sigma: float) -> ProgrammedArray:
        """Return columns of normal weights, without error slice."""
        w = np.clip(self.rng.normal(0, sigma, (self.rows, COLUMNS)), -1, 1)
        return self.model.program(w, slices=1, keep_devices=True, inputs=self.inputs())

    def error(self, array: ProgrammedArray, x: Array) -> tuple[Array, Array]:
        """Return the model's error (samples, COLUMNS), and what ngspice gives."""
        assert array.devices is not None
        g = array.devices.astype(float).transpose(0, 2, 1).reshape(2 * COLUMNS, -1)
        device, technology = self.library.device, self.library.technology
        current = crossbar.replay(device, technology, g, x * self.model.v_read, workers=1)
        exact = (current[:, :COLUMNS] - current[:, COLUMNS:]) / (
            self.model.v_read * self.model.span
        )
        return self.model.multiply(array, x) - exact, exact


def show(name: str, error: Array, lsb: Array) -> None:
    """Print one line of a table."""
    scaled = error / lsb
    rms = np.sqrt(np.mean(np.square(scaled)))
    print(f"| {name} | {rms:.3f} | {np.abs(scaled).max():.3f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--library", required=True, help="from nldpe characterize")
    parser.add_argument("--samples", type=int, default=16, help="inputs of each line")
    given = parser.parse_args()
    bench = Bench(Library.from_hdf5(given.library), given.samples)
    print("| load: sigma of the weights, mean cell conductance | rms LSB | largest LSB |")
    print("|---|---|---|")
    for sigma in SIGMAS:
        array = bench.program(sigma)
        error, exact = bench.error(array, bench.inputs())
        mean = np.mean(bench.model.cell.cell_conductance(array.devices)) * 1e6
        show(f"{sigma:g}, {mean:.1f} uS", error, np.ptp(exact, axis=0) / 256)
    array = bench.program(0.3)
    lsb = np.ptp(bench.error(array, bench.inputs())[1], axis=0) / 256
    print("\n| driven rows | rms LSB | largest LSB |\n|---|---|---|")
    for first in range(0, bench.rows, BLOCK):
        x = np.zeros((bench.samples, bench.rows))
        x[:, first : first + BLOCK] = bench.inputs()[:, first : first + BLOCK]
        show(f"{first} to {first + BLOCK - 1}", bench.error(array, x)[0], lsb)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

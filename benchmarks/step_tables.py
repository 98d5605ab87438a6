"""Codes of step tables against the exact search of all rows, for units in parallel.

    python -m benchmarks.step_tables --library library.h5

Noisy 8-bit Gray units at random inputs of the whole data line. A code of several units is the sum
of theirs; differences are given in codes of their mean.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, Windows
from behavioral.acam_unit import copy_seeds
from behavioral.library import Library
from circuits.errors import NldpeError

COLUMNS, INPUTS = 64, 2000
COPIES = 1, 2, 4, 8, 16
FUNCTIONS = {
    "identity": Windows.from_function(lambda x: x, (0.0, 1.0)),
    "silu": Windows.from_function(lambda x: x / (1.0 + np.exp(-x)), (-6.0, 6.0)),
}


def differences(model: AcamModel, windows: Windows, copies: int) -> NDArray[np.float64]:
    """Return table minus search (inputs, columns), in codes of the mean of so many units."""
    rows = *windows.on_data_line(), windows.bit, 8
    u = np.random.default_rng(0).random((INPUTS, COLUMNS), np.float32)
    exact = np.zeros(u.shape)
    for key in copy_seeds(1, copies):
        exact += model.search(model.program(*rows, columns=COLUMNS, seed=key), u)
    whole = model.program(*rows, columns=COLUMNS, seed=1, copies=copies)
    return np.asarray((model.convert(whole, u)[0] - exact) / copies, np.float64)


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--library", required=True, type=Path)
    model = AcamModel.from_library(Library.from_hdf5(parser.parse_args().library))
    print("| function | units | sums equal | within half a code | within one | rms |")
    print("|---|---|---|---|---|---|")
    for name, windows in FUNCTIONS.items():
        for copies in COPIES:
            far = np.abs(differences(model, windows, copies))
            shares = " | ".join(f"{(far <= d).mean() * 100:.2f} %" for d in (0.0, 0.5, 1.0))
            print(f"| {name} | {copies} | {shares} | {np.sqrt((far**2).mean()):.3f} |")


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

"""Log and exp ACAM units as tables over DAC codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, Seed, Windows
from behavioral.noise import seed_path


def log_codes(in_bits: int, bits: int, delta: float) -> NDArray[np.int64]:
    """Log code of every linear code: 0 below the floor, 2**bits - 1 at full scale."""
    top = 2**bits - 1
    linear = np.arange(1, 2**in_bits) / (2**in_bits - 1)
    codes = np.floor(top + np.log(linear) / delta + 0.5)
    return np.concatenate([[0], np.maximum(codes, 0)]).astype(np.int64)


def exp_codes(out_bits: int, attenuation: NDArray[np.floating], copies: int) -> NDArray[np.int64]:
    """Linear codes (copies, levels) of units whose sum is exp(-attenuation) in finer codes.

    Each copy rounds at another place, ``1 / copies`` of a code from the next, so that the sum is
    ``floor(copies * (2**out_bits - 1) * exp(-attenuation) + 0.5)`` (Hermite's identity).
    """
    linear = (2**out_bits - 1) * np.exp(-attenuation)
    at = (np.arange(copies) + 0.5) / copies
    return np.asarray(np.floor(linear + at[:, None]), np.int64)


def unit_tables(
    acam: AcamModel | None,
    codes: NDArray[np.int64],
    bits: int,
    gray: bool,
    units: int,
    seed: Seed,
    name: str,
    noise: bool | float,
) -> tuple[NDArray[np.int64], int]:
    """Program units that give ``codes`` (copies, levels) at evenly spaced DAC levels.

    Returns
    -------
    sums : (units, levels) int64 array
        Codes of all copies, added.
    rows : int
        ACAM rows of one copy; the most that one takes.
    """
    total, rows = np.zeros((units, codes.shape[1]), np.int64), 0
    key = (*seed_path(seed), ord(name[0]))
    for i, wanted in enumerate(codes):
        windows = Windows.from_levels(wanted, (0.0, 1.0), (0.0, 1.0), bits=bits, gray=gray)
        rows = max(rows, windows.rows)
        if acam is None:
            total += wanted
            continue
        lo, hi = windows.on_data_line()
        total += acam.program(
            lo, hi, windows.bit, windows.bits, seed=(*key, i) if i else key, noise=noise,
            gray=gray, columns=units, levels=wanted.size, keep_thresholds=False,
        ).table  # fmt: skip
    return total, rows

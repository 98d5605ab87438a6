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


def unit_tables(
    acam: AcamModel | None,
    windows: Windows,
    codes: NDArray[np.int64],
    units: int,
    seed: Seed,
    name: str,
    noise: bool | float,
    copies: int,
) -> NDArray[np.int64]:
    """Codes of every unit at every DAC level, (units, levels)."""
    if acam is None:
        return np.broadcast_to(codes, (units, codes.size))
    lo, hi = windows.on_data_line()
    key, total = (*seed_path(seed), ord(name[0])), np.zeros((units, codes.size), np.int64)
    for i in range(copies):
        total += acam.program(
            lo, hi, windows.bit, windows.bits, seed=(*key, i) if i else key, noise=noise,
            gray=windows.gray, columns=units, levels=codes.size, keep_thresholds=False,
        ).table  # fmt: skip
    return (total + copies // 2) // copies

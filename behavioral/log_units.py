"""Log and exp ACAM units as tables over DAC codes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, Seed, Windows
from behavioral.noise import seed_path
from circuits.errors import ParameterError

_MOST = int(np.iinfo(np.int16).max)  # of a sum of exp codes


def log_codes(in_bits: int, bits: int, delta: float, copies: int) -> NDArray[np.int64]:
    """Log codes (copies, levels) of linear codes: 0 below the floor, 2**bits - 1 at full scale.

    `delta` is one code. Copies round at staggered places, as those of `exp_codes`.
    """
    linear = np.arange(1, 2**in_bits) / (2**in_bits - 1)
    codes = np.floor(2**bits - 1 + np.log(linear) / delta + _staggered(copies))
    return np.pad(np.maximum(codes, 0), [(0, 0), (1, 0)]).astype(np.int64)


def exp_codes(out_bits: int, attenuation: NDArray[np.floating], copies: int) -> NDArray[np.int64]:
    """Linear codes (copies, levels) of units whose sum is exp(-attenuation) in finer codes.

    Each copy rounds at another place, ``1 / copies`` of a code from the next, so that the sum is
    ``floor(copies * (2**out_bits - 1) * exp(-attenuation) + 0.5)`` (Hermite's identity).

    Raises
    ------
    ParameterError
        The sum does not fit the tables of products.
    """
    if not 1 <= copies * (2**out_bits - 1) <= _MOST:
        raise ParameterError(f"{copies} copies of {out_bits} bits: sums of codes end at {_MOST}")
    linear = (2**out_bits - 1) * np.exp(-attenuation)
    return np.asarray(np.floor(linear + _staggered(copies)), np.int64)


def _staggered(copies: int) -> NDArray[np.float64]:
    """Return what each copy (copies, 1) adds before it rounds down: half a code on the mean."""
    return (np.arange(copies)[:, None] + 0.5) / copies


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
        windows = _windows(wanted.tobytes(), bits, gray)
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


@lru_cache(maxsize=128)
def _windows(codes: bytes, bits: int, gray: bool) -> Windows:
    """Return the windows of int64 codes: those of a kind of units are the same in every block."""
    levels = np.frombuffer(codes, np.int64)
    return Windows.from_levels(levels, (0.0, 1.0), (0.0, 1.0), bits=bits, gray=gray)


def attenuations(codes: NDArray[np.int64], top: int, zero: int) -> NDArray[np.uint16]:
    """Return the attenuation for each linear code, from log codes (units, levels); 0 is zero's.

    The units' data line is inverted.
    """
    inverted = codes[:, ::-1]
    found = np.where(inverted == 0, zero, top - inverted).astype(np.uint16)
    found[:, 0] = zero  # a magnitude of 0 is seen digitally, whatever its noisy unit says
    return found


def signed(codes: NDArray[np.int64], section: int, zero: int) -> NDArray[np.int16]:
    """Return exp codes (units, attenuations) in three sections of signs +, -, +; 0 from `zero` on.

    Returns
    -------
    (units, 3 * section) int16 array
    """
    tables = np.zeros((len(codes), 3, section), np.int16)
    used = min(codes.shape[1], zero)
    tables[:, :, :used] = codes[:, None, :used]
    tables[:, 1] *= -1
    return tables.reshape(len(codes), -1)

"""Log and exp ACAM units as tables over DAC codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, Seed, Windows
from behavioral.noise import seed_path
from circuits.errors import ParameterError

_MOST = int(np.iinfo(np.int16).max)  # of a sum of exp codes
_MOST_LOGS = 1 << 12  # log codes: packed sums of two have 16 bits

# Takes the key and the exact windows of a unit, and returns what is programmed in their place.
Placed = Callable[[str, Windows], Windows]


def as_exact(key: str, exact: Windows) -> Windows:
    """Return the exact windows: nothing is tuned."""
    return exact


@dataclass(frozen=True)
class LevelFunction:
    """What units in parallel give at evenly spaced DAC levels; their codes are added.

    Attributes
    ----------
    key : of its windows, once they are tuned; a number for the place follows.
    codes : (places, levels) int64 array
        Codes along the data line of units that round at different places.
    bits : int
        Of the code of one unit.
    repeat : int
        Units at each place.
    """

    key: str
    codes: NDArray[np.int64]
    bits: int
    repeat: int = 1

    def windows(self, gray: bool = True, placed: Placed = as_exact) -> list[tuple[str, Windows]]:
        """Return key and windows of the units at each place."""
        keys = [f"{self.key}.{i}" for i in range(len(self.codes))]
        found = (_windows(codes.tobytes(), self.bits, gray) for codes in self.codes)
        return [(key, placed(key, exact)) for key, exact in zip(keys, found, strict=True)]


@dataclass(frozen=True)
class ProductFunctions:
    """The log and the exp units of data-dependent products; their data lines are as programmed.

    Attributes
    ----------
    log, exp : LevelFunction
        Over magnitudes that fall along the line, and attenuations that fall along the line.
    delta : float
        Step of the log codes that are added [neper].
    """

    log: LevelFunction
    exp: LevelFunction
    delta: float

    @classmethod
    def of(
        cls, bits: int, in_bits: int, out_bits: int, *, steps_per_octave: int | None = None,
        exp_range: float | None = None, copies: int = 1, log_copies: int = 1, finer: int = 1,
    ) -> ProductFunctions:  # fmt: skip
        """Return what the units of a `behavioral.products.ProductModel` give.

        Parameters and errors as of its `program`.
        """
        for value in (bits, in_bits, out_bits):
            if not 2 <= value <= 12:
                raise ParameterError(f"{value} bits: products take 2 to 12 bits")
        if min(copies, log_copies) < 1:
            raise ParameterError(
                f"{copies} copies, {log_copies} of log units: a core has at least one of each"
            )
        if finer < 1 or log_copies % finer or finer << bits > _MOST_LOGS:
            raise ParameterError(
                f"log codes {finer} times finer than {bits} bits, of {log_copies} copies;"
                f" permitted: a divisor of the copies, and {_MOST_LOGS} log codes in all"
            )
        steps = steps_per_octave or max(int((2**bits - 2) / math.log2(2**in_bits - 1)), 1)
        delta = math.log(2.0) / (steps * finer)
        finest = copies * (2**out_bits - 1)
        reach = exp_range if exp_range is not None else math.log(2 * finest) + delta
        if not delta < reach < math.inf:
            raise ParameterError(f"exp_range = {reach:g} neper must exceed one step, {delta:g}")
        falling = np.arange(math.ceil(reach / delta), -1, -1) * delta
        repeat = log_copies // finer
        log = LevelFunction(
            f"acam.log.{in_bits}-{bits}.{finer}x{repeat}",
            log_codes(in_bits, bits, finer * delta, finer)[:, ::-1], bits, repeat,
        )  # fmt: skip
        exp = LevelFunction(
            f"acam.exp.{steps * finer}-{out_bits}.{copies}x1",
            exp_codes(out_bits, falling, copies), out_bits,
        )  # fmt: skip
        return cls(log, exp, delta)


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
    function: LevelFunction,
    gray: bool,
    units: int,
    seed: Seed,
    noise: bool | float,
    placed: Placed = as_exact,
) -> tuple[NDArray[np.int64], int]:
    """Program units in parallel that give a function of DAC levels.

    Parameters
    ----------
    acam : AcamModel or None
        None: exact functions, no ACAM behind them.
    function : LevelFunction
    units : how many there are of each.
    gray, noise : as in `AcamModel.program`.
    seed : of these units; each of those in parallel has a stream of its own.
    placed : Placed

    Returns
    -------
    sums : (units, levels) int64 array
        Codes of all units in parallel, added.
    rows : int
        ACAM rows of one unit; the most that one takes.
    """
    key, levels = seed_path(seed), function.codes.shape[1]
    windows = [found for _, found in function.windows(gray, placed)]
    rows = max(found.rows for found in windows)
    if acam is None:
        total = function.repeat * function.codes.sum(axis=0)
        return np.tile(total, (units, 1)), rows
    total = np.zeros((units, levels), np.int64)
    for i in range(len(windows) * function.repeat):
        found = windows[i % len(windows)]
        lo, hi = found.on_data_line()
        total += acam.program(
            lo, hi, found.bit, found.bits, seed=(*key, i) if i else key, noise=noise,
            gray=gray, columns=units, levels=levels, keep_thresholds=False,
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

"""How the error of noisy ACAM units changes with the bounds of their windows.

Bounds pass through the very model that inference programs: the characterised threshold curve, and
programming and read noise of two devices a row. What they become decides the codes of all inputs;
moving a bound a little changes the output bit of its row for the inputs that lie at the bound, and
for no others. So the derivative of the mean squared error of the codes is the density of inputs at
the bound, times what the squared error there is with the bit and without it: exact for these draws,
without a soft search, and without the noise of sampled inputs.

References
----------
NL-DPE, arXiv 2511.13950, Algorithm 1, and the released code take the gradient of a soft search in
place of it: rows score relu(u - lo) relu(hi - u), and the Gray code is decoded softly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel
from behavioral.windows import Windows
from system.training.functions import Problem

Float = NDArray[np.float64]
Codes = NDArray[np.int64]

POINTS = 2048  # of a line, at which the codes of units are looked up
_STEP = 1e-3  # of the line: to either side of a bound, for the slope of a programmed one


@dataclass(frozen=True)
class Programmed:
    """Units as their cells have them.

    Attributes
    ----------
    ends : (2, units, rows) float array, lower and upper bounds on the line, in u.
    slopes : (2, units, rows) float array, how they move with the wanted ones.
    codes : (units, points or levels) int array, along the line.
    windows : that were wanted.
    """

    ends: Float
    slopes: Float
    codes: Codes
    windows: Windows


def program(
    bounds: Float, line: Float, windows: Windows, model: AcamModel, *, seed: tuple[int, ...],
    noise: float = 1.0, levels: int | None = None,
) -> Programmed:  # fmt: skip
    """Program windows into cells.

    Parameters
    ----------
    bounds : (2, rows) float array [units of the argument]
        Wanted in place of those of `windows`.
    line : (2, units) float array, arguments at the ends of each unit's data line.
    windows : Windows
    model : AcamModel
    seed : of the draws.
    noise : factor on both standard deviations.
    levels : DAC levels along the line, if units convert nothing else.
    """
    wanted = (bounds[:, None] - line[0][:, None]) / (line[1] - line[0])[:, None]

    def actual(shift: float, levels: int) -> tuple[Float, Codes]:
        unit = model.program(
            wanted[0] + shift, wanted[1] + shift, windows.bit, windows.bits, seed=seed,
            noise=noise, columns=line.shape[1], levels=levels,
        )  # fmt: skip
        assert unit.lo is not None
        assert unit.hi is not None
        return np.stack([unit.lo, unit.hi]).astype(np.float64), unit.table.astype(np.int64)

    (below, _), (above, _) = actual(-_STEP, 2), actual(_STEP, 2)
    ends, codes = actual(0.0, levels or POINTS)
    with np.errstate(invalid="ignore"):
        slopes = (above - below) / (2 * _STEP)
    slopes[~np.isfinite(slopes)] = 1.0  # a bound next to the end of the line
    return Programmed(ends, slopes, codes, windows)


def decode(word: Codes) -> Codes:
    """Return the numbers of Gray words of up to 16 bits."""
    for shift in (8, 4, 2, 1):
        word = word ^ (word >> shift)
    return word


def derivative(
    problem: Problem, bounds: list[Float], chosen: Codes, model: AcamModel, seed: tuple[int, ...]
) -> list[Float]:
    """Return how the mean squared error of codes changes with each bound.

    Parameters
    ----------
    problem : Problem
    bounds : (2, rows) float arrays [units of the argument], of each set of windows.
    chosen : (n,) columns to program.
    model : AcamModel
    seed : of the draws.

    Returns
    -------
    (2, rows) float arrays [codes^2 over units of the argument]
        Means over the columns; of a bound beyond its line 0.
    """
    line, repeat = problem.ends(chosen), problem.repeat
    lines = np.repeat(line, repeat, axis=1)
    units = [
        program(
            own,
            lines,
            place.windows,
            model,
            seed=(*seed, i) if i else seed,
            levels=problem.levels,
        )
        for i, (own, place) in enumerate(zip(bounds, problem.placements, strict=True))
    ]
    count = repeat * len(units)
    mean = np.sum([unit.codes.reshape(len(chosen), repeat, -1).sum(1) for unit in units], axis=0)
    mean = np.repeat(mean / count, repeat, axis=0)
    of = np.repeat(chosen, repeat)
    span = (lines[1] - lines[0])[:, None]
    return [
        (_by_bound(problem, unit, mean, of, count) * unit.slopes / span).sum(axis=1) / len(chosen)
        for unit in units
    ]


def _by_bound(problem: Problem, units: Programmed, mean: Float, of: Codes, count: int) -> Float:
    """Return the derivative (2, units, rows) by the actual bounds [codes^2].

    Parameters
    ----------
    mean : (units, points) mean codes on each unit's line.
    of : (units,) the column that each unit stands at.
    count : units in parallel.
    """
    both = units.ends.transpose(1, 0, 2)
    inside = (both > 0.0) & (both < 1.0)
    u = problem.snapped(np.where(inside, both, 0.5).reshape(len(of), -1))
    at = np.rint(u * (mean.shape[1] - 1)).astype(np.int64)
    error = np.take_along_axis(mean, at, axis=1) - problem.codes(problem.ends(of), u)
    code = np.take_along_axis(units.codes, at, axis=1)
    mask = np.tile(1 << units.windows.bit, 2)
    word = code ^ (code >> 1)
    less, more = (decode(w) - code for w in (word & ~mask, word | mask))
    change = (error + more / count) ** 2 - (error + less / count) ** 2
    change *= problem.density(of, u) * inside.reshape(u.shape) * _alone(units, u)
    signed = change.reshape(both.shape) * np.array([-1.0, 1.0])[:, None]
    return np.asarray(signed.transpose(1, 0, 2))


def _alone(units: Programmed, u: Float) -> NDArray[np.bool_]:
    """Return where no other row of the same bit matches at bounds u (units, 2 * rows)."""
    low, high = units.ends
    places, found = u.reshape(len(u), 2, -1), np.zeros((len(u), 2, len(low[0])), np.bool_)
    for bit in np.unique(units.windows.bit):
        (rows,) = np.nonzero(units.windows.bit == bit)
        x = places[:, :, rows, None]
        match = (x > low[:, None, None, rows]) & (x < high[:, None, None, rows])
        match &= ~np.eye(len(rows), dtype=np.bool_)
        found[:, :, rows] = ~match.any(axis=-1)
    empty = low >= high
    return np.asarray((found & ~empty[:, None]).reshape(u.shape))

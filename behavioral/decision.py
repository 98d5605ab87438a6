"""Noise of a decision: what comes between a column's current and its code, drawn at every read.

Near an edge a code is then soft: with the edge at t and the line at u, its probability is
Phi((u - t) / sigma).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from behavioral.noise import add_read_noise, seed_path

if TYPE_CHECKING:
    from behavioral.library import Library

_STREAM = 4  # of a part of a layer; others are its cells, reads, and reads that trim


def line_noise(library: Library) -> float:
    """Return the rms noise on a data line [V]: ``acam.decision_noise_v`` and the read-out's.

    The read-out's is measured for amplifiers of transistors, and unknown, hence 0, for the model
    of one. Both are taken as white and independent between columns, units and reads.
    """
    measured = np.nan_to_num(np.ravel(library.readout.noise_v))  # empty: not measured
    return math.hypot(library.technology.acam.decision_noise_v, *measured)


def disturb(
    y: NDArray[np.float32],
    deviation: NDArray[np.float32],
    seed: int | tuple[int, ...],
    first_column: int,
    first_sample: int,
) -> None:
    """Add noise of a deviation (columns,) to what units convert (samples, columns), in place.

    Draws depend on the seed, the panel of columns, and the numbers of sample and column in it.
    """
    variance = np.ascontiguousarray(np.broadcast_to(np.square(deviation), y.shape))
    add_read_noise(y, variance, line_seed(seed), first_column, first_sample)


def line_seed(seed: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the stream of the noise on the lines of one part of a layer."""
    return (*seed_path(seed), _STREAM)

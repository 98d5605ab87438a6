"""Random offsets of read-out amplifiers: constants of every column that nobody knows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from behavioral.noise import normal, stream_key

if TYPE_CHECKING:
    from behavioral.library import Library
    from behavioral.programming import Group, Programmer

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class ReadoutOffset:
    """Input offsets of the stages behind a column, as column outputs.

    A transimpedance stage that holds its bit line at an offset d takes d times the conductance of
    the line away from its current, and its output is off by d itself, as by d over its feedback
    resistor. A summing stage's offset reaches its output with the noise gain of its two sums. The
    stages of the error pair count a k-th of the others, and are left out.

    Attributes
    ----------
    sigma : float
        Standard deviation of an amplifier's input offset, over v_read.
    v_read : float
        Full row swing [V].
    g_feedback : float
        Conductance of a feedback resistor, over span.
    """

    sigma: float
    v_read: float
    g_feedback: float

    @classmethod
    def of(cls, library: "Library", v_read: float, span: float) -> Self | None:
        """Return the offsets of a library whose mismatch is "open"; v_read [V], span [S].

        None where the amplifiers are a model, which has none, or where they are trimmed: a column
        that is read without input shows its own.
        """
        variation = getattr(library, "variation", None)
        if variation is None or variation.mismatch != "open":
            return None
        sigma = float(np.nan_to_num(np.ravel(library.readout.amplifier_offset_sigma_v)).sum())
        if not sigma:  # a model of amplifiers: empty, or NaN
            return None
        feedback = library.technology.readout.r_feedback_ohm
        return cls(sigma / v_read, v_read, 1.0 / (feedback * span))

    def of_stages(
        self, group: "Group", programmer: "Programmer", gain: np.float32, seed: tuple[int, ...],
        column: int,
    ) -> Float32:  # fmt: skip
        """Return what the transimpedance stages of one group of columns add, (cols,).

        Parameters
        ----------
        group : Group
        programmer : Programmer
            That has written it.
        gain : float32
            Mean gain of the non-linear cells.
        seed : tuple of int
        column : int
            Index of the first column.
        """
        cols = group.effective.shape[1]
        draws = normal(stream_key((*seed, column), "offset/stage"), (2, cols))
        lines = [(g * programmer.transfer(g * gain)).sum(axis=0) * gain for g in group.pair]
        found = [(line + self.g_feedback) * draw for line, draw in zip(lines, draws, strict=True)]
        return np.asarray(self.sigma * (found[1] - found[0]), np.float32)

    def of_sums(self, span: Float32, v_line: float, seed: tuple[int, ...]) -> Float32:
        """Return what the summing stages of some data lines add, (cols,).

        Parameters
        ----------
        span : (cols,) float32 array
            Column outputs that fill a data line.
        v_line : float
            Voltage over a data line's range [V].
        seed : tuple of int
        """
        draws = normal(stream_key(seed, "offset/sum"), len(span))
        return np.asarray(self.sigma * (span * self.v_read / v_line + self.g_feedback) * draws)

"""Cells that differ from what programming assumes: mismatch, and ACAM cells at another corner."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from behavioral.acam import AcamModel, Bounds, SingleArray
from behavioral.library import Library
from behavioral.noise import normal, stream_key
from circuits.errors import FormatError, ParameterError

Mismatch = Literal["none", "open", "trimmed"]
FloatArray = NDArray[np.float64]

_POINTS = 513  # of the spread over the data line


@dataclass(frozen=True)
class Variation:
    """How cells differ from those that programming assumes.

    Attributes
    ----------
    mismatch : {"none", "open", "trimmed"}
        Transistors of the single cells differ. "open": a conductance is written, and the threshold
        (the current of a crossbar cell, `behavioral.cell_mismatch`) is where it falls. "trimmed":
        written until the cell's own is right, as far as the device's range reaches. Offsets of
        read-out amplifiers (`behavioral.readout_offset`) are drawn in the open case alone.
    programmed_for : Library or None
        Whose threshold curves and data line programming assumes; None: the library's own.
    """

    mismatch: Mismatch = "none"
    programmed_for: Library | None = None

    def __post_init__(self) -> None:
        if self.mismatch not in get_args(Mismatch):
            known = ", ".join(get_args(Mismatch))
            raise ParameterError(f"mismatch {self.mismatch!r} is not known; permitted: {known}")


def vary(
    library: Library, mismatch: str = "none", programmed_for: Library | None = None
) -> Library:
    """Return a library whose cells vary; arguments as in `Variation`."""
    variation = Variation(mismatch, programmed_for)  # type: ignore[arg-type]
    return dataclasses.replace(library, variation=variation)


def acam_model(library: Library, spare_rows: int = 0) -> AcamModel:
    """Return the ACAM cells of a library, with the variation that it asks for.

    `spare_rows` of each output bit take over windows from rows with a stuck device.
    """
    kind = AcamModel if library.variation is None else VariedAcam
    model = kind.from_library(library)
    model.spare_rows = spare_rows
    return model


def measured_sigma(acam: Any, bound: str) -> tuple[FloatArray, FloatArray]:
    """Return the spread [V] of thresholds at ``mismatch_g``: by the cell, by its amplifier.

    A sense amplifier that decides elsewhere on the match line moves the threshold by that over the
    slope of the line; 0 where none was measured.
    """
    parts = np.asarray(getattr(acam, f"mismatch_{bound}_parts_v"), float)
    slope = np.asarray(getattr(acam, f"mismatch_{bound}_slope"), float)
    offset = float(np.sqrt((np.asarray(acam.mismatch_sense_parts_v, float) ** 2).sum()))
    sensed = offset / np.abs(slope) if offset > 0.0 else np.zeros(len(parts))
    return np.sqrt((parts**2).sum(axis=tuple(range(1, parts.ndim)))), np.nan_to_num(sensed)


def threshold_sigma(acam: Any, bound: str, g: ArrayLike) -> FloatArray:
    """Return the standard deviation [V] of a threshold by mismatch at conductances [S].

    That of the cell and that of its line's sense amplifier: each half has a line of its own.

    Parameters
    ----------
    acam : AcamData
    bound : {"lower", "upper"}
    g : float array [S]

    Raises
    ------
    FormatError
        The library was made before mismatch was measured, or some of its points failed.
    """
    cell, sensed = measured_sigma(acam, bound)
    if not cell.size or not np.isfinite(cell).all():
        raise FormatError(
            "this library holds no mismatch of the ACAM cell; make it again: nldpe characterize"
        )
    curve = PchipInterpolator(np.log(acam.mismatch_g), np.hypot(cell, sensed))
    inside = np.clip(g, acam.mismatch_g[0], acam.mismatch_g[-1])
    return np.asarray(curve(np.log(inside)), np.float64)


class VariedAcam(AcamModel):
    """ACAM cells of a library with a `Variation`; programs and evaluates like `AcamModel`.

    Mismatch moves each wanted bound by a normal draw before it is programmed, so device noise is
    that at the moved bound.
    """

    mismatch: Mismatch
    sigma: FloatArray  # (2, points): spread over the data line, in u
    reach: FloatArray  # (2, 2): thresholds at g_min and g_max of each bound, in u

    @classmethod
    def from_library(
        cls, library: Library, thresholds: str = "dynamic", *, overlap: bool | None = None
    ) -> Self:
        """Use the curves, the mismatch and the variation of a library.

        Raises
        ------
        ParameterError
            Mismatch on one shared match line: the overlap of unequal halves is not modelled.
        FormatError
            The library holds no mismatch.
        """
        model = super().from_library(library, thresholds, overlap=overlap)
        assert isinstance(model, cls)
        variation = library.variation or Variation()
        if variation.programmed_for is not None:
            model._assume(AcamModel.from_library(variation.programmed_for, thresholds))
        model.mismatch = variation.mismatch
        if model.mismatch != "none":
            if model.overlap is not None:
                raise ParameterError(
                    "mismatch needs two match lines: the overlap of unequal halves on one line is"
                    " not modelled; characterise with --set acam.match_lines=2"
                )
            model._measure_spread(library)
        return model

    def _assume(self, other: AcamModel) -> None:
        """Program by the inverse curves and over the data line of another model."""
        theirs = other._cell
        self._cell = self._cell._replace(
            inverse=theirs.inverse,
            inverse_start=theirs.inverse_start,
            inverse_gain=theirs.inverse_gain,
            v_range=theirs.v_range,
        )
        self.v_lo, self.v_hi = other.v_lo, other.v_hi

    def _measure_spread(self, library: Library) -> None:
        u, span = np.linspace(0.0, 1.0, _POINTS), self.v_hi - self.v_lo
        bounds, ends = ("lower", "upper"), [self.device.g_min_s, self.device.g_max_s]
        self.sigma = np.array(
            [threshold_sigma(library.acam, b, self.conductance(u, b)) / span for b in bounds]
        )
        self.reach = np.array([(self.threshold(ends, b) - self.v_lo) / span for b in bounds])

    def _wanted(
        self, lo: SingleArray, hi: SingleArray, columns: int, keys: list[tuple[int, ...]]
    ) -> list[Bounds]:
        """Return where the bounds of mismatched cells fall; the cells of each unit differ."""
        if self.mismatch == "none":
            return super()._wanted(lo, hi, columns, keys)
        shape = 2, columns, lo.shape[1]
        draws = [normal(stream_key(key, "acam/mismatch"), shape) for key in keys]
        return [(self._moved(lo, 0, d[0]), self._moved(hi, 1, d[1])) for d in draws]

    def _moved(
        self, wanted: NDArray[np.float32], side: int, draws: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return where the bounds [u] of drawn cells fall; open branches stay open."""
        inside = (wanted > 0.0) & (wanted < 1.0)
        position = np.clip(wanted, 0.0, 1.0) * (_POINTS - 1)
        offset = np.interp(position, np.arange(_POINTS), self.sigma[side]) * draws
        if self.mismatch == "open":
            moved = wanted + offset
        else:
            low, high = self.reach[side]
            moved = np.clip(wanted, low + offset, high + offset)
        return np.where(inside, moved, wanted).astype(np.float32)

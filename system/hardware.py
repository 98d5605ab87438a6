"""The silicon a network runs on: models of one library, and which chip of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from behavioral.crossbar import CrossbarModel
from behavioral.decision import line_noise
from behavioral.library import Library
from behavioral.programming import Noise
from behavioral.variation import acam_model
from system.quantization import Mapping


@dataclass(frozen=True)
class Chip:
    """One programmed piece of silicon: which draw of the noise, and what noise there is.

    Attributes
    ----------
    seed, index : int
        Random streams are keyed by both; chips of a study share the seed.
    noise : {"none", "frozen", "per-read"}
        No device noise (`ideal-analog`), or read noise drawn once per device or at every read.
    """

    seed: int = 0
    index: int = 0
    noise: Noise = "frozen"

    def stream(self, name: str, part: int = 0) -> tuple[int, ...]:
        """Return the key of the random stream of one part of one layer."""
        return (self.seed, self.index, zlib.crc32(name.encode()), part)


@dataclass
class Counters:
    """Look-ups outside the calibrated range, clipped to its ends."""

    conversions: int = 0
    clipped: int = 0


class Hardware:
    """The behavioural models of one library, and how layers are laid on them.

    Parameters
    ----------
    library : Library
    mapping : Mapping
    keep_devices : bool
        Keep every programmed conductance, as validation needs.
    one_copy : bool
        Program one of the units in parallel on every data line, where it stands for all.
    """

    def __init__(
        self,
        library: Library,
        mapping: Mapping,
        keep_devices: bool = False,
        one_copy: bool = False,
    ):
        self.one_copy = one_copy
        self.library = library
        self.crossbar = CrossbarModel(library)
        self.acam = acam_model(library, mapping.spare_rows)
        self.v_line = self.acam.v_hi - self.acam.v_lo
        self.line_noise = line_noise(library) / self.v_line
        self.mapping = mapping
        self.keep_devices = keep_devices
        self.tile_rows = library.technology.column.rows
        self.counters = Counters()

"""The silicon a network runs on: models of one library, and which chip of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from behavioral.crossbar import CrossbarModel
from behavioral.decision import line_noise
from behavioral.library import Library
from behavioral.programming import Noise
from behavioral.variation import acam_model
from system.calibration import Ranges
from system.quantization import Mapping

MOST_CELLS, LEAST_CELLS = 16384, 2048  # of a column's step table
TABLE_BYTES = 1_500_000_000  # of all step tables of a chip, as long as they keep the least cells


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
    cells : int
        Points of each ACAM column's step table. Noisy thresholds stand in any order, so a code may
        jump far within a cell: 4096 points leave 0.3 % of codes more than one off, 16384 under
        0.1 %.
    one_copy : bool
        Program one of the units in parallel on every data line, where it stands for all.
    """

    def __init__(
        self,
        library: Library,
        mapping: Mapping,
        keep_devices: bool = False,
        cells: int = MOST_CELLS,
        one_copy: bool = False,
    ):
        self.cells, self.one_copy = cells, one_copy
        self.library = library
        self.crossbar = CrossbarModel(library)
        self.acam = acam_model(library, mapping.spare_rows)
        self.v_line = self.acam.v_hi - self.acam.v_lo
        self.line_noise = line_noise(library) / self.v_line
        self.mapping = mapping
        self.keep_devices = keep_devices
        self.tile_rows = library.technology.column.rows
        self.counters = Counters()


def hardware_for(
    mapping: Mapping, ranges: Ranges, library: Library, keep_devices: bool = False
) -> Hardware:
    """Return the models on which `nldpe infer` runs a network of these ranges.

    Step tables are as fine as memory permits: sums of codes take two bytes a cell, and a second
    read-out range has tables of its own.
    """
    widths = {k.removesuffix(".y"): y.shape[1] for k, y in ranges.items() if k.endswith(".y")}
    each = sum(width * _cell_bytes(mapping.of(name)) for name, width in widths.items())
    cells = MOST_CELLS
    while cells > LEAST_CELLS and each * cells > TABLE_BYTES:
        cells //= 2
    return Hardware(library, mapping, keep_devices=keep_devices, cells=cells)


def _cell_bytes(mapping: Mapping) -> int:
    """Return the bytes of one cell of all step tables of a column."""
    return (2 if mapping.output_copies > 1 else 1) * (2 if mapping.output_fine else 1)

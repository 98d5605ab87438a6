"""The chip: areas of its hierarchy, and how layers are laid on its cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from behavioral.library import Library
from circuits.parameters import Amplifier
from system.cost.components import Components
from system.cost.driver import MeasuredDriver, RowDriver
from system.cost.workload import CODE_BITS, Layer
from system.quantization import Mapping


@dataclass(frozen=True)
class Chip:
    """Counts and areas of one chip.

    Attributes
    ----------
    components : Components
    rows, columns : of a core.
    cores_per_tile, tiles : of a tile and of a chip.
    product_cores : cores for one attention head, or for a core's width of channels.
    mapping : what a column has: slices, read-out ranges, ACAM units in parallel, bits of a DAC.
    cells_per_row : ACAM cells of a row: spare rows are counted in cells.
    amplifier : sizes of the read-out's transistors and capacitors.
    multiplies : cores are those of log and exp units.
    driver : of crossbar rows, where one was measured.
    """

    components: Components
    rows: int
    columns: int
    cores_per_tile: int
    tiles: int
    product_cores: float
    mapping: Mapping = field(default_factory=Mapping)
    cells_per_row: int = 1
    amplifier: Amplifier = field(default_factory=Amplifier)
    multiplies: bool = False
    driver: MeasuredDriver | None = None

    @classmethod
    def from_components(
        cls,
        components: Components,
        library: Library,
        mapping: Mapping | None = None,
        driver: MeasuredDriver | None = None,
    ) -> Chip:
        """Take the rows of a core from the library, what a column has from the mapping."""
        return cls(
            components,
            library.technology.column.rows,
            round(components["core"]["columns"]),
            round(components["tile"]["cores"]),
            round(components["chip"]["tiles"]),
            components["core"]["product_cores"],
            mapping or Mapping(),
            library.technology.acam.cells_per_row,
            library.technology.amplifier,
            driver=driver,
        )

    def of(self, layer: Layer) -> Chip:
        """Return the chip whose cores are all as those of one layer: what its mapping asks for."""
        mapping = self.mapping.of(layer.name)
        return replace(self, mapping=mapping, multiplies=layer.kind == "products")

    @property
    def ranges(self) -> int:
        """Read-out ranges of a column."""
        return 2 if self.mapping.output_fine else 1

    @property
    def copies(self) -> int:
        """ACAM units in parallel on each data line."""
        return self.mapping.output_copies

    @property
    def product_copies(self) -> int:
        """Exp units in parallel; log units as well, where nothing else is said."""
        return self.mapping.product_copies

    @property
    def log_copies(self) -> int:
        """Log units in parallel."""
        return self.mapping.log_copies

    @property
    def spare_cells(self) -> int:
        """Cells of an ACAM unit beside those of the component table."""
        return self.mapping.output_bits * self.mapping.spare_rows * self.cells_per_row

    @property
    def input_bits(self) -> int:
        """Bits of an input's code; shorter ones take a byte as well."""
        return max(CODE_BITS, self.mapping.input_bits)

    @property
    def dac_growth(self) -> int:
        """Energy and area of a DAC over those of 8 bits: an array that doubles with every bit."""
        return int(2 ** (self.input_bits - CODE_BITS))

    @property
    def row_driver(self) -> RowDriver:
        """What drives a crossbar row: the measured driver, or the DAC of the table."""
        if self.driver is not None:
            return self.driver.of(self.components, self.rows, self.line_count, self.input_bits)
        dac, growth = self.components["dac"], self.dac_growth
        return RowDriver(
            dac["energy_j"] * growth, 0.0, dac["settle_s"], 1, 0.0, dac["area_m2"] * growth
        )

    @property
    def driver_name(self) -> str:
        """Under which its energy and area are listed."""
        return "dac" if self.driver is None else "row driver"

    @property
    def log_bits(self) -> float:
        """Bits of a log code, of what the DAC of an exp unit takes."""
        return CODE_BITS + math.log2(self.mapping.finer)

    @property
    def cores(self) -> int:
        """Cores of a chip."""
        return self.tiles * self.cores_per_tile

    @property
    def line_count(self) -> int:
        """Physical columns, and transimpedance stages, of one output and row tile."""
        return 2 * self.mapping.slices

    @property
    def acam_units(self) -> int:
        """ACAM units of a column of a core."""
        return self.ranges * self.copies

    def stage_area(self) -> float:
        """Return the area of a transimpedance stage and a quarter of a bias generator [m2]."""
        gates, bias = self.amplifier.gate_areas_m2()
        return self._amplifier_area(
            gates + bias / 4, self.amplifier.c_miller_f + self.amplifier.c_feedback_f
        )

    def sum_area(self) -> float:
        """Return the area of a summing stage [m2]."""
        gates, _ = self.amplifier.gate_areas_m2()
        return self._amplifier_area(gates, self.amplifier.c_miller_sum_f + self.amplifier.c_sum_f)

    def _amplifier_area(self, gates_m2: float, capacitors_f: float) -> float:
        """Return gates and capacitors side by side; resistors, wells and wires are not known."""
        part = self.components["amplifier"]
        return gates_m2 * part["layout_factor"] + capacitors_f / part["capacitor_f_per_m2"]

    def core_areas(self) -> dict[str, float]:
        """Return the area of each kind of component of one core [m2]."""
        part, rows, columns = self.components, self.rows, self.columns
        acam, units = part["acam"], self.columns * self.acam_units
        choices = 2 * (self.ranges - 1) * columns  # both ends of the second range
        return {
            "crossbar": rows
            * columns
            * part["crossbar"]["area_m2_per_weight"]
            * self.mapping.slices
            / 2,
            **self._driver_areas(),
            "amplifier": columns
            * (self.line_count * self.stage_area() + self.ranges * self.sum_area()),
            "acam": units * (acam["cells"] + self.spare_cells) * acam["area_m2_per_cell"],
            "gray decoder": units * part["gray_decoder"]["area_m2"],
            "range choice": choices * part["comparator"]["area_m2"],
            "register": (rows * self.input_bits + columns * CODE_BITS)
            / 8
            * part["register"]["area_m2_per_byte"],
        }

    def _driver_areas(self) -> dict[str, float]:
        """Return the area of what drives the rows of a core, or its log and exp units [m2]."""
        if self.driver is None or self.multiplies:
            return {"dac": self.rows * self.components["dac"]["area_m2"] * self._widest_dac}
        return {"row driver": self.rows * self.row_driver.area_m2}

    @property
    def _widest_dac(self) -> int:
        """Growth of the DACs of a core; in those of log and exp units either may be the larger."""
        finer = self.mapping.finer if self.multiplies else 1
        return max(self.dac_growth, finer)

    def tile_areas(self) -> dict[str, float]:
        """Return the area of each kind of component of one tile, its cores included [m2]."""
        part, cores = self.components, self.cores_per_tile
        lane = sum(
            part[name]["area_m2"] for name in ("multiplier", "adder", "comparator", "scaler")
        )
        areas = {name: cores * area for name, area in self.core_areas().items()}
        areas["adder"] = part["adder"]["per_tile"] * part["adder"]["area_m2"]
        areas["vector unit"] = part["vector_unit"]["lanes"] * lane
        areas["buffer"] = part["buffer"]["area_m2"]
        areas["bus"] = cores * part["bus"]["area_m2_per_core"]
        areas["router"] = part["router"]["area_m2"] / part["router"]["tiles"]
        return areas

    def chip_areas(self) -> dict[str, float]:
        """Return the area of each kind of component of one chip [m2]."""
        areas = {name: self.tiles * area for name, area in self.tile_areas().items()}
        areas["link"] = self.components["link"]["area_m2"]
        return areas

    def layer_cores(self, layer: Layer) -> int:
        """Return the cores of one copy of a layer."""
        if layer.kind == "linear":
            return self.row_tiles(layer) * self.column_blocks(layer)
        if layer.kind == "products":
            groups, own = layer.heads or -(-layer.width // self.columns), self.of(layer)
            more = max(1.0, own.product_copies / own.acam_units)  # where columns lack units
            return max(1, math.ceil(self.product_cores * groups * more))
        return 0

    def product_units(self, layer: Layer) -> float:
        """Return the log and exp units of a block of products."""
        return self.layer_cores(layer) * self.columns * self.of(layer).acam_units

    def row_tiles(self, layer: Layer) -> int:
        """Return how many cores share one output."""
        return -(-layer.inputs // self.rows)

    def column_blocks(self, layer: Layer) -> int:
        """Return how many cores share one input."""
        return -(-layer.outputs // self.columns)

    def layer_tiles(self, layer: Layer, copies: int = 1) -> int:
        """Return tiles that work on a layer side by side; digital layers lie where data are."""
        cores = self.layer_cores(layer) * copies or -(-layer.width // self.columns)
        return -(-cores // self.cores_per_tile)


@dataclass(frozen=True)
class Placement:
    """Where a network lies: copies of each layer, and the chips that hold them in order.

    Attributes
    ----------
    copies : of each layer, so that slow layers work on several vectors at once.
    first, last : chip of the first and the last core of each layer.
    cores, chips : in use.
    """

    copies: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    cores: int
    chips: int

    @classmethod
    def in_order(cls, chip: Chip, layers: Sequence[Layer], copies: Sequence[int]) -> Placement:
        """Fill chips with the layers one after the other."""
        first, last, used = [], [], 0
        for layer, count in zip(layers, copies, strict=True):
            cores = chip.layer_cores(layer) * count
            # a layer without cores of its own lies with the one before it
            start = min(used, max(used + cores - 1, 0)) if cores else max(used - 1, 0)
            first.append(start // chip.cores)
            used += cores
            last.append(max(used - 1, 0) // chip.cores)
        return cls(tuple(copies), tuple(first), tuple(last), used, -(-used // chip.cores))


def balanced_copies(vectors: Sequence[int], replicate: int) -> list[int]:
    """Return copies of each layer: most for the layer with most vectors, none idle.

    Parameters
    ----------
    vectors : input vectors of each layer in one inference; 0 without static weights.
    replicate : copies of the layer with most vectors.
    """
    most = max([*vectors, 1])
    return [max(1, math.ceil(replicate * count / most)) for count in vectors]

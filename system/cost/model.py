"""Energy and time of a workload on the chip, layer by layer and component by component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from behavioral.library import Library
from system.cost.chip import Chip, Placement, balanced_copies
from system.cost.components import Components
from system.cost.driver import RowDriver
from system.cost.measure import Figures, LayerFigures
from system.cost.products import ProductFigures
from system.cost.spice import amplifier_power, has_measured_amplifier, search_time
from system.cost.workload import CODE_BITS, Layer, Workload

# Where the energy of each component comes from; see NlDpe.origin for the amplifiers.
ORIGIN = {
    "cells": "SPICE",
    "acam": "SPICE",
    "amplifier": "estimate",
    "row driver": "SPICE",
    "dac": "table",
    "gray decoder": "table",
    "range choice": "table",
    "register": "table",
    "adder": "table",
    "vector unit": "table",
    "buffer": "table",
    "bus": "table",
    "router": "table",
    "link": "table",
}


@dataclass(frozen=True)
class LayerCost:
    """One layer of one inference.

    Attributes
    ----------
    cores : all its copies.
    acam_rows : programmed, of all units in these cores.
    energy_j : by component.
    stage_s : from its first input to its last output.
    stage : layers of one stage work side by side.
    """

    name: str
    kind: str
    cores: int
    macs: float
    energy_j: Mapping[str, float]
    stage_s: float
    stage: str
    acam_rows: float = 0.0

    @property
    def total_j(self) -> float:
        """Energy of the layer."""
        return sum(self.energy_j.values())


@dataclass(frozen=True)
class Cost:
    """A workload of a batch on a machine.

    Attributes
    ----------
    machine : its name.
    what : "image", "token" or "prompt".
    batch : inferences, or sequences side by side.
    items : of one inference that follow each other through the pipeline.
    layers : energies of one inference.
    area_m2 : of the tiles in use (of whole devices for a GPU).
    cores, chips : in use.
    """

    machine: str
    what: str
    batch: int
    items: int
    layers: tuple[LayerCost, ...]
    area_m2: float
    cores: int = 0
    chips: int = 1
    notes: tuple[str, ...] = ()

    @property
    def energy_j(self) -> float:
        """Energy of the batch."""
        return self.batch * sum(layer.total_j for layer in self.layers)

    @property
    def energies(self) -> dict[str, float]:
        """Energy of the batch by component."""
        names = dict.fromkeys(name for layer in self.layers for name in layer.energy_j)
        return {
            name: self.batch * sum(layer.energy_j.get(name, 0.0) for layer in self.layers)
            for name in names
        }

    @property
    def stages(self) -> dict[str, float]:
        """Time of one item in each stage of the pipeline: that of its slowest layer."""
        found: dict[str, float] = {}
        for layer in self.layers:
            seconds = layer.stage_s / self.items
            found[layer.stage] = max(found.get(layer.stage, 0.0), seconds)
        return found

    @property
    def latency_s(self) -> float:
        """Time of the first item of the batch through all stages."""
        return sum(self.stages.values())

    @property
    def interval_s(self) -> float:
        """Time between items: the slowest stage."""
        return max(self.stages.values())

    @property
    def time_s(self) -> float:
        """Time of the whole batch: the pipeline fills once, then items leave one by one."""
        return self.latency_s + (self.batch * self.items - 1) * self.interval_s

    @property
    def macs(self) -> float:
        """Multiply-accumulates of the batch."""
        return self.batch * sum(layer.macs for layer in self.layers)

    @property
    def tops_per_w(self) -> float:
        """Operations per energy, in 1e12; a multiply-accumulate is two."""
        return 2e-12 * self.macs / self.energy_j

    @property
    def tops_per_mm2(self) -> float:
        """Operations per time and area of the filled pipeline."""
        rate = 2e-12 * self.macs / (self.batch * self.items) / self.interval_s
        return rate / (self.area_m2 * 1e6)


@dataclass(frozen=True)
class NlDpe:
    """The chip with its SPICE figures: what `cost` needs besides the workload."""

    chip: Chip
    library: Library
    figures: Figures
    reference: bool = False  # the figures are another network's

    @property
    def components(self) -> Components:
        """The component table."""
        return self.chip.components

    def cost(self, workload: Workload, batch: int = 1, replicate: int = 1) -> Cost:
        """Return energy, time and area of a workload.

        Parameters
        ----------
        workload : Workload
        batch : inferences that follow each other.
        replicate : copies of the layer that multiplies most vectors; others in proportion.
        """
        vectors = [layer.vectors for layer in workload.layers]
        copies = balanced_copies(vectors, replicate)
        place = Placement.in_order(self.chip, workload.layers, copies)
        rows, before = [], 0
        for k, layer in enumerate(workload.layers):
            crossed = place.first[k] - before, place.last[k] - place.first[k]
            before = place.last[k]
            moved = crossed[0] * layer_carry(workload.layers, k)
            moved += crossed[1] * layer.inputs * layer.vectors * self.chip.of(layer).input_bits
            rows.append(self._layer(layer, copies[k], moved))
        area = self._area(workload.layers, rows)
        area += place.chips * self.components["link"]["area_m2"]
        return Cost(
            "NL-DPE, ours", workload.what, batch, workload.items, tuple(rows), area,
            place.cores, place.chips,
        )  # fmt: skip

    def _area(self, layers: Sequence[Layer], rows: Sequence[LayerCost]) -> float:
        """Return the area of all tiles in use; cores of a layer are as its mapping asks."""
        cores = sum(row.cores for row in rows)
        tile = sum(
            row.cores / cores * sum(self.chip.of(layer).tile_areas().values())
            for layer, row in zip(layers, rows, strict=True)
            if row.cores
        )
        return -(-cores // self.chip.cores_per_tile) * tile

    def _layer(self, layer: Layer, copies: int, moved_bits: float) -> LayerCost:
        if layer.kind == "linear":
            energy, seconds = self._linear(layer, copies)
        elif layer.kind == "products":
            energy, seconds = self._products(layer)
        else:
            energy, seconds = {}, 0.0
        for name, joules in vector_energy(self.components, layer).items():
            energy[name] = energy.get(name, 0.0) + joules
        link = self.components["link"]
        energy["link"] = moved_bits * link["energy_j_per_bit"]
        seconds += vector_time(self.components, layer, self.chip.layer_tiles(layer, copies))
        seconds += moved_bits / link["bandwidth_bit_per_s"]
        cores = self.chip.layer_cores(layer) * copies
        stage = layer.stage or layer.name
        rows = self.acam_rows(layer) * copies
        return LayerCost(layer.name, layer.kind, cores, layer.macs, energy, seconds, stage, rows)

    def acam_rows(self, layer: Layer) -> float:
        """Return the programmed rows of all ACAM units of one copy of a layer."""
        if layer.kind == "linear":
            found, chip = self.layer_figures(layer), self.chip.of(layer)
            found = replace(found, conversions=self._conversions(layer, found))
            return layer.outputs * chip.copies * found.output_rows
        if layer.kind == "products":  # half of the units are log units, half exp
            part = self.product_figures(layer)
            return self.chip.product_units(layer) * (part.log_rows + part.exp_rows) / 2
        return 0.0

    @property
    def origin(self) -> dict[str, str]:
        """Where the energy of each component comes from."""
        measured = has_measured_amplifier(self.library)
        return {**ORIGIN, "amplifier": "SPICE"} if measured else ORIGIN

    def amplifier_power(self, stages: float, sums: float) -> float:
        """Return the power [W] of so many transimpedance and summing stages."""
        gm_over_id = self.components["amplifier"]["gm_over_id_per_v"]
        stage, summing = amplifier_power(self.library, gm_over_id)
        return stages * stage + sums * summing

    def read_time(self, figures: LayerFigures, driver: RowDriver) -> float:
        """Return how long the rows are read: settling, for every bit if so, one conversion [s]."""
        settled = figures.settle_s + self.library.readout.settle_s
        return float(driver.reads * max(settled, driver.slot_s) + self.conversion_time)

    @property
    def conversion_time(self) -> float:
        """Time of one conversion on a settled line [s]; of a search alone if no more is known."""
        unit = self.figures.unit
        return search_time(self.library) if unit is None else unit.cycle_s

    @property
    def decoder_j(self) -> float:
        """Energy of a Gray decoder by the table [J]; 0 where the unit's figures contain it."""
        known = self.figures.unit is not None
        return 0.0 if known else self.components["gray_decoder"]["energy_j"]

    def layer_figures(self, layer: Layer) -> LayerFigures:
        """Return the layer's own figures, or the mean of the reference network's."""
        if not self.reference:
            return self.figures.layers[layer.name]
        return self.figures.mean(layer.name)

    def _linear(self, layer: Layer, copies: int) -> tuple[dict[str, float], float]:
        part, chip, found = self.components, self.chip.of(layer), self.layer_figures(layer)
        tiles, blocks, vectors = chip.row_tiles(layer), chip.column_blocks(layer), layer.vectors
        driver = chip.row_driver
        read = self.read_time(found, driver)
        outputs = layer.outputs * vectors
        found = replace(found, conversions=self._conversions(layer, found))
        coded = found.conversions + chip.ranges - 1  # codes of an output, each a mean of copies
        conversions = outputs * chip.copies * coded
        sums_of_codes = conversions - outputs * chip.ranges
        # One transimpedance stage a physical column, one summing stage for each data line.
        sums = tiles if found.conversions > 1 else chip.ranges
        amplifiers = self.amplifier_power(chip.line_count * tiles, sums) * layer.outputs
        bits_in = layer.inputs * vectors * chip.input_bits
        bits_out = outputs * CODE_BITS
        energy = {
            "cells": found.cell_power_w * layer.inputs * layer.outputs * vectors * read,
            "acam": outputs * chip.copies * found.output_j,
            "amplifier": amplifiers * read * vectors,
            chip.driver_name: layer.inputs
            * blocks
            * vectors
            * (driver.conversion_j + driver.power_w * read),
            "gray decoder": conversions * self.decoder_j,
            "register": (bits_in * blocks + bits_out) * part["register"]["energy_j_per_bit"],
            "range choice": 2 * (chip.ranges - 1) * outputs * part["comparator"]["energy_j"],
            "adder": sums_of_codes * part["adder"]["energy_j"],
            **self._movement(bits_in, bits_out),
        }
        # A tile loads what its cores need; another copy of the layer takes the next vector.
        wide = min(layer.inputs, chip.rows * chip.cores_per_tile) * chip.input_bits
        high = min(layer.outputs, chip.columns * chip.cores_per_tile) * CODE_BITS
        step = driver.settle_s + read
        step += wide / part["buffer"]["bandwidth_bit_per_s"]
        step += high / part["router"]["bandwidth_bit_per_s"]
        step += sums_of_codes / vectors / self._adder_rate(layer)
        return energy, -(-vectors // copies) * step

    def _conversions(self, layer: Layer, found: LayerFigures) -> int:
        """Return ACAM conversions of one output: one, or with digital sums one per row tile."""
        if not self.reference:
            return found.conversions
        digital = found.conversions > 1
        return self.chip.row_tiles(layer) + (layer.activation is not None) if digital else 1

    def _movement(self, bits_in: float, bits_out: float) -> dict[str, float]:
        """Codes in from the buffer over the bus; codes out over the network into the next."""
        part = self.components
        router = part["router"]
        return {
            "buffer": (bits_in + bits_out) * part["buffer"]["energy_j_per_bit"],
            "bus": (bits_in + bits_out) * part["bus"]["energy_j_per_bit"],
            "router": bits_out * router["hops"] * router["energy_j_per_bit"],
        }

    def _products(self, layer: Layer) -> tuple[dict[str, float], float]:
        """Log and exp searches: each has a DAC conversion before and a code behind it."""
        part, found = self.components, self.product_figures(layer)
        chip = self.chip.of(layer)
        conversions, bits = layer.logs + layer.exps, chip.log_bits
        logs, exps = layer.logs * chip.log_copies, layer.exps * chip.product_copies
        driven = layer.logs * chip.dac_growth + layer.exps * chip.mapping.finer
        moved = layer.buffer_bits * bits / CODE_BITS
        adds = layer.adds + logs + exps - conversions
        energy = {
            "acam": logs * found.log_j + exps * found.exp_j,
            "dac": driven * part["dac"]["energy_j"],
            "gray decoder": (logs + exps) * self.decoder_j,
            "register": 2 * conversions * bits * part["register"]["energy_j_per_bit"],
            "adder": adds * part["adder"]["energy_j"],
            "buffer": moved * part["buffer"]["energy_j_per_bit"],
            "bus": moved * part["bus"]["energy_j_per_bit"],
        }
        step = part["dac"]["settle_s"] + self.conversion_time
        buffers = self.chip.layer_tiles(layer) * part["buffer"]["bandwidth_bit_per_s"]
        return energy, max(
            (logs + exps) / self.chip.product_units(layer) * step,
            adds / self._adder_rate(layer),
            moved / buffers,
        )

    def _adder_rate(self, layer: Layer) -> float:
        """Return the additions per second of the adders beside one copy of a layer."""
        part = self.components
        per_tile = part["adder"]["per_tile"] * part["vector_unit"]["clock_hz"]
        return self.chip.layer_tiles(layer) * per_tile

    def product_figures(self, layer: Layer) -> ProductFigures:
        """Return the block's own figures, or the mean of the reference network's."""
        if not self.reference:
            return self.figures.products[layer.name]
        return self.figures.mean_products(layer.name)


def layer_carry(layers: Sequence[Layer], k: int) -> float:
    """Return the bits that cross a cut in front of layer k: the last stated carry before it."""
    return next((x.carry_bits for x in reversed(layers[:k]) if x.carry_bits), 0.0)


def vector_energy(components: Components, layer: Layer) -> dict[str, float]:
    """Return the energy of the vector unit, and of its operands' way through the buffer [J].

    Additions of products belong to the adders beside the ACAM units, not to the vector unit. In a
    digital layer each value is read from the buffer and written back once.
    """
    digital = layer.kind == "digital"
    work = {
        "adder": layer.adds if digital else 0.0,
        "multiplier": layer.multiplies,
        "comparator": layer.compares,
        "scaler": layer.scales,
    }
    values = max(layer.adds, layer.compares) if digital else 0.0
    bits = 2 * values * components["vector_unit"]["word_bits"]
    return {
        "vector unit": sum(n * components[name]["energy_j"] for name, n in work.items()),
        "buffer": bits * components["buffer"]["energy_j_per_bit"],
    }


def vector_time(components: Components, layer: Layer, tiles: float) -> float:
    """Return the time of the vector units of some tiles [s]."""
    unit = components["vector_unit"]
    adds = layer.adds if layer.kind == "digital" else 0.0
    operations = adds + layer.multiplies + layer.compares + layer.scales
    return operations / (unit["lanes"] * tiles) / unit["clock_hz"]

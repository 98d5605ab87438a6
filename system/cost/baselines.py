"""Other machines on the same workload: ADC accelerators like ISAAC and RAELLA, a GPU's roofline.

Static layers run on the machine's crossbars. What a static crossbar cannot do, products of two
activations, runs on digital multipliers; normalisation and the like on the same vector unit, and
codes move over the same buffers and network, as on our chip. Nothing is charged while it does not
work: no leakage, no idle power.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from system.cost.components import Components
from system.cost.model import Cost, LayerCost, vector_energy, vector_time
from system.cost.workload import CODE_BITS, Layer, Workload

LinearCost = Callable[[Layer], tuple[dict[str, float], float, float]]


def adc_energy(bits: float, technology_m: float, rate_hz: float) -> float:
    """Return the energy of one conversion [J] by the regression over Murmann's ADC survey.

    Andrulis et al., "Modeling analog-digital-converter energy and area for compute-in-memory
    accelerator design", arXiv:2404.06553; coefficients of the authors' Accelergy plug-in. Valid for
    4 bits and more, up to 10 GS/s: the survey's better designs.
    """
    schreier = min(213.7807 - 2.871903 * math.log(rate_hz), 128.30683 + 3.2205115 * bits)
    sndr = 6.02 * bits + 1.76
    base = 1.0 / (2.0 * 10 ** ((schreier - sndr) / 10))
    node = math.log(technology_m * 1e9)
    factor = 26.049622 + 1.8800369 * node - 2.8291256 * math.log(bits) - 1.4702022
    return float(base * math.exp(factor) * 1e-12)


def adc_area(bits: float, technology_m: float, rate_hz: float) -> float:
    """Return the area of one converter [m2]; source as for `adc_energy`."""
    energy = math.log(adc_energy(bits, technology_m, rate_hz) * 1e12)
    node, rate = math.log(technology_m * 1e9), math.log(rate_hz)
    log_um2 = 1.3461916 + 0.99327947 * node + 0.18071538 * rate + 0.29912426 * energy
    return float(math.exp(log_um2) * 1e-12)


@dataclass(frozen=True)
class Converter:
    """An ADC: its resolution, energy of a conversion [J] and area [m2]."""

    bits: float
    energy_j: float
    area_m2: float

    @classmethod
    def from_components(cls, components: Components, name: str) -> Converter:
        """Take resolution, node and rate of an entry, and the regression's figures for them."""
        entry = components[name]
        design = entry["bits"], entry["technology_m"], entry["rate_hz"]
        return cls(entry["bits"], adc_energy(*design), adc_area(*design))


class IsaacLike:
    """ISAAC's chip (Shafiee et al., ISCA 2016, Table I) with 8-bit weights and inputs."""

    name = "ISAAC-like"

    def __init__(self, components: Components) -> None:
        self.components = components
        self.part = components["isaac.chip"]
        self.converter = Converter.from_components(components, "isaac.adc")

    def ima_power(self) -> float:
        """Return the power of an in-situ multiply-accumulate unit at full speed [W]."""
        return self._sum("power_w", *self._ima())

    def tile_power(self) -> float:
        """Return the power of a tile at full speed [W]."""
        return self._tile("power_w", self.ima_power())

    def tile_area(self) -> float:
        """Return the area of a tile [m2]."""
        return self._tile("area_m2", self._sum("area_m2", *self._ima()))

    def chip_power(self) -> float:
        """Return the power of the chip at full speed [W]."""
        return self.part["tiles"] * self.tile_power() + self.components["isaac.link"]["power_w"]

    def chip_area(self) -> float:
        """Return the area of the chip [m2]."""
        return self.part["tiles"] * self.tile_area() + self.components["isaac.link"]["area_m2"]

    def cost(self, workload: Workload, batch: int = 1) -> Cost:
        """Return energy, time and area of a workload."""
        chip = self.part["tiles"] * self.part["imas_per_tile"] * self.part["arrays_per_ima"]
        return _cost(self.name, workload, batch, self.components, self._linear, self.tile_area(),
                     chip, self.part["tiles"])  # fmt: skip

    def _ima(self) -> tuple[str, ...]:
        return ("adc", "dac", "crossbar", "shift_add", "sample_hold", "registers")

    def _sum(self, key: str, *names: str) -> float:
        return sum(self.components[f"isaac.{name}"][key] for name in names)

    def _tile(self, key: str, ima: float) -> float:
        router = self.components["isaac.router"]
        shared = self._sum(key, "buffer", "bus", "digital") + router[key] / router["tiles"]
        return self.part["imas_per_tile"] * ima + shared

    def _linear(self, layer: Layer) -> tuple[dict[str, float], float, float]:
        """Return energies, time and arrays: one input bit a step, one conversion a column."""
        part = self.part
        slices = math.ceil(CODE_BITS / part["bits_per_cell"])
        tall = math.ceil(layer.inputs / part["rows"])
        wide = math.ceil(layer.outputs * slices / part["rows"])
        steps = CODE_BITS * layer.vectors
        # An array's share of the unit's power, scaled by the lines it uses.
        share = part["cycle_s"] * steps / part["arrays_per_ima"] / part["rows"]
        columns, rows = layer.outputs * slices * tall, layer.inputs * wide
        energy = {
            "adc": columns * steps * self.converter.energy_j,
            "dac": rows * share * self.components["isaac.dac"]["power_w"],
            "cells": columns * share * self.components["isaac.crossbar"]["power_w"],
            "shift-add": columns * share * self._sum("power_w", "shift_add", "sample_hold"),
            "register": columns * share * self.components["isaac.registers"]["power_w"],
        }
        return energy, steps * part["cycle_s"], float(tall * wide)


class RaellaLike:
    """RAELLA (Andrulis et al., ISCA 2023): centred weights, speculation, 7-bit converters."""

    name = "RAELLA-like"

    def __init__(self, components: Components) -> None:
        self.components = components
        self.part = components["raella.chip"]
        self.converter = Converter.from_components(components, "raella.adc")

    def cost(self, workload: Workload, batch: int = 1) -> Cost:
        """Return energy, time and area of a workload."""
        part = self.part
        arrays = part["tiles"] * part["macros_per_tile"] * part["arrays_per_macro"]
        return _cost(self.name, workload, batch, self.components, self._linear,
                     part["area_m2"] / part["tiles"], arrays, part["tiles"])  # fmt: skip

    def _linear(self, layer: Layer) -> tuple[dict[str, float], float, float]:
        """Return energies, time and arrays."""
        part, extra = self.part, self.components["raella.speculation"]
        cell, dac = self.components["raella.cell"], self.components["raella.dac"]
        tall = math.ceil(layer.inputs / part["rows"])
        wide = math.ceil(layer.outputs * part["weight_slices"] / part["rows"])
        steps = part["input_steps"] * layer.vectors
        cycles = steps * extra["cycle_factor"]
        columns = layer.outputs * part["weight_slices"]
        converts = columns * tall * steps * extra["adc_share"]
        pulse_j = 2 * cell["voltage_v"] ** 2 / cell["resistance_ohm"] * cell["pulse_s"]
        pulses = layer.inputs * columns * steps * cell["activity"] * extra["cell_factor"]
        energy = {
            "adc": converts * self.converter.energy_j,
            "dac": layer.inputs * wide * cycles * dac["energy_j"],
            "cells": pulses * pulse_j,
            "shift-add": converts * self.components["raella.shift_add"]["energy_j"],
        }
        return energy, cycles * part["cycle_s"], float(tall * wide)


def baselines(components: Components) -> tuple[IsaacLike, RaellaLike]:
    """Return the ADC accelerators."""
    return IsaacLike(components), RaellaLike(components)


def _cost(
    name: str,
    workload: Workload,
    batch: int,
    components: Components,
    linear: LinearCost,
    tile_area: float,
    arrays_per_chip: float,
    tiles_per_chip: float,
) -> Cost:
    """Add what all ADC baselines share: digital products, vector unit, movement of codes."""
    rows, arrays = [], 0.0
    for layer in workload.layers:
        energy, seconds = dict[str, float](), 0.0
        if layer.kind == "linear":
            energy, seconds, used = linear(layer)
            arrays += used
            energy |= _movement(components, layer)
        elif layer.kind == "products":
            mac = components["baseline.multiply_accumulate"]["energy_j"]
            softmax = layer.exps - layer.macs  # one exponential a score, as one multiplication
            energy["vector unit"] = layer.macs * mac
            energy["vector unit"] += max(softmax, 0.0) * components["multiplier"]["energy_j"]
            for key in ("buffer", "bus"):
                energy[key] = layer.buffer_bits * components[key]["energy_j_per_bit"]
        for key, joules in vector_energy(components, layer).items():
            energy[key] = energy.get(key, 0.0) + joules
        wide = components["core"]["columns"] * components["tile"]["cores"]  # as on our tiles
        seconds += vector_time(components, layer, math.ceil(layer.width / wide))
        stage = layer.stage or layer.name
        rows.append(LayerCost(layer.name, layer.kind, 0, layer.macs, energy, seconds, stage))
    tiles = math.ceil(arrays / arrays_per_chip * tiles_per_chip)
    chips = math.ceil(arrays / arrays_per_chip)
    notes = ("products of activations and links take no time: a lower bound", "no energy of links")
    return Cost(name, workload.what, batch, workload.items, tuple(rows), tiles * tile_area,
                0, chips, notes)  # fmt: skip


def _movement(components: Components, layer: Layer) -> dict[str, float]:
    bits_in = layer.inputs * layer.vectors * CODE_BITS
    bits_out = layer.outputs * layer.vectors * CODE_BITS
    router = components["router"]
    return {
        "buffer": (bits_in + bits_out) * components["buffer"]["energy_j_per_bit"],
        "bus": (bits_in + bits_out) * components["bus"]["energy_j_per_bit"],
        "router": bits_out * router["hops"] * router["energy_j_per_bit"],
    }


def gpu_roofline(components: Components, workload: Workload, batch: int) -> dict[str, float]:
    """Return time [s], energy [J] and TOPS/W of a GPU that reaches its peaks: a bound, no GPU.

    Weights are read once for the batch, keys and values once for each sequence; the longer of
    arithmetic and memory counts, at full power.
    """
    gpu = components["gpu.h100"]
    arithmetic = 2 * workload.macs * batch / gpu["peak_op_per_s"]
    moved = workload.weight_bytes + batch * workload.state_bytes
    seconds = max(arithmetic, moved / gpu["memory_byte_per_s"])
    energy = seconds * gpu["power_w"]
    return {
        "time_s": seconds,
        "energy_j": energy,
        "tops_per_w": 2e-12 * workload.macs * batch / energy,
        "arithmetic_s": arithmetic,
        "memory_s": moved / gpu["memory_byte_per_s"],
    }

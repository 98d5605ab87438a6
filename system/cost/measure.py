"""What a network's own conductances and activations cost in the characterised circuits.

A few inputs run in float and are recorded; the layers are programmed as inference programs them
(same seeds, same chip), and energy follows from every conductance and every recorded code. Layers
of large networks are measured on a part of their columns.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Table
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.acam import AcamUnit
from behavioral.library import Library
from circuits.unit_energy import UnitEnergy
from system.calibration import Ranges
from system.cost.conversion import ConversionEnergy, programmed_rows
from system.cost.driver import pulse_drives
from system.cost.products import ProductFigures, measure_products
from system.cost.spice import CellPower, settle_time
from system.cost.workload import CODE_BITS, Attention
from system.engine import layer_tensors
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.models.ops import Activation, Array, Cache, FloatOps, Mask
from system.networks import Network
from system.pieces import Pieces
from system.product_levels import ceilings
from system.quantization import Mapping
from system.weights.acam_windows import is_windows, place_tuned

Floats = NDArray[np.float64]

KEPT = 64  # recorded vectors a layer keeps
IMAGES, WINDOWS = 16, 2  # recorded inputs; a window has 256 tokens
PRODUCT_ROWS = 256  # recorded rows of an element-wise product
PER_OUTPUT = ("y", "tile", "mean", "std")  # ranges with an entry for each output
PART = 64  # columns that stand for a layer of a large network
PART_FROM = 2_000_000  # parameters


@dataclass(frozen=True)
class LayerFigures:
    """SPICE figures of one layer.

    Attributes
    ----------
    cell_power_w : mean power of one weight's cells (all signs and slices) while it is read.
    search_j : mean energy of one conversion by one ACAM unit, all its parts.
    settle_s : until the slowest column has settled.
    rows : rows of one ACAM unit.
    conversions : ACAM conversions of one output, copies and the second range aside.
    vectors, columns : recorded vectors, and columns that were programmed.
    fine_j, fine_rows : energy and rows of a unit of the second read-out range; 0 without one.
    parts_j : `search_j` by `circuits.acam_unit.PARTS`.
    """

    cell_power_w: float
    search_j: float
    settle_s: float
    rows: float
    conversions: int
    vectors: int
    columns: int
    fine_j: float = 0.0
    fine_rows: float = 0.0
    parts_j: tuple[float, ...] = ()

    @property
    def output_j(self) -> float:
        """Energy of all conversions of one output by one copy of its ACAM units."""
        return self.conversions * self.search_j + self.fine_j

    @property
    def output_rows(self) -> float:
        """Rows of all ACAM units of one output, of one copy."""
        return self.conversions * self.rows + self.fine_rows


@dataclass(frozen=True)
class Figures:
    """SPICE figures of a network: by layer, and of its product units.

    Attributes
    ----------
    network : whose weights and activations they are.
    layers : by layer name.
    products : by name of the block; empty without data-dependent products.
    mapping : how the network was laid on tiles and units.
    unit : what works around the cells of an ACAM unit; None where it is not known, so not counted.
    """

    network: str
    layers: Table[str, LayerFigures]
    products: Table[str, ProductFigures]
    mapping: Mapping
    unit: UnitEnergy | None = None

    def mean(self, name: str) -> LayerFigures:
        """Return the mean over the layers of the same kind, for a network without weights."""
        chosen = _alike(self.layers, name)
        return replace(
            chosen[0],
            cell_power_w=float(np.mean([f.cell_power_w for f in chosen])),
            search_j=float(np.mean([f.search_j for f in chosen])),
            settle_s=max(f.settle_s for f in chosen),
            rows=float(np.mean([f.rows for f in chosen])),
            fine_j=float(np.mean([f.fine_j for f in chosen])),
            fine_rows=float(np.mean([f.fine_rows for f in chosen])),
        )

    def mean_products(self, name: str) -> ProductFigures:
        """Return the mean over the product blocks of the same kind."""
        chosen = _alike(self.products, name)
        return replace(
            chosen[0],
            log_j=float(np.mean([f.log_j for f in chosen])),
            exp_j=float(np.mean([f.exp_j for f in chosen])),
            exp_rows=float(np.mean([f.exp_rows for f in chosen])),
        )


Kind = TypeVar("Kind")


def _alike(table: Table[str, Kind], name: str) -> list[Kind]:
    """Return the entries whose last name is the same; all of them if there is none."""
    last = name.rsplit(".", 1)[-1]
    found = [value for key, value in table.items() if key.rsplit(".", 1)[-1] == last]
    return found or list(table.values())


class StimulusOps(FloatOps):
    """Exact arithmetic that keeps a few inputs of every layer and every product.

    Attributes
    ----------
    inputs, activations, weights : of each layer.
    vectors : input vectors that each layer saw.
    images : or windows of text that ran.
    operands, products : of each block of products, and how many it formed element by element.
    attentions : shape of each attention block, and what it saw.
    seen_inputs : inputs that each output of a layer depends on; fewer than it has in the bundles of
        grouped convolutions, where other groups' cells stay at the lowest conductance.
    """

    def __init__(self, tensors: Table[str, Array], tile_rows: int):
        super().__init__(tensors, tile_rows)
        self.inputs: dict[str, Array] = {}
        self.activations: dict[str, Activation] = {}
        self.weights: dict[str, tuple[Array, Array | None]] = {}
        self.vectors: dict[str, int] = {}
        self.operands: dict[str, tuple[Array, ...]] = {}
        self.products: dict[str, int] = {}
        self.attentions: dict[str, Attention] = {}
        self.seen_inputs: dict[str, int] = {}
        self.images = 1

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Run the layer and keep up to KEPT inputs, spread over what it saw."""
        flat = x.reshape(-1, x.shape[-1])
        chosen = np.unique(np.linspace(0, len(flat) - 1, KEPT).astype(np.int64))
        self.inputs[name] = flat[chosen].astype(np.float32)
        self.activations[name] = activation
        self.weights[name] = layer_tensors(self._tensors, name)
        self.vectors[name] = self.vectors.get(name, 0) + len(flat)
        whole = self._tensors[f"{name.partition('[')[0]}.weight"]  # of all bundles, group by group
        self.seen_inputs[name] = whole[0].size
        return super().linear(name, x, activation)

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Multiply and keep the operands of the first sequence."""
        some = slice(0, PRODUCT_ROWS)
        first, second = (x.reshape(-1, x.shape[-1])[some].copy() for x in (a, b))
        self.operands[name] = (first, second)
        self.products[name] = self.products.get(name, 0) + a.size
        return super().multiply(name, a, b)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Attend and keep the operands of the first sequence."""
        self.operands[name] = (q[:1], k[:1], v[:1])
        batch, heads, time, size = q.shape
        pairs = batch * time * (time + 1) // 2 if mask is None else time * int(mask.sum())
        before = self.attentions.get(name, Attention(heads, k.shape[1], size, 0, 0))
        self.attentions[name] = replace(
            before, time=before.time + batch * time, pairs=before.pairs + pairs
        )
        return super().attention(name, q, k, v, cache, mask)


def measure(
    network: Network, library: Library, unit: UnitEnergy | None = None, *, seed: int = 0,
    pulses: bool = False, pieces: Pieces | None = None,
) -> tuple[Figures, StimulusOps]:  # fmt: skip
    """Record stimuli, program each layer, and read energies and times from the library.

    Parameters
    ----------
    network, library : Network, Library
    unit : what works around the cells of an ACAM unit, or None.
    seed : of the chip.
    pulses : rows are driven bit after bit, each at full swing.
    pieces : keeps the figures of every layer until the run is whole.

    Returns
    -------
    Figures, and the recorded stimuli
    """
    ops = StimulusOps(network.model.tensors, library.technology.column.rows)
    large = sum(t.size for t in network.model.tensors.values()) >= PART_FROM
    count = WINDOWS if network.metric == "perplexity" else IMAGES
    samples = network.samples(1 if large else count)
    network.score(ops, samples, f"recording {network.name}")
    ops.images = len(samples)
    hardware = Hardware(library, network.mapping, keep_devices=True, one_copy=True)
    meter = Meter(library, hardware, unit, pulses)
    chip = Chip(seed, 0, "frozen")

    def layer(name: str) -> dict[str, Any]:
        programmed = program(ops, network.ranges, hardware, chip, name, large)
        return asdict(meter.layer(programmed, ops.inputs[name]))

    def product(name: str) -> dict[str, Any]:
        own, operands = network.mapping.of(name), ops.operands[name]
        return asdict(
            measure_products(
                operands, ceilings(network.ranges, name, operands, own.output_margin),
                own, hardware.acam, meter.energy, seed=chip.stream(name),
                placed=partial(place_tuned, network.ranges),
            )
        )  # fmt: skip

    def kept(name: str, make: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        return make(name) if pieces is None else pieces.take(name, partial(make, name))

    found = {}
    for name in tqdm(ops.inputs, desc="measuring", unit="layer", disable=None, leave=False):
        values = kept(name, layer)
        found[name] = LayerFigures(**values | {"parts_j": tuple(values["parts_j"])})
    products = {name: ProductFigures(**kept(name, product)) for name in ops.operands}
    return Figures(network.name, found, products, network.mapping, unit), ops


def program(
    ops: StimulusOps, ranges: Ranges, hardware: Hardware, chip: Chip, name: str, part: bool = False
) -> AnalogLinear:
    """Program a layer as inference does; with `part`, evenly spread columns of it."""
    weight, bias = ops.weights[name]
    if part and len(weight) > PART:
        chosen = np.linspace(0, len(weight) - 1, PART).astype(np.int64)
        ranges = _part_of_ranges(ranges, name, chosen)
        weight, bias = weight[chosen], None if bias is None else bias[chosen]
    return AnalogLinear(name, weight, bias, ops.activations[name], ranges, hardware, chip)


def _part_of_ranges(ranges: Ranges, name: str, chosen: NDArray[np.int64]) -> Ranges:
    """Return what was calibrated, for some of the outputs of a layer.

    Their arguments may end elsewhere than those of all outputs, which the windows of acam.h5 fit.
    """
    own = {f"{name}.{part}" for part in PER_OUTPUT}
    return {
        key: rows[..., chosen] if key in own else rows
        for key, rows in ranges.items()
        if not is_windows(key)
    }


class Meter:
    """Reads the energy of programmed layers on recorded inputs."""

    def __init__(
        self,
        library: Library,
        hardware: Hardware,
        unit: UnitEnergy | None = None,
        pulses: bool = False,
    ) -> None:
        self.library, self.mapping, self.pulses = library, hardware.mapping, pulses
        self.cells = CellPower(library)
        self.energy = ConversionEnergy(library, hardware.acam, unit)
        self.v_read = library.technology.column.v_read_v

    def layer(self, layer: AnalogLinear, x: Array) -> LayerFigures:
        """Return the figures of a layer for recorded inputs x (n, in)."""
        drive = layer.drive(x)
        settle = max(
            settle_time(self.library, array.devices.sum(axis=1).ravel())
            for array in layer.arrays
            if array.devices is not None
        )
        power = self.cell_power(layer, drive)
        searches, fine = self.searches(layer, drive)
        columns, refined = len(layer.spec.gain), layer.fine_unit
        by_part = np.mean([s.mean(axis=(0, 1)) for s in searches], axis=0)
        return LayerFigures(
            cell_power_w=float(power.mean()) / (columns * drive.shape[1]),
            search_j=float(by_part.sum()),
            settle_s=settle,
            rows=float(np.mean([programmed_rows(u, 0).sum() for u in layer.units])),
            conversions=len(layer.units),
            vectors=len(x),
            columns=columns,
            fine_j=0.0 if fine is None else float(fine.sum(axis=-1).mean()),
            fine_rows=0.0 if refined is None else float(programmed_rows(refined, 0).sum()),
            parts_j=tuple(by_part.tolist()),
        )

    def cell_power(self, layer: AnalogLinear, drive: Array) -> Floats:
        """Return the power (n,) [W] of all cells of a layer for row drives (n, in).

        Of rows that are driven by pulses it is the mean over the bits of a code.
        """
        bits = max(CODE_BITS, self.mapping.of(layer.spec.name).input_bits)
        drives = pulse_drives(drive.astype(float), bits) if self.pulses else [drive]
        total = np.zeros(len(drive))
        for rows, array in zip(layer.tiles, layer.arrays, strict=True):
            assert array.devices is not None
            g = np.concatenate(list(array.devices), axis=1)  # (rows, arrays x cols)
            for v in drives:
                power = self.cells.total(g, v[:, rows].astype(float) * self.v_read)
                total += power / len(drives)
        return total

    def searches(self, layer: AnalogLinear, drive: Array) -> tuple[list[Floats], Floats | None]:
        """Return energies (n, columns, parts) [J] of ACAM units at the layer's outputs.

        Returns
        -------
        of each set of units of the first read-out range, and of those of the second, if any
        """
        spec = layer.spec
        parts = [layer.multiply(drive, i) for i in range(len(layer.tiles))]
        total = np.sum(parts, axis=0)
        ends = [(spec.y_lo, spec.y_hi)]
        if layer.digital_sum:
            ends = [*zip(spec.tile_lo, spec.tile_hi, strict=True), *ends]
            parts = [*parts, total]
        else:
            parts = [total]
        found = [
            self._unit(unit, (y * spec.gain - low) / (high - low))
            for unit, y, (low, high) in zip(layer.units, parts, ends, strict=False)
        ]
        if layer.fine_unit is None or spec.fine is None:
            return found, None
        low, high = spec.fine.y_lo, spec.fine.y_hi
        return found, self._unit(layer.fine_unit, (total * spec.gain - low) / (high - low))

    def _unit(self, unit: AcamUnit, u: Array) -> Floats:
        found = [self.energy.parts(unit, k, u[:, k].astype(float)) for k in range(u.shape[1])]
        return np.stack(found, axis=1)

"""Closes the loop: replays what an inference did in ngspice, column by column, search by search.

The stimuli are recorded during a noisy inference; the conductances are the very ones that were
programmed. Columns run at transistor level with wires and transimpedance stage, ACAM searches as
transients of every row of the unit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.crossbar import TILE_COLUMNS
from behavioral.library import Library
from circuits import acam, crossbar
from circuits.errors import ParameterError, SimulationError
from circuits.plan import simulator_version
from system.engine import AnalogOps
from system.linear import AnalogLinear, Chip, Hardware
from system.models.ops import Activation, Array
from system.networks import Network

KEPT_INPUTS = 4096  # recorded row drives a layer keeps, spread over what it saw
STIMULI = 16  # inputs replayed per column
COLUMNS = 2  # columns per row tile: the heaviest, and one drawn at random
SEARCHES = 12  # ACAM searches per layer


@dataclass(frozen=True)
class LayerReport:
    """Agreement of one layer with ngspice.

    Attributes
    ----------
    points : column outputs compared.
    rms_lsb, max_lsb, bias_lsb : error of the column model in LSB of the layer's read-out range.
    searches : ACAM conversions compared.
    equal, adjacent : share of output codes equal to ngspice's, and at most one off.
    worst : tile, column and stimulus of the largest column error.
    """

    name: str
    points: int
    rms_lsb: float
    max_lsb: float
    bias_lsb: float
    searches: int
    equal: float
    adjacent: float
    worst: str


class RecordingOps(AnalogOps):
    """The analog engine, keeping a sample of what every layer saw."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.inputs: dict[str, Array] = {}

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Run the layer and keep up to KEPT_INPUTS of its inputs."""
        flat = x.reshape(-1, x.shape[-1])
        step = max(1, len(flat) // KEPT_INPUTS)
        seen = self.inputs.get(name)
        new = flat[::step].astype(np.float32)
        self.inputs[name] = (
            new
            if seen is None
            else np.concatenate([seen, new])[:: 1 + (len(seen) + len(new) > KEPT_INPUTS)]
        )
        return super().linear(name, x, activation)


def record(network: Network, library: Library, samples: int, chip: Chip) -> RecordingOps:
    """Run a noisy inference that keeps stimuli and programmed conductances."""
    hardware = Hardware(library, network.mapping, keep_devices=True)
    ops = RecordingOps(network.model.tensors, network.ranges, hardware, chip)
    network.score(ops, network.samples(samples), f"recording {network.name}")
    return ops


def validate(
    network: Network,
    library: Library,
    *,
    samples: int,
    seed: int = 0,
    layers: list[str] | None = None,
    workers: int | None = None,
) -> list[LayerReport]:
    """Replay a stratified sample of one chip's inference in ngspice.

    Parameters
    ----------
    network : Network
    library : Library
    samples : inputs of the recorded inference.
    seed : of the chip and of the choice of columns and stimuli.
    layers : names to replay; default: all.
    workers : ngspice processes.

    Returns
    -------
    list of LayerReport, in the order the layers ran

    Raises
    ------
    ParameterError
        The network has no layer of a given name.
    SimulationError
        ngspice is missing, or failed on a replayed circuit.
    """
    simulator_version()  # without ngspice nothing need be recorded
    ops = record(network, library, samples, Chip(seed, 0, "frozen"))
    unknown = [n for n in layers or [] if n not in ops.layers]
    if unknown:
        raise ParameterError(
            f"{network.name} has no layer {unknown[0]!r}; its layers: {', '.join(ops.layers)}"
        )
    names = [n for n in ops.layers if layers is None or n in layers]
    reports: list[LayerReport] = []
    for name in tqdm(names, desc="replay in ngspice", unit="layer", disable=None):
        rng = np.random.default_rng((seed, len(reports)))
        layer, x = ops.layers[name], ops.inputs[name]
        columns = replay_columns(library, layer, x, rng, workers)
        searches = replay_searches(library, layer, x, rng, workers)
        reports.append(_report(name, columns, searches))
    return reports


@dataclass(frozen=True)
class ColumnErrors:
    """Errors [LSB] (stimuli, columns) of one row tile, and which columns they are."""

    tile: int
    columns: NDArray[np.int64]
    errors: NDArray[np.float64]


def replay_columns(
    library: Library,
    layer: AnalogLinear,
    x: Array,
    rng: np.random.Generator,
    workers: int | None = None,
) -> list[ColumnErrors]:
    """Compare columns of every row tile with ngspice on recorded inputs.

    One logical column is four physical ones (main and error pair); LSB is the layer's read-out
    range over 256.
    """
    found = []
    drive = layer.drive(_some(x, STIMULI, rng))
    model = layer.hardware.crossbar
    lsb = (layer.spec.y_hi - layer.spec.y_lo) / layer.spec.gain / 256  # normalised units
    for tile, rows in enumerate(layer.tiles):
        array = layer.arrays[tile]
        devices = array.devices
        assert devices is not None
        load = devices[:2].sum(axis=(0, 1))
        other = int(rng.integers(array.cols))
        chosen = np.unique([int(load.argmax()), other])[:COLUMNS]
        v = drive[:, rows].astype(float) * library.technology.column.v_read_v
        g = devices[:, :, chosen].transpose(2, 0, 1).reshape(-1, devices.shape[1]).astype(float)
        current = crossbar.replay(library.device, library.technology, g, v, workers=workers)
        current = current.reshape(len(v), len(chosen), -1)  # (stimuli, columns, 2 or 4)
        total = current[..., 0] - current[..., 1]
        if current.shape[2] == 4:
            scale = array.error_scale[chosen // TILE_COLUMNS]
            total += (current[..., 2] - current[..., 3]) / scale
        truth = total / (model.v_read * model.span)
        ours = layer.multiply(drive, tile)[:, chosen]
        if not np.isfinite(truth).all():
            raise SimulationError(
                f"{layer.spec.name} tile {tile}: ngspice failed on a replayed column; the kept "
                "netlists are listed above"
            )
        found.append(ColumnErrors(tile, chosen, (ours - truth) / lsb[chosen]))
    return found


def replay_searches(
    library: Library,
    layer: AnalogLinear,
    x: Array,
    rng: np.random.Generator,
    workers: int | None = None,
) -> NDArray[np.int64]:
    """Compare ACAM output codes with ngspice; returns the code differences (searches,)."""
    spec, unit = layer.spec, layer.units[0]
    assert unit.g_lo is not None
    assert unit.g_hi is not None
    assert unit.lo is not None
    picked = _some(x, SEARCHES, rng)
    column = rng.integers(len(spec.gain), size=len(picked))
    y = sum(
        layer.multiply(layer.drive(picked), t)
        for t in range(1 if layer.digital_sum else len(layer.tiles))
    )
    low, high = (spec.tile_lo[0], spec.tile_hi[0]) if layer.digital_sum else (spec.y_lo, spec.y_hi)
    u_all = np.clip((y * spec.gain - low) / (high - low), 0.0, 1.0).astype(np.float32)
    index = np.arange(len(picked))
    codes, _ = layer.hardware.acam.convert(unit, u_all)
    ours = codes[index, column].astype(np.int64)
    u = u_all[index, column].astype(float)
    device = library.device
    # A branch that is off is a bound beyond the data line: the least and the largest conductance.
    g_lo = np.where(unit.g_lo[column] > 0, unit.g_lo[column], device.g_min_s)
    g_hi = np.where(unit.g_hi[column] > 0, unit.g_hi[column], device.g_max_s)
    v_dl = np.repeat(layer.hardware.acam.voltage(u)[:, None], g_lo.shape[1], axis=1)
    v_ml = acam.replay(
        device, library.technology, g_lo.ravel(), g_hi.ravel(), v_dl.ravel(), workers=workers
    )
    if not np.isfinite(v_ml).all():
        raise SimulationError(
            f"{spec.name}: ngspice failed on a replayed search; the kept netlists are listed above"
        )
    match = acam.is_match(library.technology, v_ml).reshape(g_lo.shape)
    match &= ~np.isposinf(unit.lo[column])  # rows that are switched off: stuck, or out of reach
    return ours - decode_rows(match, unit.bit, unit.bits, unit.gray)


def decode_rows(
    match: NDArray[np.bool_], bit: NDArray[np.int64], bits: int, gray: bool
) -> NDArray[np.int64]:
    """OR the matching rows (searches, rows) of each output bit and decode the word."""
    word = np.zeros(len(match), np.int64)
    for b in range(bits):
        word |= match[:, bit == b].any(axis=1).astype(np.int64) << b
    shift = 1
    while gray and shift < bits:
        word ^= word >> shift
        shift *= 2
    return word


def _some(x: Array, count: int, rng: np.random.Generator) -> Array:
    """Return `count` recorded inputs: the two of largest drive, the rest drawn at random."""
    count = min(count, len(x))
    order = np.argsort(np.abs(x).sum(axis=1))[::-1]
    rest = rng.choice(order[2:], size=max(0, count - 2), replace=False)
    return np.ascontiguousarray(x[np.concatenate([order[:2], rest])[:count]])


def _report(name: str, columns: list[ColumnErrors], differences: NDArray[np.int64]) -> LayerReport:
    errors = np.concatenate([c.errors.ravel() for c in columns])
    worst = max(columns, key=lambda c: float(np.abs(c.errors).max()))
    stimulus, place = np.unravel_index(np.abs(worst.errors).argmax(), worst.errors.shape)
    return LayerReport(
        name=name,
        points=errors.size,
        rms_lsb=float(np.sqrt(np.mean(errors**2))),
        max_lsb=float(np.abs(errors).max()),
        bias_lsb=float(errors.mean()),
        searches=len(differences),
        equal=float(np.mean(differences == 0)),
        adjacent=float(np.mean(np.abs(differences) <= 1)),
        worst=f"tile {worst.tile} column {worst.columns[place]} stimulus {stimulus}",
    )


def to_table(reports: list[LayerReport]) -> str:
    """Return the reports as aligned text."""
    width = max(len(r.name) for r in reports)
    head = f"{'layer':{width}}  rms LSB  max LSB     bias  equal  adjacent  points  searches"
    lines = [
        f"{r.name:{width}}  {r.rms_lsb:7.3f}  {r.max_lsb:7.3f}  {r.bias_lsb:+7.3f}"
        f"  {r.equal:5.3f}  {r.adjacent:8.3f}  {r.points:6d}  {r.searches:8d}"
        for r in reports
    ]
    return "\n".join([head, *lines])


def to_dict(reports: list[LayerReport]) -> dict[str, Any]:
    """Return totals and layers for JSON."""
    points = sum(r.points for r in reports)
    searches = sum(r.searches for r in reports)
    return {
        "column_rms_lsb": float(np.sqrt(sum(r.rms_lsb**2 * r.points for r in reports) / points)),
        "column_max_lsb": max(r.max_lsb for r in reports),
        "codes_equal": sum(r.equal * r.searches for r in reports) / searches,
        "codes_adjacent": sum(r.adjacent * r.searches for r in reports) / searches,
        "points": points,
        "searches": searches,
        "layers": [asdict(r) for r in reports],
    }

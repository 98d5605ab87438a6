"""One recorded point again in ngspice, with its netlists left for a look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from behavioral.crossbar import TILE_COLUMNS
from behavioral.library import Library
from circuits.errors import ParameterError
from circuits.plan import Job, simulator_version
from system.files import write_text
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.models.ops import Array
from system.networks import Network
from system.validation.agreement import Point
from system.validation.products import KINDS, compare, units_of
from system.validation.replay import (
    Place,
    column_outputs,
    dry_run,
    lsb,
    places,
    search_codes,
    unit_codes,
)
from system.validation.sampling import RecordedLinear, RecordingOps, edge_distance, record


@dataclass(frozen=True)
class Replay:
    """A point, the netlists that were simulated, and how to read them."""

    point: Point
    netlists: list[Path]
    note: str

    def __str__(self) -> str:
        what, unit = ("column output", " LSB") if self.point.kind == "column" else ("code", "")
        digits = 4 if self.point.kind == "column" else 0
        files = "\n".join(f"  ngspice -b {path}" for path in self.netlists)
        return (
            f"{self.point.layer} {what}: model {self.point.ours:.{digits}f}{unit}, ngspice "
            f"{self.point.spice:.{digits}f}{unit}, difference "
            f"{self.point.ours - self.point.spice:+.{digits}f}{unit}\n{self.note}\n{files}"
        )


def reproduce(
    network: Network,
    library: Library,
    folder: Path,
    *,
    samples: int,
    layer: str,
    column: int,
    stimulus: int,
    tile: int | None = None,
    search: bool = False,
    fine: bool = False,
    copy: int = 0,
    unit: str = "",
    seed: int = 0,
    **run_options: Any,
) -> Replay:
    """Replay one column output, or one ACAM conversion, of a recorded inference.

    Parameters
    ----------
    network, library : Network, Library
    folder : Path
        Where the netlists are written.
    samples, seed : of the recorded inference.
    layer, tile, column, stimulus : as a report names the point; without tile: tile 0.
    search : the ACAM conversion instead of the column output.
    fine, copy : of the conversion: in the second read-out range, and by which of parallel units.
    unit : "log" or "exp" unit of a block of products; its stimulus is a DAC level.
    **run_options
        As `circuits.plan.run`.

    Raises
    ------
    ParameterError
        There is no such layer, tile, column or stimulus.
    SimulationError
        ngspice is missing or failed.
    """
    simulator_version()
    ops = record(network, library, samples, Chip(seed, 0, "frozen"), [layer])
    if layer in ops.operands:
        return _replay_product(ops, layer, unit, copy, column, stimulus, folder, run_options)
    if layer not in ops.layers:
        raise unknown_layer(network, layer, [*ops.layers, *ops.operands])
    if unit:
        raise ParameterError(f"--unit {unit}: {layer} is no block of products")
    found, x = ops.recorded(layer), ops.inputs[layer]
    units = len(found.tiles) if found.digital_sum or not search else 1
    _check_place(
        layer, tile=(tile or 0, units), column=(column, len(found.spec.gain)),
        stimulus=(stimulus, len(x)), copy=(copy, len(found.copies[-1])),
    )  # fmt: skip
    drive = found.drive(x)  # all of them: BLAS rounds a single row in another way
    if not search:
        return _replay_column(found, drive, tile or 0, column, stimulus, folder, run_options)
    place = _find_units(found, tile, fine)
    return _replay_search(found, drive, place, copy, column, stimulus, folder, run_options)


def _check_place(layer: str, **places: tuple[int, int]) -> None:
    """Refuse numbers that a layer does not have; each with how many there are."""
    for what, (value, count) in places.items():
        if not 0 <= value < count:
            raise ParameterError(f"--{what} {value}; {layer} has 0 to {count - 1}")


def _replay_product(
    ops: RecordingOps, name: str, kind: str, copy: int, column: int, level: int, folder: Path,
    options: dict[str, Any],
) -> Replay:  # fmt: skip
    if kind not in KINDS:
        raise ParameterError(f"{name} is a block of products: give --unit {' or '.join(KINDS)}")
    units = [unit for k, _, unit in units_of(ops, name) if k == kind]
    _check_place(name, copy=(copy, len(units)))
    unit = units[copy]
    _check_place(name, column=(column, unit.columns), stimulus=(level, unit.table.shape[1]))
    at = ops.hardware, unit, np.array([column]), np.array([level])
    u = np.array([level / (unit.table.shape[1] - 1)], np.float32)
    jobs = dry_run(lambda **o: search_codes(*at[:3], u, **o))
    codes = compare(*at, kind, copy, **options)
    values = float(codes.ours[0]), float(codes.spice[0])
    point = Point(name, "code", None, column, level, *values, copy=copy, unit=kind)
    stem = f"{name}-{kind}.{copy}-column{column}-level{level}"
    paths = [_write(folder, f"{stem}-rows{k}", job, "tran") for k, job in enumerate(jobs)]
    distance = float(codes.chosen.distance_lsb[0])
    return Replay(point, paths, _search_note(ops.hardware, u, distance, int(codes.searched[0])))


def _search_note(hardware: Hardware, u: Array, distance: float, searched: int) -> str:
    """Say how to read the netlists of a conversion at u (1,)."""
    return (
        f"Data line at {float(hardware.acam.voltage(u)[0]):.6f} V, {distance:.4f} LSB from the "
        f"nearest window edge; without the step table the model's code is {searched}; a row "
        f"matches whose lines end above {hardware.library.technology.acam.v_sense_v:g} V:"
    )


def _find_units(layer: RecordedLinear, tile: int | None, fine: bool) -> Place:
    """Return the units of a tile, or of the layer, in one of its read-out ranges."""
    for place in places(layer):
        if place.fine == fine and (not layer.digital_sum or place.tile == tile):
            return place
    if fine:
        raise ParameterError(f"--fine: {layer.spec.name} has one read-out range (output_fine)")
    raise ParameterError(f"{layer.spec.name} adds codes of {len(layer.tiles)} tiles: give --tile")


def unknown_layer(network: Network, name: str, layers: list[str]) -> ParameterError:
    """Return the error of a layer that does not exist."""
    return ParameterError(f"{network.name} has no layer {name!r}; its layers: {', '.join(layers)}")


def _replay_column(
    layer: AnalogLinear,
    drive: Array,
    tile: int,
    column: int,
    stimulus: int,
    folder: Path,
    options: dict[str, Any],
) -> Replay:
    columns, one = np.array([column]), drive[[stimulus]]
    jobs = dry_run(lambda **o: column_outputs(layer, tile, columns, one, **o))
    step = float(lsb(layer)[column])
    ours = float(layer.multiply(drive, tile)[stimulus, column]) / step
    spice = float(column_outputs(layer, tile, columns, one, **options)[0, 0]) / step
    point = Point(layer.spec.name, "column", tile, column, stimulus, ours, spice)
    name = f"{layer.spec.name}-tile{tile}-column{column}-stimulus{stimulus}"
    arrays = ("",) if len(jobs) == 1 else tuple(f"-array{k}" for k in range(len(jobs)))
    paths = [_write(folder, name + of, job, "dc") for of, job in zip(arrays, jobs, strict=True)]
    scale = layer.arrays[tile].error_scale
    k = f"{scale[column // TILE_COLUMNS]:.6g}" if len(scale) else None
    i = "i(vs{})" if len(jobs) == 1 else "i(vs0) of array{}"  # row drivers: a netlist an array
    parts = [i.format(array) for array in range(4)]
    total = f"{parts[0]} - {parts[1]}" + (f" + ({parts[2]} - {parts[3]}) / {k}" if k else "")
    unit = layer.hardware.crossbar.v_read * layer.hardware.crossbar.span * step
    note = f"In the netlist the output is {total}, and 1 LSB is {unit:.6g} A:"
    return Replay(point, paths, note)


def _replay_search(
    layer: RecordedLinear,
    drive: Array,
    place: Place,
    copy: int,
    column: int,
    stimulus: int,
    folder: Path,
    options: dict[str, Any],
) -> Replay:
    unit, columns = layer.copies[place.number][copy], np.array([column])
    u = layer.data_lines(drive)[place.number][[stimulus], column]
    jobs = dry_run(lambda **o: search_codes(layer.hardware, unit, columns, u, **o))
    ours, searched = (int(codes[0]) for codes in unit_codes(layer.hardware, unit, columns, u))
    spice = int(search_codes(layer.hardware, unit, columns, u, **options)[0])
    where = place.tile, column, stimulus
    point = Point(layer.spec.name, "code", *where, ours, spice, fine=place.fine, copy=copy)
    name = f"{layer.spec.name}-unit{place.number}.{copy}-column{column}-stimulus{stimulus}"
    paths = [_write(folder, f"{name}-rows{k}", job, "tran") for k, job in enumerate(jobs)]
    distance = float(edge_distance(unit, u, columns)[0])
    note = _search_note(layer.hardware, u, distance, searched)
    return Replay(point, paths, note)


def _write(folder: Path, name: str, job: Job, analysis: str) -> Path:
    """Write a netlist that prints what was compared; whole or not at all."""
    place = folder / f"{name}.cir"
    circuit, end, rest = job.netlist.rpartition("\n.end")
    text = f"{circuit}\n.print {analysis} {' '.join(job.vectors)}{end}{rest}"
    write_text(place, text)
    return place

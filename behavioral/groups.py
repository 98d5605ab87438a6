"""A circuit's data class as a group of an HDF5 file, and back."""

import dataclasses
import importlib
from dataclasses import MISSING
from typing import Any

import numpy as np

from behavioral.layout import CIRCUITS, describe
from circuits.errors import FormatError
from circuits.plan import Provenance


def write_group(group: Any, circuit: str, data: Any) -> None:
    """Write one data class: arrays as datasets, scalars and provenance as attributes."""
    fields = {item.name: getattr(data, item.name) for item in dataclasses.fields(data)}
    origin = fields.pop("provenance")
    group.attrs["simulator"] = origin.simulator
    group.attrs["netlists_sha256"] = origin.sha256
    group.attrs["jobs"], group.attrs["failed"] = origin.jobs, origin.failed
    texts = group.create_group("netlists")
    for kind in sorted(origin.netlists):
        texts.create_dataset(kind, data=origin.netlists[kind])
    for name, value in fields.items():
        array = np.asarray(value)
        guard = {"fletcher32": True, "chunks": array.shape} if array.ndim and array.size else {}
        dataset = group.create_dataset(name, data=array, **guard)
        entry = describe(circuit, name)
        dataset.attrs["units"] = entry.units
        dataset.attrs["long_name"] = entry.long_name
        if name in entry.axes:
            dataset.make_scale(name)
    for name in fields:
        for k, axis in enumerate(describe(circuit, name).axes):
            if axis and axis != name and axis in fields and k < group[name].ndim:
                group[name].dims[k].attach_scale(group[axis])


def read_group(group: Any, circuit: str) -> Any:
    """Build the circuit's data class from its group.

    Raises
    ------
    FormatError
        A dataset is missing.
    """
    kind = getattr(importlib.import_module(f"circuits.{circuit}"), CIRCUITS[circuit])
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if item.name == "provenance":
            continue
        if item.name not in group:
            if item.default is not MISSING or item.default_factory is not MISSING:
                continue  # added after the format: a library without it is read as before
            raise FormatError(f"dataset {group.name}/{item.name} is missing")
        value = group[item.name][()]
        values[item.name] = value if isinstance(value, np.ndarray) else float(value)
    netlists = {key: group["netlists"][key][()].decode() for key in group["netlists"]}
    attrs = group.attrs
    values["provenance"] = Provenance(
        str(attrs["simulator"]),
        netlists,
        str(attrs["netlists_sha256"]),
        int(attrs["jobs"]),
        int(attrs["failed"]),
    )
    return kind(**values)

"""What a worker does: one chip of one point, or the cost of a point's circuits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from behavioral.library import Library
from behavioral.variation import vary
from circuits.errors import CheckpointError
from system.files import write_json
from system.hardware import Chip
from system.inference import score_chip
from system.networks import Network, Samples, load_network
from system.range_cache import range_key
from system.sweep.points import Conditions, Point


@dataclass(frozen=True)
class Task:
    """A piece of work that another process can do.

    Attributes
    ----------
    place : file of its result.
    point, conditions : what is wanted.
    chip : its index; None: the cost of the circuits.
    samples : images or windows.
    network : sha256 of the network's content.
    library, sha256 : the point's circuits.
    """

    place: Path
    point: Point
    conditions: Conditions
    chip: int | None
    samples: int
    network: str
    library: Path
    sha256: str


def perform(task: Task) -> dict[str, Any]:
    """Do a task and keep its result, so that nothing finished is lost whoever is interrupted."""
    found = compute(task, read_library(task.library, task.sha256))
    write_json(task.place, found)
    return found


def compute(task: Task, library: Library) -> dict[str, Any]:
    """Do a task; needs none of its files."""
    found = _cost(task, library) if task.chip is None else _score(task, library)
    return {**found, "library_sha256": library.sha256}


def _score(task: Task, library: Library) -> dict[str, Any]:
    point, conditions = task.point, task.conditions
    network = _network(
        task.network,
        point.model,
        library.technology.column.rows,
        conditions.data,
        json.dumps(point.mapping(conditions), sort_keys=True),
    )
    crossbar, acam = point.programmed(library.device)
    assert task.chip is not None
    mismatch = point.mismatch(conditions)
    if mismatch != "none":
        library = vary(library, mismatch)
    score = score_chip(
        network,
        replace(library, device=crossbar),
        _samples(network, task),
        point.mode(conditions),
        Chip(conditions.seed, task.chip, conditions.read_noise),
        None if acam == crossbar else acam,
    )
    return {**asdict(score), "metric": network.metric}


def _cost(task: Task, library: Library) -> dict[str, Any]:
    """Cost one image, or one token at the end of the usual context."""
    from system.cost.components import Components
    from system.cost.study import estimate

    study = estimate(
        task.point.model,
        library,
        Components.from_toml(None),
        seed=task.conditions.seed,
        data=task.conditions.data,
        overrides=task.point.mapping(task.conditions),
    )
    ours = study.ours[0]
    return {
        "what": ours.what,
        "energy_j": ours.energy_j,
        "latency_s": ours.latency_s,
        "area_m2": ours.area_m2,
    }


@lru_cache(maxsize=2)
def read_library(path: Path, sha256: str) -> Library:
    """Return the library of a file, read once."""
    return Library.from_hdf5(path)


@lru_cache(maxsize=1)  # a language model fills memory once
def _network(sha256: str, model: str, rows: int, data: str | None, mapping: str) -> Network:
    network = load_network(model, tile_rows=rows, data=data, overrides=json.loads(mapping))
    if (found := content_of(network)) != sha256:
        raise CheckpointError(
            f"{model} has other weights here ({found[:12]}) than where the run was started "
            f"({sha256[:12]}): give all machines the same files"
        )
    return network


def content_of(network: Network) -> str:
    """Return the sha256 of weights and settings of a network."""
    checkpoint = network.checkpoint
    tensors = checkpoint.tensors | {f"analog.{k}": v for k, v in checkpoint.analog.items()}
    return range_key(tensors, np.zeros(0), {"config": checkpoint.config})


_kept: dict[tuple[Any, ...], Samples] = {}


def _samples(network: Network, task: Task) -> Samples:
    """Return the test inputs; all points of a network share them."""
    key = (task.network, task.conditions.data, task.samples)
    if key not in _kept:
        _kept.clear()
        _kept[key] = network.samples(task.samples)
    return _kept[key]

"""Layers of a text model programmed ahead by several processes, into the folder of kept chips."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from system.calibration import Ranges
from system.chip_store import ChipStore
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.models.language import TextModel
from system.models.ops import Activation, Array, FloatOps
from system.processes import in_processes

Task = tuple[str, Activation, dict[str, Array], Ranges]
_here: dict[str, Any] = {}  # what a worker process programs with


class Layers(FloatOps):
    """Exact arithmetic that notes which layers are asked for, and with which activation."""

    def __init__(self, tensors: dict[str, Array]):
        super().__init__(tensors)
        self.found: dict[str, Activation] = {}

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b)."""
        self.found[name] = activation
        return super().linear(name, x, activation)


def program_ahead(ops: AnalogOps, model: TextModel, workers: int) -> None:
    """Program the layers that the store of `ops` does not keep yet, each in one of `workers`.

    Which process programs a layer does not change a bit of it.

    Raises
    ------
    SimulationError
        A process was killed.
    """
    store = ops.store
    assert store is not None
    asked = Layers(model.tensors)
    model.forward(np.zeros((1, 1), np.int64), asked)
    missing: list[Task] = [
        (name, activation, *ops.parts(name))
        for name, activation in asked.found.items()
        if not store.keeps(f"{name}.{activation}", ops.decisive(name))
    ]
    if not missing:
        return
    # The longest first: one that begins last keeps a single process busy, and the others wait.
    missing.sort(key=lambda task: task[2][f"{task[0]}.weight"].size, reverse=True)
    done = in_processes(
        _program, missing, min(workers, len(missing)), _begin, ops.hardware, ops.chip, store
    )
    for _ in tqdm(done, "programming", len(missing), unit="layer", disable=None):
        pass


def _begin(hardware: Hardware, chip: Chip, store: ChipStore) -> None:
    """Keep what all layers of a chip have in common in this process."""
    _here.update(hardware=hardware, chip=chip, store=store, limit=threadpool_limits(1))


def _program(task: Task) -> None:
    """Program one layer and keep it."""
    name, activation, tensors, ranges = task
    ops = AnalogOps(tensors, ranges, _here["hardware"], _here["chip"])
    ops.store = _here["store"]
    ops.layer(name, activation)

"""Layers of a text model programmed ahead by several processes, into the folder of kept chips."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from system.chip_store import ChipStore
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.models.language import TextModel
from system.models.ops import Activation, Array, FloatOps

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
    """
    store = ops.store
    assert store is not None
    asked = Layers(model.tensors)
    model.forward(np.zeros((1, 1), np.int64), asked)
    missing = [
        (name, activation)
        for name, activation in asked.found.items()
        if not store.keeps(f"{name}.{activation}", ops.decisive(name))
    ]
    if not missing:
        return
    pool = ProcessPoolExecutor(
        min(workers, len(missing)),
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(ops.hardware, ops.chip, store),
    )
    with pool:
        jobs = [
            pool.submit(_program, name, activation, *ops.parts(name))
            for name, activation in missing
        ]
        bar = tqdm(as_completed(jobs), "programming", len(jobs), unit="layer", disable=None)
        try:
            for job in bar:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(hardware: Hardware, chip: Chip, store: ChipStore) -> None:
    """Set a worker up: one thread."""
    numba.set_num_threads(1)
    _here.update(hardware=hardware, chip=chip, store=store, limit=threadpool_limits(1))


def _program(
    name: str, activation: Activation, tensors: dict[str, Array], ranges: dict[str, Any]
) -> None:
    """Program one layer and keep it."""
    ops = AnalogOps(tensors, ranges, _here["hardware"], _here["chip"])
    ops.store = _here["store"]
    ops.layer(name, activation)

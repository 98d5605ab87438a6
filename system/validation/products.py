"""Log and exp units of data-dependent products against ngspice, at levels that an inference had."""

from __future__ import annotations

from typing import Any

import numpy as np

from behavioral.acam import AcamUnit
from system.hardware import Hardware
from system.product_levels import ceilings, converted_levels
from system.validation.replay import CodeErrors, search_codes
from system.validation.sampling import (
    POOL,
    Conversions,
    Index,
    RecordingOps,
    Sampling,
    edge_distance,
    spread,
    strata,
)

KINDS = ("log", "exp")


def replay_products(
    ops: RecordingOps, name: str, sampling: Sampling, rng: np.random.Generator, **run_options: Any
) -> list[CodeErrors]:
    """Compare codes of the log and exp units of a block with ngspice.

    Units convert DAC levels: these are drawn from equal parts of what the recorded operands ask
    for, ordered by level; columns are drawn at random.

    Parameters
    ----------
    ops : of the recorded inference.
    sampling : its searches are shared among log and exp units and their copies.
    **run_options
        As `circuits.plan.run`.
    """
    found, units, levels = [], units_of(ops, name), recorded_levels(ops, name)
    if len(units) > sampling.searches:
        units = [units[k] for k in np.sort(spread(np.arange(len(units)), sampling.searches, rng))]
    for k, (kind, copy, unit) in enumerate(units):
        count = (sampling.searches + k) // len(units)
        pool = rng.choice(levels[kind], size=min(POOL, len(levels[kind])), replace=False)
        chosen = strata(np.sort(pool), count, rng)
        columns = rng.integers(unit.columns, size=len(chosen))
        found.append(compare(ops.hardware, unit, columns, chosen, kind, copy, **run_options))
    return found


def units_of(ops: RecordingOps, name: str) -> list[tuple[str, int, AcamUnit]]:
    """Return kind, number among the copies, and ACAM units of a block."""
    units, logs = ops.product_units[name], ops.hardware.mapping.of(name).log_copies
    numbers = [("log", k) for k in range(logs)] + [("exp", k) for k in range(len(units) - logs)]
    return [(kind, copy, unit) for (kind, copy), unit in zip(numbers, units, strict=True)]


def recorded_levels(ops: RecordingOps, name: str) -> dict[str, Index]:
    """Return the DAC levels that the recorded operands of a block ask of each kind of unit.

    A magnitude of 0 is recognised digitally: no log unit converts it.
    """
    operands, model = ops.operands[name], ops.product_model(name)
    margin = ops.hardware.mapping.of(name).output_margin
    tops = ceilings(ops.ranges, name, operands, margin)
    last = ops.product_units[name][-1].table.shape[1] - 1
    logs, exps = converted_levels(operands, tops, model, last)
    logs = logs[logs < 2**model.in_bits - 1]
    return {"log": logs.astype(np.int64), "exp": exps.astype(np.int64)}


def compare(
    hardware: Hardware, unit: AcamUnit, columns: Index, levels: Index, kind: str, copy: int,
    **run_options: Any,
) -> CodeErrors:  # fmt: skip
    """Compare codes of a unit at DAC levels (n,) of columns (n,) with ngspice."""
    u = (levels / (unit.table.shape[1] - 1)).astype(np.float32)
    ours = unit.table[columns if len(unit.table) > 1 else 0, levels].astype(np.int64)
    wide = np.repeat(u[:, None], unit.columns, axis=1)
    searched = hardware.acam.search(unit, wide)[np.arange(len(u)), columns].astype(np.int64)
    spice = search_codes(hardware, unit, columns, u, **run_options)
    far = np.zeros(len(u), np.bool_)
    kinds = np.repeat("natural", len(u))
    distance = edge_distance(unit, u, columns)
    chosen = Conversions(levels, columns, u, distance, kinds, far, 0.0)
    return CodeErrors(None, chosen, ours, searched, spice, copy=copy, unit=kind)

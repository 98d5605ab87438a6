"""Closes the loop: replays what an inference did in ngspice, column by column, search by search.

The stimuli are recorded during a noisy inference; the conductances are the very ones that were
programmed. Columns run at transistor level with wires and transimpedance stage, ACAM searches as
transients of every row of the unit.
"""

from __future__ import annotations

from concurrent.futures import Executor

from tqdm import tqdm

from behavioral.library import Library
from circuits.plan import simulator_version
from system.hardware import Chip
from system.networks import Network
from system.validation.agreement import LayerReport, to_dict, to_table
from system.validation.point import unknown_layer
from system.validation.products import replay_products
from system.validation.replay import replay_columns, replay_searches
from system.validation.sampling import Sampling, layer_generator, record

__all__ = ["LayerReport", "Sampling", "to_dict", "to_table", "validate"]


def validate(
    network: Network,
    library: Library,
    *,
    samples: int,
    seed: int = 0,
    layers: list[str] | None = None,
    sampling: Sampling | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> list[LayerReport]:
    """Replay a stratified sample of one chip's inference in ngspice.

    Parameters
    ----------
    network : Network
    library : Library
    samples : inputs of the recorded inference.
    seed : of the chip and of the choice of tiles, columns and stimuli.
    layers : names of layers and blocks of products to replay; default: all.
    sampling : Sampling
        How many tiles, columns, stimuli and searches of each layer.
    workers, executor : ngspice processes, or those of a cluster, as in `circuits.plan.run`.

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
    sampling = sampling or Sampling()
    ops = record(network, library, samples, Chip(seed, 0, "frozen"), layers)
    known = [*ops.layers, *ops.operands]
    unknown = [n for n in layers or [] if n not in known]
    if unknown:
        raise unknown_layer(network, unknown[0], known)
    names = [n for n in (*ops.inputs, *ops.operands) if layers is None or n in layers]
    reports: list[LayerReport] = []
    for name in tqdm(names, desc="replay in ngspice", unit="layer", disable=None):
        rng = layer_generator(name, seed)
        if name in ops.operands:
            codes = replay_products(ops, name, sampling, rng, workers=workers, executor=executor)
            reports.append(LayerReport(name, [], codes))
            continue
        layer, x = ops.recorded(name), ops.inputs[name]
        columns = replay_columns(layer, x, sampling, rng, workers=workers, executor=executor)
        codes = replay_searches(layer, x, sampling, rng, workers=workers, executor=executor)
        reports.append(LayerReport(name, columns, codes))
    return reports

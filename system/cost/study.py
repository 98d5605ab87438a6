"""The whole study of one network: our chip and the baselines, on every workload of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from behavioral.library import Library
from circuits import unit_energy
from circuits.errors import NldpeError, ParameterError
from circuits.row_driver import PulseData
from circuits.unit_energy import UnitEnergy
from system.cost.baselines import baselines, gpu_roofline
from system.cost.chip import Chip
from system.cost.components import Components
from system.cost.driver import MeasuredDriver, measured_driver
from system.cost.measure import Figures, StimulusOps, measure
from system.cost.model import Cost, NlDpe
from system.cost.workload import Workload, classifier, lenet, llama, shaped
from system.models.lenet import Lenet
from system.models.llama import Llama
from system.networks import load_network
from system.pieces import Pieces

REFERENCE = "llama-austen"


@dataclass(frozen=True)
class Study:
    """What `nldpe cost` found.

    Attributes
    ----------
    model : name of the network.
    sequence : tokens of the context, 0 for images.
    machine : our chip with its SPICE figures.
    workloads : one image; or a token at the end of the context, and the whole prompt.
    ours : cost of each workload.
    others : costs of the ADC baselines for each workload.
    gpu : roofline of each workload, as in `gpu_roofline`.
    unit_missing : why the circuits around the ACAM's cells are not counted; empty where they are.
    driver_missing : why a DAC of the table stands for the chosen row driver; empty where none does.
    """

    model: str
    sequence: int
    machine: NlDpe
    workloads: tuple[Workload, ...]
    ours: tuple[Cost, ...]
    others: tuple[tuple[Cost, ...], ...]
    gpu: tuple[Mapping[str, float], ...]
    unit_missing: str = ""
    driver_missing: str = ""

    @property
    def figures(self) -> Figures:
        """SPICE figures that the study rests on."""
        return self.machine.figures


def estimate(
    model: str,
    library: Library,
    components: Components,
    *,
    batch: int = 1,
    sequence: int = 256,
    replicate: int = 1,
    seed: int = 0,
    data: str | None = None,
    overrides: dict[str, Any] | None = None,
    reference: str = REFERENCE,
    pieces: Pieces | None = None,
) -> Study:
    """Measure a network's figures and cost it on all machines.

    Parameters
    ----------
    model : a network as `load_network` knows it, or a model known by its shapes alone.
    batch : inferences, or sequences, that follow each other through the pipeline.
    sequence : tokens of the context (language models).
    replicate : copies of the layer that multiplies most vectors.
    reference : network whose conductances and activations stand in for those of a shaped model.
    pieces : keeps the figures of every layer until the run is whole.

    Raises
    ------
    ParameterError
        The sequence does not fit the model's context.
    """
    shapes = shaped()
    known = model in shapes
    network = load_network(
        reference if known else model,
        tile_rows=library.technology.column.rows,
        data=data,
        overrides=overrides,
    )
    config = shapes.get(model)
    if config is None and isinstance(network.model, Llama):
        config = network.model.config
    if config is not None:
        _check_sequence(model, sequence, config.max_position_embeddings)
    unit, missing = whole_unit(library)
    driver, no_driver = measured_driver(library)
    figures, ops = measure(
        network, library, unit, seed=seed, pieces=pieces,
        pulses=driver is not None and isinstance(driver.data, PulseData),
    )  # fmt: skip
    if config is not None:
        word = components["vector_unit"]["word_bits"]
        workloads = tuple(llama(config, w, sequence, word) for w in ("token", "prompt"))
    elif isinstance(network.model, Lenet):
        workloads = (lenet(),)
    else:
        workloads = (_recorded(ops),)
    return assemble(
        model, library, components, figures, workloads,
        batch=batch, replicate=replicate, reference=known, sequence=sequence if config else 0,
        unit_missing=missing, driver=driver, driver_missing=no_driver,
    )  # fmt: skip


def whole_unit(library: Library) -> tuple[UnitEnergy | None, str]:
    """Measure what works around the cells of the library's ACAM unit, or say why that cannot be."""
    try:
        return unit_energy.measure(library.device, library.technology, progress="ACAM unit"), ""
    except NldpeError as error:
        return None, str(error)


def assemble(
    model: str,
    library: Library,
    components: Components,
    figures: Figures,
    workloads: tuple[Workload, ...],
    *,
    batch: int = 1,
    replicate: int = 1,
    reference: bool = False,
    sequence: int = 0,
    unit_missing: str = "",
    driver: MeasuredDriver | None = None,
    driver_missing: str = "",
) -> Study:
    """Cost workloads on all machines, from figures that were measured before."""
    chip = Chip.from_components(components, library, figures.mapping, driver)
    machine = NlDpe(chip, library, figures, reference)
    return Study(
        model,
        sequence,
        machine,
        workloads,
        tuple(machine.cost(w, batch, replicate) for w in workloads),
        tuple(tuple(b.cost(w, batch) for b in baselines(components)) for w in workloads),
        tuple(gpu_roofline(components, w, batch) for w in workloads),
        unit_missing,
        driver_missing,
    )


def _check_sequence(model: str, sequence: int, longest: int) -> None:
    if sequence > longest:
        raise ParameterError(
            f"--sequence {sequence} is longer than the context of {model}; permitted: 1 to "
            f"{longest}"
        )


def _recorded(ops: StimulusOps) -> Workload:
    """Return the workload of one image, or text, of a network without an entry of its own."""
    sizes = {name: (weight.shape[0], weight.shape[1]) for name, (weight, _) in ops.weights.items()}
    return classifier(
        sizes, ops.activations, ops.vectors, ops.products, ops.images,
        seen_inputs=ops.seen_inputs, attentions=ops.attentions,
    )  # fmt: skip

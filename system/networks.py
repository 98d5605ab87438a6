"""The networks `nldpe` knows by name, and how each is loaded, calibrated and scored."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError, DataError, ParameterError
from system import datasets, evaluation
from system.calibration import Ranges, calibrate
from system.checkpoint import Checkpoint, load_checkpoint
from system.models.lenet import Lenet
from system.models.llama import Llama
from system.models.ops import Ops
from system.quantization import Mapping

log = logging.getLogger(__name__)

CALIBRATION_IMAGES = 512
CALIBRATION_WINDOWS = 12


def shipped() -> dict[str, Path]:
    """Return the checkpoints inside the package, by name."""
    folder = Path(str(files("system"))) / "checkpoints"
    return {p.parent.name: p.parent for p in sorted(folder.glob("*/config.json"))}


@dataclass(frozen=True)
class Network:
    """A model with everything the analog modes need.

    Attributes
    ----------
    name : str
    model : Lenet or Llama
    checkpoint : Checkpoint
    mapping : Mapping
    ranges : Ranges
    data : path of the user's own data, or None for the shipped source
    """

    name: str
    model: Lenet | Llama
    checkpoint: Checkpoint
    mapping: Mapping
    ranges: Ranges
    data: Path | None = None

    @property
    def metric(self) -> str:
        """Return "accuracy" or "perplexity"."""
        return "accuracy" if isinstance(self.model, Lenet) else "perplexity"

    def samples(self, count: int) -> Samples:
        """Return `count` held-out samples, spread evenly over the test set."""
        if isinstance(self.model, Lenet):
            mnist = datasets.mnist(self.data)
            if not len(mnist.test_images):
                raise DataError(f"{self.data}: the test set is empty")
            chosen = np.linspace(0, len(mnist.test_images) - 1, count).astype(np.int64)
            chosen = np.unique(chosen)
            return Samples(mnist.test_images[chosen], mnist.test_labels[chosen])
        tokens = self.encode(datasets.austen(self.data).valid)
        return Samples(evaluation.text_windows(tokens, count), None)

    def score(self, ops: Ops, samples: Samples, label: str = "infer") -> float:
        """Return the accuracy or the perplexity on samples."""
        if isinstance(self.model, Lenet):
            assert samples.labels is not None
            return evaluation.accuracy(self.model, ops, samples.inputs, samples.labels, label)
        return evaluation.perplexity(self.model, ops, samples.inputs, label)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of a text."""
        if self.checkpoint.tokenizer is None:
            raise CheckpointError(f"{self.name} has no tokenizer.json; add one to its directory")
        ids = self.checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        return np.array(ids, np.int64)

    def decode(self, tokens: NDArray[np.int64] | list[int]) -> str:
        """Return the text of token ids."""
        if self.checkpoint.tokenizer is None:
            raise CheckpointError(f"{self.name} has no tokenizer.json; add one to its directory")
        return str(self.checkpoint.tokenizer.decode(list(tokens)))


@dataclass(frozen=True)
class Samples:
    """Test inputs: images with labels, or windows of tokens."""

    inputs: NDArray[Any]
    labels: NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.inputs)


def load_network(
    name: str,
    *,
    tile_rows: int | None,
    data: str | Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> Network:
    """Load a shipped network by name, or a checkpoint directory or GGUF file by path.

    Parameters
    ----------
    name : "lenet-mnist", "smollm2-135m", ... or a path.
    tile_rows : rows of a crossbar column; None: float arithmetic only, nothing is calibrated.
    data : the user's own data set in its standard format.
    overrides : fields of `Mapping` that replace the checkpoint's; the ranges are measured anew.

    Raises
    ------
    CheckpointError
        No such network, or a damaged checkpoint.
    ParameterError
        A choice of the mapping is unknown or of the wrong type.
    """
    place = Path(data) if data is not None else None
    checkpoint = _find(name)
    stated = checkpoint.config.get("mapping", {})
    if not isinstance(stated, dict):
        raise CheckpointError(f"{name}: mapping of config.json is {stated!r}, wanted an object")
    mapping = Mapping.from_dict(
        _checked_types({**_default_mapping(checkpoint), **stated, **(overrides or {})})
    )
    network = Network(name, checkpoint.build(), checkpoint, mapping, dict(checkpoint.analog), place)
    if tile_rows is None:
        return network
    if network.ranges and not overrides and checkpoint.config.get("tile_rows") == tile_rows:
        return network
    log.info("Measuring the ranges of the codes of %s on training data.", name)
    return replace(network, ranges=measure_ranges(network, tile_rows))


def _checked_types(values: dict[str, Any]) -> dict[str, Any]:
    """Return the choices of a mapping; each has the type of its default."""
    defaults = Mapping().to_dict()
    for key, value in values.items():
        wanted = type(defaults.get(key, value))
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            raise ParameterError(
                f"mapping.{key} is {value!r}; wanted a value like {defaults[key]!r}"
            )
    return values


def _find(name: str) -> Checkpoint:
    if name in shipped():
        return load_checkpoint(shipped()[name])
    if name == "smollm2-135m":
        return load_checkpoint(datasets.smollm2())
    if Path(name).exists():
        return load_checkpoint(name)
    known = [*shipped(), "smollm2-135m"]
    near = difflib.get_close_matches(name, known) or known
    raise CheckpointError(f"no network and no path is called {name!r}; nearest: {', '.join(near)}")


def _default_mapping(checkpoint: Checkpoint) -> dict[str, Any]:
    """Language models have outlying channels and tokens: choices that keep 8 bits useful.

    A checkpoint that states its mapping keeps it as stated.
    """
    if checkpoint.config["model_type"] == "lenet" or "mapping" in checkpoint.config:
        return {}
    return {
        "weight_scale": "column",
        "output_range": "column",
        "smoothing": 0.65,
        "input_blocks": True,
        "block_norm": 0.5,
        "output_margin": 0.25,
        "output_lift": 1.5,
    }


def measure_ranges(network: Network, tile_rows: int) -> Ranges:
    """Measure the ranges of a network's codes in float, on training data of its task."""
    model = network.model
    forward: Callable[[Ops], object]
    if isinstance(model, Lenet):
        images = datasets.mnist(network.data).train_images[:CALIBRATION_IMAGES]

        def forward(ops: Ops) -> object:
            return model.forward(images, ops)
    else:
        text = datasets.austen(network.data).train
        tokens = network.encode(text[: 40_000 * CALIBRATION_WINDOWS])
        windows = evaluation.text_windows(tokens, CALIBRATION_WINDOWS)

        def forward(ops: Ops) -> object:
            return [model.forward(w[None, :-1], ops) for w in windows]

    return calibrate(model.tensors, forward, network.mapping, tile_rows)

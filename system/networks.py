"""The networks `nldpe` knows by name, and how each is loaded, calibrated and scored."""

from __future__ import annotations

import difflib
import fnmatch
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError, ParameterError
from system import evaluation
from system.calibration import RANGE_CHOICES, TRIM_CHOICES, WINDOW_CHOICES, Ranges
from system.data import datasets, sentences, vision
from system.data.conversations import conversations
from system.measured_ranges import Calibration, trims
from system.models.bert import Bert
from system.models.classifier import KINDS, Classifier
from system.models.language import LanguageModel, TextModel
from system.models.ops import FloatOps, Ops
from system.quantization import Mapping
from system.tokenizer import encode_texts
from system.weights import zoo
from system.weights.acam_windows import is_windows
from system.weights.adapter import is_adapter, load_adapter, merge
from system.weights.checkpoint import Checkpoint, load_checkpoint

log = logging.getLogger(__name__)

CALIBRATION_WINDOWS = 24
CALIBRATION_DAY = datetime(2024, 7, 26)  # of templates that state a date: ranges must not move
EXCERPT = 4000  # characters of a long text that are read for a window; English takes 1,100
DEVELOPMENT_SHARE = 10  # one part in so many, the last, of a training text: for choosing settings


def shipped_folder() -> Path:
    """Return the folder of the checkpoints inside the package."""
    return Path(str(files("system"))) / "checkpoints"


def shipped() -> dict[str, Path]:
    """Return the checkpoints inside the package, by name."""
    return {p.parent.name: p.parent for p in sorted(shipped_folder().glob("*/config.json"))}


def known_names() -> list[str]:
    """Return the networks that have a name; all others are paths."""
    return [*shipped(), *zoo.NAMES, "smollm2-135m"]


@dataclass(frozen=True)
class Network:
    """A model with everything the analog modes need.

    Attributes
    ----------
    name : str
    model : Classifier or TextModel
    checkpoint : Checkpoint
    mapping : Mapping
    ranges : Ranges
    data : path of the user's own data, or None for the shipped source
    """

    name: str
    model: Classifier | TextModel
    checkpoint: Checkpoint
    mapping: Mapping
    ranges: Ranges
    data: Path | None = None

    @property
    def metric(self) -> str:
        """Return "perplexity", "accuracy", or how near the network is to its own float32.

        That is "agreement" of decisions, or "similarity" (mean cosine) of an encoder's vectors.
        """
        if isinstance(self.model, LanguageModel):
            return "perplexity"
        if isinstance(self.model, Bert) and not self.model.config.classes:
            return "similarity"
        source = sentences if isinstance(self.model, Bert) else vision
        return "accuracy" if source.is_labelled(self.checkpoint.config, self.data) else "agreement"

    def samples(self, count: int) -> Samples:
        """Return `count` held-out samples, spread evenly over the test set."""
        if isinstance(self.model, LanguageModel):
            return Samples(evaluation.text_windows(self._held_out_tokens, count), None)
        if isinstance(self.model, Bert):
            texts = sentences.held_out_set(self.data)
            return self._labelled(self.encode_texts(texts.texts), texts.labels, count)
        images = vision.test_images(self.checkpoint.config, self.data)
        return self._labelled(images.pixels, images.labels, count)

    @cached_property
    def _held_out_tokens(self) -> NDArray[np.int64]:
        """Half a second's work for a novel."""
        return self.encode(datasets.austen(self.data).valid)

    def _labelled(self, inputs: NDArray[Any], labels: NDArray[Any], count: int) -> Samples:
        """Return `count` of the inputs with labels, or with what the network's own float32 says."""
        assert not isinstance(self.model, LanguageModel)
        chosen = np.unique(np.linspace(0, len(labels) - 1, count).astype(np.int64))
        inputs, labels = inputs[chosen], labels[chosen]
        if self.metric == "accuracy":
            return Samples(inputs, labels)
        ops = FloatOps(self.model.tensors)
        own = evaluation.outputs(self.model, ops, inputs, f"{self.name} float")
        if self.metric == "similarity":
            return Samples(inputs, own)
        decisions = own.argmax(axis=1)
        right = int(np.sum(decisions == labels))
        log.info("%s in float32 is right on %d of %d inputs.", self.name, right, len(decisions))
        return Samples(inputs, decisions)

    def calibration_inputs(self) -> NDArray[Any]:
        """Return the training inputs on which ranges are measured: images, texts or windows."""
        if isinstance(self.model, Bert):
            return self.encode_texts(sentences.calibration_set(self.data))
        if not isinstance(self.model, LanguageModel):
            return vision.calibration_images(self.checkpoint.config, self.data)
        parts = excerpts(self._training_text()[0], CALIBRATION_WINDOWS, EXCERPT)
        count = CALIBRATION_WINDOWS // len(parts)
        found = [evaluation.text_windows(self.encode(part), count) for part in parts]
        return np.concatenate([*found, self.conversations()[:CALIBRATION_WINDOWS]])

    def conversations(self) -> NDArray[np.int64]:
        """Return conversations (n, a window) in the network's template, -1 beyond their ends.

        A network whose template is missing or unusable has none.
        """
        from system.chat_template import ChatTemplate, Message

        found = np.full((len(conversations()), evaluation.WINDOW + 1), -1)
        if self.checkpoint.chat_template is None:
            return found[:0]
        try:
            template = ChatTemplate.of(self.checkpoint, today=CALIBRATION_DAY)
            for window, said in zip(found, conversations(), strict=True):
                messages = [
                    Message("assistant" if k % 2 else "user", text) for k, text in enumerate(said)
                ]
                tokens = self.encode(template.render(messages, answer=False))
                window[: len(tokens)] = tokens[: window.size]
        except (CheckpointError, ParameterError) as problem:
            log.warning("%s; ranges are measured on text alone.", problem)
            return found[:0]
        return found

    def development_samples(self, count: int) -> Samples:
        """Return samples for choosing settings: neither calibrated on nor scored at the end.

        Raises
        ------
        ParameterError
            The network is for images.
        """
        if isinstance(self.model, Bert):
            texts = sentences.development_set(self.data)
            return self._labelled(self.encode_texts(texts.texts), texts.labels, count)
        if not isinstance(self.model, LanguageModel):
            raise ParameterError(f"{self.name} has no development text; it is for images")
        tokens = self.encode(self._training_text()[1])
        return Samples(evaluation.text_windows(tokens, count), None)

    def training_tokens(self) -> NDArray[np.int64]:
        """Return the tokens of the training text, but for the part on which settings are chosen."""
        return self.encode(self._training_text()[0])

    def _training_text(self) -> tuple[str, str]:
        """Return the part for calibration and the part for choosing settings."""
        text = datasets.austen(self.data).train
        cut = len(text) - len(text) // DEVELOPMENT_SHARE
        return text[:cut], text[cut:]

    def score(self, ops: Ops, samples: Samples, label: str = "infer") -> float:
        """Return the network's metric on samples."""
        if isinstance(self.model, LanguageModel):
            return evaluation.perplexity(self.model, ops, samples.inputs, label)
        assert samples.labels is not None
        if self.metric == "similarity":
            found = evaluation.outputs(self.model, ops, samples.inputs, label)
            return evaluation.similarity(found, samples.labels)
        return evaluation.accuracy(self.model, ops, samples.inputs, samples.labels, label)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of a text."""
        if self.checkpoint.tokenizer is None:
            raise CheckpointError(f"{self.name} has no tokenizer.json; add one to its directory")
        ids = self.checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        return np.array(ids, np.int64)

    def encode_texts(self, texts: list[str]) -> NDArray[np.int64]:
        """Return the tokens of texts, begin and end marked: (n, longest), -1 beyond each end."""
        tokenizer = self.checkpoint.tokenizer
        if tokenizer is None or not isinstance(self.model, Bert):
            raise CheckpointError(f"{self.name} has no tokenizer.json; add one to its directory")
        return encode_texts(tokenizer, texts, self.model.config.max_position_embeddings)

    def decode(self, tokens: NDArray[np.int64] | list[int]) -> str:
        """Return the text of token ids."""
        if self.checkpoint.tokenizer is None:
            raise CheckpointError(f"{self.name} has no tokenizer.json; add one to its directory")
        return str(self.checkpoint.tokenizer.decode(list(tokens)))


def excerpts(text: str, count: int, length: int) -> list[str]:
    """Return so many parts of a text, spread evenly over it; all of a text that is not longer."""
    if len(text) <= count * length:
        return [text]
    starts = np.linspace(0, len(text) - length, count).astype(np.int64)
    return [text[start : start + length] for start in starts.tolist()]


@dataclass(frozen=True)
class Samples:
    """Test inputs: images or texts with classes or vectors wanted, or windows of tokens."""

    inputs: NDArray[Any]
    labels: NDArray[Any] | None

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
        A choice of the mapping is unknown or of the wrong type, or is for layers that do not exist.
    """
    place = Path(data) if data is not None else None
    checkpoint = _find(name)
    stated = checkpoint.config.get("mapping", {})
    if not isinstance(stated, dict):
        raise CheckpointError(f"{name}: mapping of config.json is {stated!r}, wanted an object")
    kept = Mapping.from_dict({**_default_mapping(checkpoint), **stated})
    mapping = kept.changed(overrides or {})
    network = Network(name, checkpoint.build(), checkpoint, mapping, dict(checkpoint.analog), place)
    if tile_rows is None:
        return network
    windows = {key: rows for key, rows in network.ranges.items() if is_windows(key)}
    if not is_measured(checkpoint, tile_rows) or not _same(kept, mapping, RANGE_CHOICES):
        calibration = Calibration(network, tile_rows)
        network = replace(network, ranges=calibration.ranges() | windows)
        fits = windows and checkpoint.windows.get("ranges") == calibration.key
    else:
        fits = windows
    tuned_for = checkpoint.windows.get("mapping", kept.to_dict())
    if not fits or not _same(Mapping.from_dict(tuned_for), mapping, WINDOW_CHOICES):
        network = _untuned(network)
    kept_rows = any(key.endswith(".trim") for key in network.ranges)
    if trims(mapping) and not (kept_rows and _same(kept, mapping, TRIM_CHOICES)):
        found = Calibration(network, tile_rows).ranges()
        rows = {key: value for key, value in found.items() if key.endswith(".trim")}
        network = replace(network, ranges=network.ranges | rows)
    _check_patterns(network)
    return network


def is_measured(checkpoint: Checkpoint, tile_rows: int) -> bool:
    """Return whether a checkpoint holds ranges for tiles of so many rows."""
    holds = not all(map(is_windows, checkpoint.analog))
    return holds and checkpoint.config.get("tile_rows") == tile_rows


def _same(one: Mapping, other: Mapping, choices: tuple[str, ...]) -> bool:
    return one.chosen(choices) == other.chosen(choices)


def _check_patterns(network: Network) -> None:
    """Refuse a pattern of the mapping that fits no layer: it would change nothing."""
    names = sorted({key.rpartition(".")[0] for key in network.ranges})
    for pattern in network.mapping.layers:
        if pattern not in names and not fnmatch.filter(names, pattern):
            near = difflib.get_close_matches(pattern, names, cutoff=0.3) or names[:3]
            raise ParameterError(
                f"no layer of {network.name} is called {pattern!r}; nearest: {', '.join(near)}"
            )


def _untuned(network: Network) -> Network:
    """Return a network without the windows of acam.h5: its mapping is not the one they fit."""
    ranges = {key: value for key, value in network.ranges.items() if not is_windows(key)}
    if network.checkpoint.windows.get("step", "exact") != "exact":  # exact ones are placed anew
        log.warning(
            "%s: the windows of acam.h5 fit another mapping or other ranges; not used.",
            network.name,
        )  # fmt: skip
    return replace(network, ranges=ranges)


def _find(name: str) -> Checkpoint:
    if name in zoo.NAMES:
        return zoo.load(name)
    if name == "smollm2-135m":
        return load_checkpoint(datasets.smollm2())
    place = shipped().get(name, Path(name))
    if is_adapter(place):
        return merge(_find(str(load_adapter(place)[0]["base"])), place)
    if place.exists():
        return load_checkpoint(place)
    near = difflib.get_close_matches(name, known_names()) or known_names()
    raise CheckpointError(f"no network and no path is called {name!r}; nearest: {', '.join(near)}")


def _default_mapping(checkpoint: Checkpoint) -> dict[str, Any]:
    """Networks not trained for this have outlying channels: choices that keep 8 bits useful.

    A checkpoint that states its mapping keeps it as stated.
    """
    kind = checkpoint.config["model_type"]
    if kind == "lenet" or "mapping" in checkpoint.config:
        return {}
    if kind in KINDS:  # chosen on images that calibrate: docs/cnn.md
        return {"weight_scale": "column", "line_start": 0.4}
    language = {
        "weight_scale": "column",
        "output_range": "column",
        "weight_headroom": 0.2,
        "smoothing": 0.9 if kind == "bert" else 0.65,  # docs/language-models.md
        "input_blocks": True,
        "block_norm": 0.5,
        "output_margin": 0.5,
        "ground_trim": True,
        "line_start": 0.4,
        "output_fine": 2.5,
        "output_copies": 2,
        "product_copies": 2,
    }
    if kind == "bert":  # one channel answers a single token of a sentence: docs/language-models.md
        return language | {"layers": {"*[0-9].output.dense": {"output_copies": 8}}}
    if kind != "llama":
        return language
    products = {"input_bits": 10, "product_finer": 4}
    return language | {  # chosen on development text: docs/language-models.md
        "weight_bits": 10,
        "output_copies": 4,
        "product_copies": 4,
        "layers": {
            "*.down_proj": {"input_bits": 10, "output_copies": 16},
            "lm_head": {"output_copies": 8},
            "*.self_attn": products | {"product_log_copies": 16},
            "*.mlp.product": products | {"product_copies": 16},
        },
    }

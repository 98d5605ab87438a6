"""A published encoder made a classifier of sentences: low-rank pairs in float, then on chips.

Every layer of the encoder gets a pair whose product is added to the published weight, and a
classifier stands on the mean of the token vectors; these alone are trained and stored. On chips
the classifier stays: a pair of the last layer can do what it could.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from circuits.errors import CheckpointError, ParameterError
from system import evaluation
from system.calibration import Ranges, calibrate
from system.data import sentences
from system.engine import AnalogOps
from system.hardware import Chip
from system.models.bert import Bert, BertConfig
from system.models.ops import Activation, Array
from system.networks import load_network
from system.quantization import as_options
from system.training import encoders, metrics, naf, networks, pretraining
from system.training.adapters import AdaptedOps, Pair, initial_pairs
from system.training.kept import KeptTraining
from system.training.networks import Parameters
from system.training.recipes import Plan
from system.weights.adapter import is_adapter, load_adapter, save_adapter

BASES = {"minilm-rt": "minilm-l6"}  # classifier -> the encoder it is made of
STEPS = {"float": 1195, "naf": 240}  # of 32 sentences: five epochs, one
RATES = {"float": 1e-3, "naf": 3e-4}
TARGETS = ("query", "key", "value", "dense")
RANK = 8
BATCH = 32
FORGOTTEN = 0.15  # share of tokens that are masked, as BERT was trained
REFRESH = 4  # steps that one chip serves: programming one takes three steps' time
HEAD = ("classifier.weight", "classifier.bias")


def finetune_classifier(model: str, steps: list[str], plan: Plan) -> list[Path]:
    """Train in float and on chips; returns the directories written.

    Interrupted, the same call goes on where the state was kept last, to the same bits.

    Raises
    ------
    ParameterError
        A step is neither float nor naf.
    CheckpointError
        Nothing to start from; a kept state of another training.
    """
    unknown = [s for s in steps if s not in STEPS]
    if unknown:
        raise ParameterError(f"{model} has no step {unknown[0]!r}; known: {', '.join(STEPS)}")
    training, written = _Training(model, plan), []
    if "float" in steps:
        written.append(training.pretrain())
    if "naf" in steps:
        start = (plan.out if written else plan.start or plan.out) / f"{model}-float"
        written.append(training.tune(start))
    for kept in training.states:  # not earlier: as in the pipeline
        kept.remove()
    return written


class PairedOps(networks.FloatOps):
    """Plain float32 arithmetic of weights and their pairs."""

    def __init__(self, pairs: dict[str, Pair]) -> None:
        self._pairs = pairs

    def linear(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation
    ) -> Tensor:
        """Return f(x (W + up down)^T + b)."""
        z = F.linear(x, weight, bias)
        if name in self._pairs:
            down, up = self._pairs[name]
            z = z + (x @ down.T) @ up.T
        return networks.ACTIVATIONS[activation](z)


class PairedChips(naf.ChipMaker):
    """Chips that serve many steps: what the pairs have changed since is added exactly.

    `weights` has the tensors that stay.
    """

    def __init__(self, weights: Parameters, parameters: Parameters, *others: Any) -> None:
        super().__init__(parameters, *others)
        self._weights = weights

    def _program(self, chip: Chip) -> AdaptedOps:
        tensors = merged(self._weights, self._programmed)
        analog = AnalogOps(tensors, self.ranges, self.hardware, chip)
        old = {name: torch.from_numpy(part) for name, part in self._programmed.items()}
        return AdaptedOps(analog, pairs_of(self._parameters), pairs_of(old))


def pairs_of(parameters: Parameters) -> dict[str, Pair]:
    """Return the pairs by layer of parameters NAME.down and NAME.up."""
    layers = [name.removesuffix(".up") for name in parameters if name.endswith(".up")]
    return {layer: (parameters[f"{layer}.down"], parameters[f"{layer}.up"]) for layer in layers}


def merged(weights: Parameters, parts: dict[str, Array]) -> dict[str, Array]:
    """Return the weights with pairs added, and whole tensors in their place."""
    tensors = {name: w.detach().numpy() for name, w in weights.items()}
    for name, part in parts.items():
        layer, _, side = name.rpartition(".")
        if side == "up":
            key = f"{layer}.weight"
            tensors[key] = tensors[key] + part @ parts[f"{layer}.down"]
        elif side != "down":
            tensors[name] = part
    return tensors


class _Training:
    """The steps of one classifier; `states` are those kept on the way."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.name, self.plan = name, plan
        self.states: list[KeptTraining] = []
        self._base = load_network(BASES[name], tile_rows=None, data=plan.data)
        self._mapping = self._base.mapping.changed(plan.mapping)
        config = {"classes": 2, "dataset": sentences.NAME, "pooling": "mean"}
        self._config = {
            **config, "model_type": "bert", "base": BASES[name], "adapter": {"rank": RANK},
            "mapping": self._mapping.to_dict(),
        }  # fmt: skip
        self._shape = BertConfig.from_dict(self._base.checkpoint.config | config)
        self._weights = {k: torch.from_numpy(v) for k, v in self._base.model.tensors.items()}
        train = sentences.train_set(plan.data)
        train = train[: len(train) - len(sentences.development_set(plan.data))]
        self._tokens, self._labels = self._base.encode_texts(train.texts), train.labels

    def pretrain(self) -> Path:
        """Train pairs and classifier in exact arithmetic, from nothing."""
        shapes = self._shape.shapes()
        pairs = initial_pairs(self._base, RANK, self.plan.seed, TARGETS)
        head = {key: torch.zeros(shapes[key]).requires_grad_() for key in HEAD}
        parameters = _flat(pairs) | head
        ops, weights = PairedOps(pairs), self._weights | head
        batch = self._batches(self.plan.seed)

        def loss_of_step(step: int) -> Tensor:
            texts, wanted = batch(step)
            return F.cross_entropy(encoders.forward(self._shape, ops, weights, texts), wanted)

        kept, count = self._kept("float", {})
        pretraining.optimize(
            parameters, loss_of_step, steps=count, rate=RATES["float"], label="float", kept=kept
        )
        return self._write("float", parameters, kept)

    def tune(self, start: Path) -> Path:
        """Fine-tune the pairs on chips; the float start is the teacher."""
        parts = self._start(start)
        whole = {key: torch.from_numpy(parts.pop(key)) for key in HEAD}
        parameters = {k: torch.from_numpy(v.copy()).requires_grad_() for k, v in parts.items()}
        weights = self._weights | whole
        teacher = {k: torch.from_numpy(v) for k, v in merged(weights, parts).items()}
        batch, exact = self._batches(self.plan.seed + 1), networks.FloatOps()
        kept, count = self._kept("naf", parts)
        maker = PairedChips(
            weights, parameters, lambda tensors: self._measure(merged(weights, tensors)),
            self.plan.library, self._mapping, self.plan.seed, REFRESH,
        )  # fmt: skip

        def loss_of_step(step: int) -> Tensor:
            texts, wanted = batch(step)
            logits = encoders.forward(self._shape, maker.chip(step), weights, texts)
            with torch.no_grad():
                target = encoders.forward(self._shape, exact, teacher, texts)
            return 0.5 * F.cross_entropy(logits, wanted) + 0.5 * naf.distillation(logits, target)

        pretraining.optimize(
            parameters, loss_of_step, steps=count, rate=RATES["naf"], label="naf", kept=kept,
            companion=maker,
        )  # fmt: skip
        return self._write("naf", parameters | whole, kept)

    def _batches(self, seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        tokenizer = self._base.checkpoint.tokenizer
        mask = None if tokenizer is None else tokenizer.token_to_id("[MASK]")
        assert mask is not None  # every BERT has been trained with it
        return encoders.batches(
            self._tokens, self._labels, seed, size=BATCH, forgotten=FORGOTTEN, unknown=mask,
            alike=True,
        )  # fmt: skip

    def _measure(self, tensors: dict[str, Array]) -> Ranges:
        """Return the ranges of weights, measured as when they are loaded."""
        model = Bert(self._shape, tensors)
        texts = self._tokens[: sentences.CALIBRATION_SENTENCES]
        rows = self.plan.library.technology.column.rows
        return calibrate(
            tensors, lambda ops: evaluation.outputs(model, ops, texts), self._mapping, rows
        )

    def _start(self, place: Path) -> dict[str, Array]:
        """Return the parameters of a checkpoint, NAME.down, NAME.up and the classifier's."""
        if not is_adapter(place):
            raise CheckpointError(
                f"{place} holds no adapter; make it first: nldpe finetune {self.name} --steps "
                "float; or name the folder that holds one: --start DIR"
            )
        _, pairs, whole = load_adapter(place)
        return _flat(pairs) | whole

    def _command(self, step: str, count: int) -> str:
        words = [f"nldpe finetune {self.name} --steps {step} --{step}-steps {count}"]
        words += as_options(self.plan.mapping)
        return " ".join([*words, f"--seed {self.plan.seed}"])

    def _kept(self, step: str, start: dict[str, Array]) -> tuple[KeptTraining, int]:
        """Return where the state of a step is kept, and its number of optimiser steps."""
        plan = self.plan
        count = (plan.float_steps if step == "float" else plan.naf_steps) or STEPS[step]
        origin = {
            "command": self._command(step, count), "config": self._config,
            "library": plan.library.sha256,
        }  # fmt: skip
        arrays: list[NDArray[Any]] = [self._tokens, self._labels, *start.values()]
        kept = KeptTraining(plan.out / f"{self._named(step)}.training", origin, arrays)
        self.states.append(kept)
        return kept, count

    def _named(self, step: str) -> str:
        return self.name if step == "naf" else f"{self.name}-{step}"

    def _write(self, step: str, parameters: Parameters, kept: KeptTraining) -> Path:
        """Write an adapter and what it scores; returns its directory."""
        plan, place = self.plan, self.plan.out / self._named(step)
        parts = naf.arrays(parameters)
        count = len(kept.losses)
        provenance = {
            "command": self._command(step, count),
            "seed": plan.seed,
            "step": step,
            "steps": count,
            "library_sha256": plan.library.sha256 if step == "naf" else None,
        }
        pairs = {
            layer: (parts[f"{layer}.down"], parts[f"{layer}.up"]) for layer in pairs_of(parameters)
        }
        whole = {key: parts[key] for key in HEAD}
        save_adapter(place, self._config, pairs, provenance, whole)
        rows = plan.library.technology.column.rows
        network = load_network(str(place), tile_rows=rows, data=plan.data)
        metrics.write(
            network, place, plan.library, kept.losses, samples=plan.samples, seed=plan.seed
        )
        return place


def _flat(pairs: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Return pairs as parameters NAME.down and NAME.up."""
    return {
        f"{layer}.{side}": part
        for layer, pair in pairs.items()
        for side, part in zip(("down", "up"), pair, strict=True)
    }

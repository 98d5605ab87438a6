"""Recipes of the shipped checkpoints: float training, then fine-tuning of weights and windows."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from behavioral.library import Library
from circuits.errors import CheckpointError, ParameterError
from system import evaluation, inputs
from system.calibration import Ranges, calibrate
from system.data import datasets, photo_digits
from system.data.vision import CALIBRATION_IMAGES
from system.models import lenet
from system.models.classifier import KINDS, Classifier
from system.models.lenet import Lenet
from system.models.llama import Llama, LlamaConfig
from system.models.ops import Ops
from system.networks import CALIBRATION_WINDOWS, load_network
from system.quantization import Mapping
from system.tokenizer import train_tokenizer
from system.training import convnets, naf, networks, photos, pretraining, windows
from system.training.kept import KeptTraining
from system.weights import acam_windows
from system.weights.checkpoint import load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

STEPS = ("float", "naf", "acam")


@dataclass(frozen=True)
class Plan:
    """What `nldpe finetune` was asked to do.

    Attributes
    ----------
    out : folder that receives NAME-float and NAME
    library : the characterised circuits that NAF trains on
    seed : of initial weights, batches and chips
    float_steps, naf_steps : optimiser steps; None: the recipe's own
    acam_steps : optimiser steps of every set of windows
    data : the user's own data set, or None
    start : folder of the checkpoint that the first of the steps starts from; None: `out`
    """

    out: Path
    library: Library
    seed: int = 1234
    float_steps: int | None = None
    naf_steps: int | None = None
    acam_steps: int = windows.STEPS
    data: Path | None = None
    start: Path | None = None


class LenetMnist:
    """LeNet-5 on MNIST."""

    name = "lenet-mnist"
    mapping = Mapping()
    float_steps, naf_steps, refresh = 4680, 1000, 1

    def __init__(self, plan: Plan):
        self.plan = plan
        self.mnist = datasets.mnist(plan.data)
        self.config: dict[str, Any] = dict(lenet.CONFIG)
        self.training_data = self.mnist.train_images
        self.tokenizer = None

    def pretrain(self, steps: int, kept: KeptTraining) -> networks.Parameters:
        """Train in float."""
        return pretraining.train_lenet(
            self.mnist.train_images, self.mnist.train_labels, steps=steps, seed=self.plan.seed,
            kept=kept,
        )  # fmt: skip

    def build(self, tensors: dict[str, Any]) -> Lenet:
        """Return the numpy model."""
        return Lenet(tensors)

    def calibration(self, model: Lenet, ops: Ops) -> object:
        """Run the calibration inputs."""
        return model.forward(self.mnist.train_images[:CALIBRATION_IMAGES], ops)

    def tune(
        self, parameters: networks.Parameters, maker: naf.ChipMaker, steps: int, kept: KeptTraining
    ) -> None:
        """Fine-tune on chips."""
        naf.tune_lenet(
            parameters, self.mnist.train_images, self.mnist.train_labels, maker,
            steps=steps, seed=self.plan.seed, kept=kept,
        )  # fmt: skip


class LlamaAusten:
    """A Llama of 1.1 million parameters on five novels of Jane Austen."""

    name = "llama-austen"
    mapping = Mapping(weight_scale="column", output_range="column")
    float_steps, naf_steps, refresh = 7000, 1000, 2

    def __init__(self, plan: Plan):
        self.plan = plan
        text = datasets.austen(plan.data).train
        self.tokenizer = train_tokenizer(text, int(pretraining.LLAMA_CONFIG["vocab_size"]))
        self.tokens = np.array(self.tokenizer.encode(text).ids, np.int64)
        self.training_data = self.tokens
        heads = int(pretraining.LLAMA_CONFIG["num_attention_heads"])
        self.config = LlamaConfig.from_dict(
            {
                "model_type": "llama",
                "tie_word_embeddings": True,
                "head_dim": int(pretraining.LLAMA_CONFIG["hidden_size"]) // heads,
                **pretraining.LLAMA_CONFIG,
            }
        ).to_dict()

    def pretrain(self, steps: int, kept: KeptTraining) -> networks.Parameters:
        """Train in float."""
        return pretraining.train_llama(self.tokens, steps=steps, seed=self.plan.seed, kept=kept)

    def build(self, tensors: dict[str, Any]) -> Llama:
        """Return the numpy model."""
        plain = {k: v for k, v in tensors.items() if k != "lm_head.weight"}
        return Llama(LlamaConfig.from_dict(self.config), plain)

    def calibration(self, model: Llama, ops: Ops) -> object:
        """Run the calibration inputs."""
        windows = evaluation.text_windows(self.tokens, 4 * CALIBRATION_WINDOWS)
        return [model.forward(w[None, :-1], ops) for w in windows]

    def tune(
        self, parameters: networks.Parameters, maker: naf.ChipMaker, steps: int, kept: KeptTraining
    ) -> None:
        """Fine-tune on chips."""
        naf.tune_llama(
            parameters, pretraining.LLAMA_CONFIG, self.tokens, maker,
            steps=steps, seed=self.plan.seed, kept=kept,
        )  # fmt: skip


class _PhotoDigits:
    """A convolutional network on digits on photographs."""

    name: str
    config: dict[str, Any]
    mapping = Mapping(weight_scale="column", line_start=0.4)  # as in docs/cnn.md
    float_steps, naf_steps, refresh = 3000, 500, 1

    def __init__(self, plan: Plan):
        self.plan = plan
        self.mnist = datasets.mnist(plan.data)
        self.training_data = self.mnist.train_images
        self.tokenizer = None

    def pretrain(self, steps: int, kept: KeptTraining) -> networks.Parameters:
        """Train in float."""
        return photos.pretrain(
            self.config, self.mnist.train_images, self.mnist.train_labels,
            steps=steps, seed=self.plan.seed, kept=kept,
        )  # fmt: skip

    def build(self, tensors: dict[str, Any]) -> Classifier:
        """Return the numpy model."""
        return KINDS[self.config["model_type"]].build(self.config, tensors)

    def calibration(self, model: Classifier, ops: Ops) -> object:
        """Run the calibration inputs."""
        found = photo_digits.photo_digits("train", self.plan.data).pixels[:CALIBRATION_IMAGES]
        return evaluation.outputs(model, ops, found)

    def tune(
        self, parameters: networks.Parameters, maker: naf.ChipMaker, steps: int, kept: KeptTraining
    ) -> None:
        """Fine-tune on chips."""
        photos.tune(
            self.config, parameters, self.mnist.train_images, self.mnist.train_labels, maker,
            steps=steps, seed=self.plan.seed, kept=kept,
        )  # fmt: skip


class Resnet8(_PhotoDigits):
    """ResNet-8 on digits on photographs."""

    name, config = "resnet8-photo-digits", convnets.RESNET8


class Resnet20(_PhotoDigits):
    """ResNet-20 on digits on photographs."""

    name, config = "resnet20-photo-digits", convnets.RESNET20


class Senet(_PhotoDigits):
    """A small network with squeeze-and-excite and swish on digits on photographs."""

    name, config = "senet-photo-digits", convnets.SENET
    float_steps = 2400


Recipe = LenetMnist | LlamaAusten | _PhotoDigits
RECIPES: dict[str, type[Recipe]] = {
    r.name: r for r in (LenetMnist, LlamaAusten, Resnet8, Resnet20, Senet)
}


def finetune(model: str, steps: list[str], plan: Plan) -> list[Path]:
    """Run the steps of a recipe; returns the checkpoint directories written.

    Interrupted, the same call goes on where the state was kept last, to the same bits.

    Raises
    ------
    ParameterError
        Unknown model or step.
    CheckpointError
        Step "naf" or "acam" without a checkpoint to start from; a kept state of another training.
    """
    if model not in RECIPES:
        raise ParameterError(f"no recipe for {model!r}; known: {', '.join(RECIPES)}")
    unknown = [s for s in steps if s not in STEPS]
    if unknown:
        raise ParameterError(f"unknown step {unknown[0]!r}; known: {', '.join(STEPS)}")
    recipe = RECIPES[model](plan)
    written, states, start = [], [], plan.start or plan.out
    for step, train in (("float", _pretrain), ("naf", _tune)):
        if step in steps:
            place, kept = train(recipe, start)
            written.append(place)
            states.append(kept)
            start = plan.out
    if "acam" in steps:
        written.append(_tune_windows(model, plan, start))
    for kept in states:  # not earlier: a finished step is read back where a later one was stopped
        kept.remove()
    return written


def _pretrain(recipe: Recipe, start: Path) -> tuple[Path, KeptTraining]:
    """Train in float, from nothing; returns the checkpoint's directory and the state kept."""
    count = recipe.plan.float_steps or recipe.float_steps
    name = f"{recipe.name}-float"
    kept = _kept(recipe, name, _command(recipe, "float", count), {})
    parameters = recipe.pretrain(count, kept)
    return _save(recipe, parameters, name, "float", count), kept


def _tune(recipe: Recipe, start: Path) -> tuple[Path, KeptTraining]:
    """Fine-tune on chips what float training wrote below `start`; returns as `_pretrain`."""
    plan = recipe.plan
    count = plan.naf_steps or recipe.naf_steps
    place = _need(start / f"{recipe.name}-float", f"{recipe.name} --steps float")
    tensors = load_checkpoint(place).tensors
    parameters = {name: torch.from_numpy(t.copy()).requires_grad_() for name, t in tensors.items()}
    kept = _kept(recipe, recipe.name, _command(recipe, "naf", count), naf.arrays(parameters))
    maker = naf.ChipMaker(
        parameters, lambda tensors: _measure(recipe, tensors), plan.library, recipe.mapping,
        plan.seed, recipe.refresh,
    )  # fmt: skip
    recipe.tune(parameters, maker, count, kept)
    return _save(recipe, parameters, recipe.name, "naf", count), kept


def _kept(recipe: Recipe, name: str, command: str, start: dict[str, Any]) -> KeptTraining:
    """Return where the state of a training is kept, beside the checkpoint it writes."""
    origin = {
        "command": command, "config": recipe.config, "mapping": recipe.mapping.to_dict(),
        "library": recipe.plan.library.sha256,
    }  # fmt: skip
    arrays = [recipe.training_data, *start.values()]
    return KeptTraining(recipe.plan.out / f"{name}.training", origin, arrays)


def _command(recipe: Recipe, step: str, count: int) -> str:
    seed = recipe.plan.seed
    return f"nldpe finetune {recipe.name} --steps {step} --{step}-steps {count} --seed {seed}"


def _tune_windows(model: str, plan: Plan, start: Path) -> Path:
    """Fine-tune the ACAM windows of a checkpoint below `start` whose weights are ready."""
    ready, place = _need(start / model, f"{model} --steps float,naf"), plan.out / model
    inputs.note(ready)
    if start.resolve() != plan.out.resolve():
        shutil.copytree(ready, place, dirs_exist_ok=True)
    rows = plan.library.technology.column.rows
    network = load_network(str(place), tile_rows=rows, data=plan.data)
    windows.tune_network(network, plan.library, place, steps=plan.acam_steps, seed=plan.seed)
    return place / acam_windows.FILE


def _need(place: Path, words: str) -> Path:
    """Return a checkpoint's directory, or say how to make it."""
    if not place.is_dir():
        raise CheckpointError(
            f"{place} does not exist; make it first: nldpe finetune {words}; or name the folder "
            "that holds one: --start DIR"
        )
    return place


def _measure(recipe: Recipe, tensors: dict[str, Any]) -> Ranges:
    model = recipe.build(tensors)
    rows = recipe.plan.library.technology.column.rows
    return calibrate(
        model.tensors,
        lambda ops: recipe.calibration(model, ops),  # type: ignore[arg-type]
        recipe.mapping,
        rows,
    )


def _save(
    recipe: Recipe, parameters: networks.Parameters, name: str, step: str,
    count: int,
) -> Path:  # fmt: skip
    plan = recipe.plan
    tensors = {k: p.detach().numpy() for k, p in parameters.items()}
    rows = plan.library.technology.column.rows
    provenance = {
        "command": _command(recipe, step, count),
        "seed": plan.seed,
        "step": step,
        "steps": count,
        "library_sha256": plan.library.sha256 if step == "naf" else None,
    }
    place = plan.out / name
    save_checkpoint(
        place,
        {**recipe.config, "mapping": recipe.mapping.to_dict(), "tile_rows": rows},
        tensors,
        analog=_measure(recipe, tensors),
        extra={"provenance": provenance},
        tokenizer=recipe.tokenizer,
    )
    return place

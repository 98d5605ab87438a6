"""Recipes of the shipped checkpoints: which network, on which data, for how many steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from behavioral.library import Library
from behavioral.programming import Noise
from system import evaluation
from system.data import datasets, photo_digits, sentences
from system.data.vision import CALIBRATION_IMAGES
from system.models import lenet
from system.models.bert import Bert, BertConfig
from system.models.classifier import KINDS, Classifier
from system.models.lenet import Lenet
from system.models.llama import Llama, LlamaConfig
from system.models.ops import Ops
from system.quantization import Mapping
from system.tokenizer import encode_texts, train_tokenizer, train_wordpiece
from system.training import convnets, encoders, naf, networks, photos, pretraining, windows
from system.training.kept import KeptTraining

CALIBRATION_WINDOWS = 48  # of the small Llama


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
    mapping : choices that differ from the recipe's, as in `Mapping.changed`
    samples : that metrics.json scores; None: as `metrics.write` says
    naf_noise : device noise of the chips that an adapter is trained on
    """

    out: Path
    library: Library
    seed: int = 1234
    float_steps: int | None = None
    naf_steps: int | None = None
    acam_steps: int = windows.STEPS
    data: Path | None = None
    start: Path | None = None
    mapping: dict[str, Any] = field(default_factory=dict)
    samples: int | None = None
    naf_noise: Noise = "frozen"


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
        windows = evaluation.text_windows(self.tokens, CALIBRATION_WINDOWS)
        return [model.forward(w[None, :-1], ops) for w in windows]

    def tune(
        self, parameters: networks.Parameters, maker: naf.ChipMaker, steps: int, kept: KeptTraining
    ) -> None:
        """Fine-tune on chips."""
        naf.tune_llama(
            parameters, pretraining.LLAMA_CONFIG, self.tokens, maker,
            steps=steps, seed=self.plan.seed, kept=kept,
        )  # fmt: skip


class BertTiny:
    """A BERT of two layers on the sentences of Rotten Tomatoes, development sentences left out."""

    name = "bert-tiny-rt"
    mapping = Mapping(weight_scale="column", output_range="column", line_start=0.4)
    float_steps, naf_steps, refresh = 1200, 300, 1

    def __init__(self, plan: Plan):
        self.plan = plan
        train = sentences.train_set(plan.data)
        train = train[: len(train) - len(sentences.development_set(plan.data))]
        self.config: dict[str, Any] = dict(encoders.BERT_TINY)
        self.tokenizer = train_wordpiece(train.texts, self.config["vocab_size"])
        longest = self.config["max_position_embeddings"]
        self.tokens, self.labels = encode_texts(self.tokenizer, train.texts, longest), train.labels
        self.training_data = self.tokens

    def pretrain(self, steps: int, kept: KeptTraining) -> networks.Parameters:
        """Train in float."""
        return encoders.pretrain(
            self.config, self.tokens, self.labels, steps=steps, seed=self.plan.seed, kept=kept
        )

    def build(self, tensors: dict[str, Any]) -> Bert:
        """Return the numpy model."""
        return Bert(BertConfig.from_dict(self.config), tensors)

    def calibration(self, model: Bert, ops: Ops) -> object:
        """Run the calibration inputs."""
        return evaluation.outputs(model, ops, self.tokens[: sentences.CALIBRATION_SENTENCES])

    def tune(
        self, parameters: networks.Parameters, maker: naf.ChipMaker, steps: int, kept: KeptTraining
    ) -> None:
        """Fine-tune on chips."""
        encoders.tune(
            self.config, parameters, self.tokens, self.labels, maker,
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


Recipe = LenetMnist | LlamaAusten | BertTiny | _PhotoDigits
RECIPES: dict[str, type[Recipe]] = {
    r.name: r for r in (LenetMnist, LlamaAusten, BertTiny, Resnet8, Resnet20, Senet)
}
# What a checkpoint states beside the mapping that it was trained on: docs/cnn.md says why.
SERVED: dict[str, dict[str, Any]] = {"senet-photo-digits": {"output_copies": 4}}

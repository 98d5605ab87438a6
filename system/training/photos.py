"""Float training and fine-tuning of convolutional networks on digits on photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from system.data import photo_digits
from system.training import convnets, naf, networks, pretraining
from system.training.kept import KeptTraining

BATCH = 128


def fresh_batches(
    digits: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Return what gives a step's images and labels; every digit gets a new patch each time.

    There is one photo to train on: its three colours are also exchanged and its brightness turned
    round at random, a batch at a time, so that a network does not rely on the colours of a sky.
    """
    picture = photo_digits.photo("train")
    targets = torch.from_numpy(labels.astype(np.int64))

    def batch(step: int) -> tuple[Tensor, Tensor]:
        index = pretraining.image_batch(len(digits), BATCH, seed, step)
        rng = np.random.default_rng((seed, 1, step))
        shown = picture[rng.permutation(3)]
        if rng.random() < 0.5:
            shown = np.uint8(255) - shown
        images = photo_digits.blend(digits[index], shown, (seed, 2, step))
        return torch.from_numpy(images), targets[index]

    return batch


def pretrain(
    config: Mapping[str, Any],
    digits: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    steps: int,
    seed: int,
    rate: float = 2e-3,
    kept: KeptTraining | None = None,
) -> networks.Parameters:
    """Train in float32 with batch normalisation; return parameters with it folded."""
    parameters = convnets.initial(config, seed)
    ops = convnets.BatchNormOps(parameters)
    batch = fresh_batches(digits, labels, seed)

    def loss_of_step(step: int) -> Tensor:
        images, wanted = batch(step)
        return F.cross_entropy(convnets.forward(config, ops, parameters, images), wanted)

    trained = parameters | {f"{name}.gain": gain for name, gain in ops.gains.items()}
    pretraining.optimize(
        trained, loss_of_step, steps=steps, rate=rate, weight_decay=0.01, label="float",
        kept=kept, companion=ops,
    )  # fmt: skip
    return ops.fold(parameters)


def tune(
    config: Mapping[str, Any],
    parameters: networks.Parameters,
    digits: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    maker: naf.ChipMaker,
    *,
    steps: int,
    seed: int,
    rate: float = 5e-4,
    kept: KeptTraining | None = None,
) -> None:
    """Fine-tune in place on freshly programmed chips."""
    batch = fresh_batches(digits, labels, seed + 1)

    def loss_of_step(step: int) -> Tensor:
        images, wanted = batch(step)
        logits = convnets.forward(config, maker.chip(step), parameters, images)
        penalty = naf.WEIGHT_NORM * naf.largest_weights(parameters)
        return F.cross_entropy(logits, wanted) + penalty

    pretraining.optimize(
        parameters, loss_of_step, steps=steps, rate=rate, label="naf", kept=kept, companion=maker
    )

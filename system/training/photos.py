"""Float training and fine-tuning of convolutional networks on digits on photographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from system.data import photo_digits
from system.training import convnets, naf, networks, pretraining

BATCH = 128


def fresh_batches(
    digits: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels for ever; every digit gets a new patch each time.

    There is one photo to train on: its three colours are also exchanged and its brightness turned
    round at random, a batch at a time, so that a network does not rely on the colours of a sky.
    """
    picture = photo_digits.photo("train")
    targets = torch.from_numpy(labels.astype(np.int64))
    for step, index in enumerate(pretraining.image_batches(len(digits), BATCH, seed)):
        rng = np.random.default_rng((seed, 1, step))
        shown = picture[rng.permutation(3)]
        if rng.random() < 0.5:
            shown = np.uint8(255) - shown
        images = photo_digits.blend(digits[index], shown, (seed, 2, step))
        yield torch.from_numpy(images), targets[index]


def pretrain(
    config: Mapping[str, Any],
    digits: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    steps: int,
    seed: int,
    rate: float = 2e-3,
) -> networks.Parameters:
    """Train in float32 with batch normalisation; return parameters with it folded."""
    parameters = convnets.initial(config, seed)
    ops = convnets.BatchNormOps(parameters)
    batches = fresh_batches(digits, labels, seed)

    def loss_of_step(step: int) -> Tensor:
        images, wanted = next(batches)
        return F.cross_entropy(convnets.forward(config, ops, parameters, images), wanted)

    trained = parameters | {f"{name}.gain": gain for name, gain in ops.gains.items()}
    pretraining.optimize(
        trained, loss_of_step, steps=steps, rate=rate, weight_decay=0.01, label="float"
    )
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
) -> None:
    """Fine-tune in place on freshly programmed chips."""
    batches, chips = fresh_batches(digits, labels, seed + 1), maker.chips()

    def loss_of_step(step: int) -> Tensor:
        images, wanted = next(batches)
        logits = convnets.forward(config, next(chips), parameters, images)
        penalty = naf.WEIGHT_NORM * naf.largest_weights(parameters)
        return F.cross_entropy(logits, wanted) + penalty

    pretraining.optimize(parameters, loss_of_step, steps=steps, rate=rate, label="naf")

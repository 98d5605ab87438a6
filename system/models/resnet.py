"""Residual networks of basic blocks: the small ones of CIFAR, and ResNet-18 and -34.

Reference: He et al., arXiv:1512.03385, section 4.2 for CIFAR (depth 6n + 2: a 3x3 stem, three
stages of n blocks of 16, 32 and 64 channels). Tensor names are torchvision's and timm's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from system.models.layers import (
    ImageInput,
    batch_norm_shapes,
    fold_batch_norm,
    max_pool2d,
    read_config,
)
from system.models.ops import Array, Ops
from system.models.patches import Convolution

_SMALL = (1, 1, 1, 1)


@dataclass(frozen=True)
class ResnetConfig:
    """Shape of a residual network; fields are keys of config.json.

    Attributes
    ----------
    blocks : basic blocks of every stage; (1, 1, 1) is ResNet-8, (3, 3, 3) ResNet-20.
    widths : channels of every stage; the stem has those of the first.
    classes : outputs.
    stem : "small" is a 3x3 convolution, "large" a 7x7 one with stride 2 and a 3x3 max pooling.
    shortcut : where a stage changes the shape: "projection" is a strided 1x1 convolution
        (torchvision), "padding" takes every other pixel and adds channels of zeros (the CIFAR
        networks of the paper, its option A).
    batch_norm : the checkpoint has batch normalisations; they are folded into the convolutions.
    batch_norm_eps : added to the variance.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    stem: str = "small"
    shortcut: str = "projection"
    batch_norm: bool = True
    batch_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        numbers = (*self.blocks, *self.widths, self.classes)
        if not all(isinstance(n, int) and n > 0 for n in numbers):
            raise ValueError(f"blocks {self.blocks}, widths {self.widths}, classes {self.classes}")
        if len(self.blocks) != len(self.widths) or not self.blocks:
            raise ValueError(f"blocks {self.blocks} and widths {self.widths} differ in length")
        if self.stem not in ("small", "large"):
            raise ValueError(f"stem is {self.stem!r}; small or large")
        if self.shortcut not in ("projection", "padding"):
            raise ValueError(f"shortcut is {self.shortcut!r}; projection or padding")

    def layout(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield (block, input channels, output channels, stride)."""
        channels = self.widths[0]
        for stage, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for i in range(count):
                yield f"layer{stage + 1}.{i}", channels, width, 2 if stage and not i else 1
                channels = width

    def convolutions(self, image: ImageInput) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return convolution -> (its batch normalisation, shape of its weight)."""
        side = 7 if self.stem == "large" else 3
        stem = ("bn1", (self.widths[0], image.channels, side, side))
        table: dict[str, tuple[str, tuple[int, ...]]] = {"conv1": stem}
        for block, inputs, out, stride in self.layout():
            table[f"{block}.conv1"] = (f"{block}.bn1", (out, inputs, 3, 3))
            table[f"{block}.conv2"] = (f"{block}.bn2", (out, out, 3, 3))
            if (inputs, stride) != (out, 1) and self.shortcut == "projection":
                table[f"{block}.downsample.0"] = (f"{block}.downsample.1", (out, inputs, 1, 1))
        return table


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a checkpoint."""
    made, image = read_config(ResnetConfig, config), ImageInput.from_dict(config)
    table: dict[str, tuple[int, ...]] = {}
    for name, (norm, shape) in made.convolutions(image).items():
        table[f"{name}.weight"] = shape
        table |= batch_norm_shapes(norm, shape[0]) if made.batch_norm else {}
        table |= {} if made.batch_norm else {f"{name}.bias": shape[:1]}
    return table | {"fc.weight": (made.classes, made.widths[-1]), "fc.bias": (made.classes,)}


class Resnet:
    """A residual network; `tensors` has the names and shapes of `shapes(config)`."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Array]):
        self.config, self.image = read_config(ResnetConfig, config), ImageInput.from_dict(config)
        convolutions = self.config.convolutions(self.image)
        norms = {name: norm for name, (norm, _) in convolutions.items()}
        self.tensors = dict(tensors)
        if self.config.batch_norm:
            self.tensors = fold_batch_norm(tensors, norms, self.config.batch_norm_eps)

    def forward(self, images: NDArray[np.generic], ops: Ops) -> Array:
        """Classify images (B, C, H, W), bytes or floats in 0 to 1; return logits (B, classes).

        Raises
        ------
        ParameterError
            The images have another shape.
        """
        x = self.image.prepare(images)
        if self.config.stem == "large":
            x = ops.convolve("conv1", x, Convolution((7, 7), 2, (3, 3, 3, 3)), "relu")
            x = max_pool2d(x, 3, 2, 1)
        else:
            x = ops.convolve("conv1", x, Convolution((3, 3), 1, _SMALL), "relu")
        for block, inputs, out, stride in self.config.layout():
            residual = ops.convolve(
                f"{block}.conv1", x, Convolution((3, 3), stride, _SMALL), "relu"
            )
            residual = ops.convolve(
                f"{block}.conv2", residual, Convolution((3, 3), 1, _SMALL), None
            )
            if (inputs, stride) != (out, 1):
                x = self._shorten(block, x, out, stride, ops)
            x = np.maximum(x + residual, 0.0)  # both added and rectified digitally
        return ops.linear("fc", x.mean(axis=(2, 3)))

    def _shorten(self, block: str, x: Array, out: int, stride: int, ops: Ops) -> Array:
        """Return the shortcut of a block whose output has another shape."""
        if self.config.shortcut == "projection":
            return ops.convolve(f"{block}.downsample.0", x, Convolution((1, 1), stride), None)
        kept = x[:, :, ::stride, ::stride]
        before = (out - x.shape[1]) // 2
        return np.pad(kept, ((0, 0), (before, out - x.shape[1] - before), (0, 0), (0, 0)))

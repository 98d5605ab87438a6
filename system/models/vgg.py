"""Networks of the VGG class: convolutions in a row, max pooling, then linear layers.

Reference: Simonyan, Zisserman, arXiv:1409.1556. Tensor names are torchvision's: the position of
a layer in `features` and in `classifier`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError
from system.models.layers import (
    ImageInput,
    average_pool2d,
    batch_norm_scale,
    batch_norm_shapes,
    fold_batch_norm,
    max_pool2d,
    read_config,
)
from system.models.ops import Array, Ops
from system.models.patches import Convolution

KERNEL = 3
_TIMM_NAMES = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3"}


@dataclass(frozen=True)
class VggConfig:
    """Shape of a VGG-class network; fields are keys of config.json.

    Attributes
    ----------
    features : output channels of each 3x3 convolution, "M" for a 2x2 max pooling.
    classifier : widths of the linear layers, the last one the classes.
    padding : zeros on each side of every convolution's input.
    batch_norm : "none"; "before" the activation (torchvision's vgg_bn), folded into the weights;
        or "after" it, a digital scale and offset.
    batch_norm_eps : added to the variance.
    pooled : side of the grid that the last features are averaged to, 0 for as they are.
    dropout : the classifier counts a dropout after every activation, as torchvision's does.
    """

    features: tuple[int | str, ...]
    classifier: tuple[int, ...]
    padding: int = 1
    batch_norm: str = "none"
    batch_norm_eps: float = 1e-5
    pooled: int = 0
    dropout: bool = True

    def __post_init__(self) -> None:
        widths = [f for f in self.features if f != "M"]
        numbers = (*widths, *self.classifier)
        if not numbers or not all(isinstance(n, int) and n > 0 for n in numbers):
            raise ValueError(f"features {self.features} and classifier {self.classifier}")
        if self.batch_norm not in ("none", "before", "after"):
            raise ValueError(f"batch_norm is {self.batch_norm!r}; none, before or after")

    def layers(self) -> Iterator[tuple[str, str, int]]:
        """Yield (convolution, its batch normalisation, channels), or ("", "", 0) for a pooling."""
        at = 0
        for width in self.features:
            if isinstance(width, str):
                yield "", "", 0
                at += 1
                continue
            norm = at + (2 if self.batch_norm == "after" else 1)
            yield f"features.{at}", f"features.{norm}", width
            at += 2 if self.batch_norm == "none" else 3

    def linears(self) -> list[str]:
        """Return the names of the linear layers."""
        step = 3 if self.dropout else 2
        return [f"classifier.{step * i}" for i in range(len(self.classifier))]


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a checkpoint.

    Raises
    ------
    CheckpointError
        The image is too small for the network.
    """
    made, image = read_config(VggConfig, config), ImageInput.from_dict(config)
    channels, height, width = image.channels, image.height, image.width
    table: dict[str, tuple[int, ...]] = {}
    for name, norm, out in made.layers():
        if not name:
            height, width = height // 2, width // 2
            continue
        table |= {f"{name}.weight": (out, channels, KERNEL, KERNEL), f"{name}.bias": (out,)}
        if made.batch_norm != "none":
            table |= batch_norm_shapes(norm, out)
        channels = out
        height, width = (n + 2 * made.padding - KERNEL + 1 for n in (height, width))
    if min(height, width) < 1:
        raise CheckpointError(f"config.json: an image {config['image']} is too small for this net")
    inputs = channels * (made.pooled**2 or height * width)
    for name, out in zip(made.linears(), made.classifier, strict=True):
        table |= {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}
        inputs = out
    return table


def rename(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return timm's names of the classifier, kept there as convolutions, in torchvision's form."""
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in _TIMM_NAMES:
            name = f"{_TIMM_NAMES[layer]}.{kind}"
            tensor = tensor.reshape(len(tensor), -1) if kind == "weight" else tensor
        elif layer == "head.fc":
            name = f"classifier.6.{kind}"
        renamed[name] = tensor
    return renamed


class Vgg:
    """A VGG-class network; `tensors` has the names and shapes of `shapes(config)`."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Array]):
        self.config, self.image = read_config(VggConfig, config), ImageInput.from_dict(config)
        norms = {name: norm for name, norm, _ in self.config.layers() if name}
        self._after: dict[str, tuple[Array, Array]] = {}
        self.tensors = dict(tensors)
        if self.config.batch_norm == "before":
            self.tensors = fold_batch_norm(tensors, norms, self.config.batch_norm_eps)
        elif self.config.batch_norm == "after":
            self._after = {
                name: batch_norm_scale(tensors, norm, self.config.batch_norm_eps)
                for name, norm in norms.items()
            }

    def forward(self, images: NDArray[np.generic], ops: Ops) -> Array:
        """Classify images (B, C, H, W), bytes or floats in 0 to 1; return logits (B, classes).

        Raises
        ------
        ParameterError
            The images have another shape.
        """
        config, pad = self.config, (self.config.padding,) * 4
        x = self.image.prepare(images)
        for name, _, _ in config.layers():
            if not name:
                x = max_pool2d(x, 2, 2)
                continue
            x = ops.convolve(name, x, Convolution((KERNEL, KERNEL), padding=pad), "relu")
            if name in self._after:
                gain, offset = self._after[name]
                x = x * gain[:, None, None] + offset[:, None, None]
        if config.pooled:
            x = average_pool2d(x, config.pooled)
        x = x.reshape(len(x), -1)  # (B, C, H, W) -> (B, C H W)
        *hidden, last = config.linears()
        for name in hidden:
            x = ops.linear(name, x, "relu")
        return ops.linear(last, x)

"""EfficientNet and its lite form: depthwise convolutions between two pointwise ones.

References: Tan, Le, arXiv:1905.11946 (architecture); Sandler et al., arXiv:1801.04381 (inverted
residuals); Hu et al., arXiv:1709.01507 (squeeze-and-excite). The lite form has ReLU6 for swish
and no squeeze-and-excite. Tensor names are those of the `efficientnet-pytorch` packages.
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
    read_config,
    same_padding,
)
from system.models.ops import Activation, Array, Ops
from system.models.patches import Convolution

# Repeats, kernel, stride of the first, expansion, input and output channels of every stage.
LITE0 = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


@dataclass(frozen=True)
class Block:
    """One inverted residual block; `name` is the prefix of its tensors."""

    name: str
    kernel: int
    stride: int
    inputs: int
    inner: int
    out: int

    @property
    def expands(self) -> bool:
        """Whether a pointwise convolution widens the input first."""
        return self.inner != self.inputs


@dataclass(frozen=True)
class EfficientnetConfig:
    """Shape of an EfficientNet; fields are keys of config.json.

    Attributes
    ----------
    stages : (repeats, kernel, stride, expansion, input channels, output channels) of each.
    stem, head : channels of the first and of the last convolution.
    classes : outputs.
    activation : "relu6" (lite) or "silu".
    squeeze : channels of squeeze-and-excite as a share of the block's input channels; 0: none.
    stem_stride : of the first convolution.
    batch_norm : the checkpoint has batch normalisations; they are folded into the convolutions.
    batch_norm_eps : added to the variance.
    """

    stages: tuple[tuple[int, int, int, int, int, int], ...]
    stem: int
    head: int
    classes: int
    activation: Activation = "relu6"
    squeeze: float = 0.0
    stem_stride: int = 2
    batch_norm: bool = True
    batch_norm_eps: float = 1e-3

    def __post_init__(self) -> None:
        numbers = [n for stage in self.stages for n in stage]
        if not all(isinstance(n, int) and n > 0 for n in (*numbers, self.stem, self.head)):
            raise ValueError(f"stages {self.stages}, stem {self.stem}, head {self.head}")
        if any(len(stage) != 6 for stage in self.stages) or not self.stages:
            raise ValueError(f"stages {self.stages} want six numbers each")
        if self.activation not in ("relu6", "silu"):
            raise ValueError(f"activation is {self.activation!r}; relu6 or silu")

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        index = 0
        for repeats, kernel, stride, expansion, inputs, out in self.stages:
            for i in range(repeats):
                entering = out if i else inputs
                yield Block(
                    f"_blocks.{index}", kernel, 1 if i else stride,
                    entering, entering * expansion, out,
                )  # fmt: skip
                index += 1

    def squeezed(self, block: Block) -> int:
        """Return the channels between squeeze and excite."""
        return max(1, int(block.inputs * self.squeeze))

    def convolutions(self, image: ImageInput) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return convolution -> (its batch normalisation, shape of its weight)."""
        table: dict[str, tuple[str, tuple[int, ...]]] = {}
        table["_conv_stem"] = ("_bn0", (self.stem, image.channels, 3, 3))
        for block in self.blocks():
            name, inner, side = block.name, block.inner, block.kernel
            if block.expands:
                table[f"{name}._expand_conv"] = (f"{name}._bn0", (inner, block.inputs, 1, 1))
            table[f"{name}._depthwise_conv"] = (f"{name}._bn1", (inner, 1, side, side))
            table[f"{name}._project_conv"] = (f"{name}._bn2", (block.out, inner, 1, 1))
        table["_conv_head"] = ("_bn1", (self.head, self.stages[-1][-1], 1, 1))
        return table


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a checkpoint."""
    made, image = read_config(EfficientnetConfig, config), ImageInput.from_dict(config)
    table: dict[str, tuple[int, ...]] = {}
    for name, (norm, shape) in made.convolutions(image).items():
        table[f"{name}.weight"] = shape
        table |= batch_norm_shapes(norm, shape[0]) if made.batch_norm else {}
        table |= {} if made.batch_norm else {f"{name}.bias": shape[:1]}
    for block in made.blocks() if made.squeeze else ():
        few, many = made.squeezed(block), block.inner
        for name, out, inputs in (("_se_reduce", few, many), ("_se_expand", many, few)):
            table[f"{block.name}.{name}.weight"] = (out, inputs, 1, 1)
            table[f"{block.name}.{name}.bias"] = (out,)
    return table | {"_fc.weight": (made.classes, made.head), "_fc.bias": (made.classes,)}


class Efficientnet:
    """An EfficientNet; `tensors` has the names and shapes of `shapes(config)`."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Array]):
        self.config = read_config(EfficientnetConfig, config)
        self.image = ImageInput.from_dict(config)
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
        config, f = self.config, self.config.activation
        x = _convolve(ops, "_conv_stem", self.image.prepare(images), 3, config.stem_stride, f)
        for block in config.blocks():
            x = self._block(block, x, ops)
        x = _convolve(ops, "_conv_head", x, 1, 1, f)
        return ops.linear("_fc", x.mean(axis=(2, 3)))

    def _block(self, block: Block, x: Array, ops: Ops) -> Array:
        name, f = block.name, self.config.activation
        inner = _convolve(ops, f"{name}._expand_conv", x, 1, 1, f) if block.expands else x
        inner = _convolve(
            ops, f"{name}._depthwise_conv", inner, block.kernel, block.stride, f, block.inner
        )
        if self.config.squeeze:
            inner = self._squeeze_excite(name, inner, ops)
        out = _convolve(ops, f"{name}._project_conv", inner, 1, 1, None)
        same = block.stride == 1 and block.inputs == block.out
        return out + x if same else out

    def _squeeze_excite(self, name: str, x: Array, ops: Ops) -> Array:
        """Scale every channel by a number that depends on all of them: a product of activations."""
        gate = ops.linear(f"{name}._se_reduce", x.mean(axis=(2, 3)), "silu")
        gate = ops.linear(f"{name}._se_expand", gate, "sigmoid")  # (B, C)
        batch, channels, height, width = x.shape
        pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, channels)
        gates = np.repeat(gate, height * width, axis=0)
        scaled = ops.multiply(f"{name}._se_scale", pixels, gates)
        images = scaled.reshape(batch, height, width, channels).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images)


def _convolve(
    ops: Ops, name: str, x: Array, kernel: int, stride: int, f: Activation, groups: int = 1
) -> Array:
    """Convolve with the zero padding that keeps ceil(size / stride) pixels."""
    padding = same_padding((x.shape[2], x.shape[3]), kernel, stride)
    return ops.convolve(name, x, Convolution((kernel, kernel), stride, padding, groups), f)

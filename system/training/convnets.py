"""The convolutional networks of system/models in torch, for float training and fine-tuning.

Each is a function of an arithmetic `ops` and a flat dictionary of parameters with the checkpoint's
names, batch normalisation already folded: while a network trains in float, `BatchNormOps`
normalises inside its convolutions and folds what it learnt at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from system.models import efficientnet, resnet
from system.models.efficientnet import Block, EfficientnetConfig
from system.models.layers import ImageInput, read_config, same_padding
from system.models.ops import Activation
from system.models.patches import Convolution
from system.models.resnet import ResnetConfig
from system.training.kept import State
from system.training.networks import ACTIVATIONS, FloatOps, Parameters, TorchOps, convolve

_IMAGES: dict[str, Any] = {
    "dataset": "photo-digits", "image": [3, 32, 32], "mean": [0.5] * 3, "std": [0.3] * 3,
    "classes": 10, "batch_norm": False,
}  # fmt: skip
RESNET8: dict[str, Any] = {
    "model_type": "resnet", "blocks": [1, 1, 1], "widths": [16, 32, 64], "shortcut": "padding",
    **_IMAGES,
}  # fmt: skip
RESNET20: dict[str, Any] = RESNET8 | {"blocks": [3, 3, 3]}
SENET: dict[str, Any] = {
    "model_type": "efficientnet", "stem": 16, "head": 128, "stem_stride": 1,
    "stages": [
        [1, 3, 2, 1, 16, 16], [1, 3, 1, 4, 16, 24], [1, 3, 2, 4, 24, 40], [1, 3, 1, 4, 40, 40],
    ],
    "activation": "silu", "squeeze": 0.25, **_IMAGES,
}  # fmt: skip
SHAPES = {"resnet": resnet.shapes, "efficientnet": efficientnet.shapes}


class BatchNormOps(FloatOps):
    """Float arithmetic with a batch normalisation between each convolution and its activation.

    Parameters
    ----------
    parameters : those of the network; the bias of a convolution becomes the normalisation's.
    momentum, eps : as torch's own.
    """

    def __init__(self, parameters: Parameters, momentum: float = 0.1, eps: float = 1e-5):
        self._momentum, self._eps = momentum, eps
        widths = {
            key.removesuffix(".weight"): len(value)
            for key, value in parameters.items()
            if value.ndim == 4 and "_se_" not in key
        }
        self.gains = {name: torch.ones(n, requires_grad=True) for name, n in widths.items()}
        self._mean = {name: torch.zeros(n) for name, n in widths.items()}
        self._variance = {name: torch.ones(n) for name, n in widths.items()}

    def convolve(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor, shape: Convolution,
        activation: Activation,
    ) -> Tensor:  # fmt: skip
        """Return f(norm(x * W)); the running moments follow the batch."""
        z = convolve(x, weight, None, shape)
        z = F.batch_norm(
            z, self._mean[name], self._variance[name], self.gains[name], bias, True,
            self._momentum, self._eps,
        )  # fmt: skip
        return ACTIVATIONS[activation](z)

    def state_dict(self) -> State:
        """Return the running moments."""
        return {"mean": dict(self._mean), "variance": dict(self._variance)}

    def load_state_dict(self, state: State) -> None:
        """Take running moments up again."""
        self._mean, self._variance = dict(state["mean"]), dict(state["variance"])

    def fold(self, parameters: Parameters) -> Parameters:
        """Return the parameters of the network without normalisation that computes the same."""
        folded = {name: p.detach().clone() for name, p in parameters.items()}
        for name, gain in self.gains.items():
            scale = gain.detach() / torch.sqrt(self._variance[name] + self._eps)
            folded[f"{name}.weight"] *= scale[:, None, None, None]
            folded[f"{name}.bias"] -= scale * self._mean[name]
        return {name: p.requires_grad_() for name, p in folded.items()}


def initial(config: Mapping[str, Any], seed: int) -> Parameters:
    """Return normal initial weights of variance 2 / fan-in, biases of zero."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, shape in SHAPES[config["model_type"]](config).items():
        value = torch.zeros(shape)
        if len(shape) > 1:
            fan_in = value[0].numel()
            value = torch.randn(shape, generator=generator) * (2.0 / fan_in) ** 0.5
        parameters[name] = value.requires_grad_()
    return parameters


def forward(config: Mapping[str, Any], ops: TorchOps, p: Parameters, images: Tensor) -> Tensor:
    """Return logits (B, classes) for images (B, C, H, W) of bytes."""
    taken = ImageInput.from_dict(config)
    mean, std = (torch.tensor(v)[:, None, None] for v in (taken.mean, taken.std))
    x = images.to(torch.float32, memory_format=torch.channels_last)
    x = (x / 255.0 - mean) / std
    if config["model_type"] == "resnet":
        return _resnet(read_config(ResnetConfig, config), ops, p, x)
    return _efficientnet(read_config(EfficientnetConfig, config), ops, p, x)


class _Layers:
    """Convolutions and products of a network by name."""

    def __init__(self, ops: TorchOps, p: Parameters):
        self._ops, self._p = ops, p

    def convolve(self, name: str, x: Tensor, shape: Convolution, f: Activation) -> Tensor:
        weight, bias = self._p[f"{name}.weight"], self._p[f"{name}.bias"]
        return self._ops.convolve(name, x, weight, bias, shape, f)

    def linear(self, name: str, x: Tensor, f: Activation = None) -> Tensor:
        weight, bias = self._p[f"{name}.weight"], self._p[f"{name}.bias"]
        return self._ops.linear(name, x, weight.flatten(1), bias, f)

    def multiply(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        return self._ops.multiply(name, a, b)


def _resnet(config: ResnetConfig, ops: TorchOps, p: Parameters, x: Tensor) -> Tensor:
    """Residual network of basic blocks with a small stem and padded shortcuts."""
    layers, sides = _Layers(ops, p), (1, 1, 1, 1)
    x = layers.convolve("conv1", x, Convolution((3, 3), 1, sides), "relu")
    for block, inputs, out, stride in config.layout():
        z = layers.convolve(f"{block}.conv1", x, Convolution((3, 3), stride, sides), "relu")
        z = layers.convolve(f"{block}.conv2", z, Convolution((3, 3), 1, sides), None)
        if (inputs, stride) != (out, 1):
            before = (out - inputs) // 2
            kept = x[:, :, ::stride, ::stride]
            x = F.pad(kept, (0, 0, 0, 0, before, out - inputs - before))
        x = F.relu(x + z)
    return layers.linear("fc", x.mean((2, 3)))


def _efficientnet(config: EfficientnetConfig, ops: TorchOps, p: Parameters, x: Tensor) -> Tensor:
    """Inverted residuals with squeeze-and-excite."""
    layers, f = _Layers(ops, p), config.activation
    x = _same(layers, "_conv_stem", x, 3, config.stem_stride, f)
    for block in config.blocks():
        inner = x
        if block.expands:
            inner = _same(layers, f"{block.name}._expand_conv", x, 1, 1, f)
        name = f"{block.name}._depthwise_conv"
        inner = _same(layers, name, inner, block.kernel, block.stride, f, block.inner)
        if config.squeeze:
            inner = _squeeze_excite(layers, block, inner)
        z = _same(layers, f"{block.name}._project_conv", inner, 1, 1, None)
        x = z + x if block.stride == 1 and block.inputs == block.out else z
    x = _same(layers, "_conv_head", x, 1, 1, f)
    return layers.linear("_fc", x.mean((2, 3)))


def _squeeze_excite(layers: _Layers, block: Block, x: Tensor) -> Tensor:
    gate = layers.linear(f"{block.name}._se_reduce", x.mean((2, 3)), "silu")
    gate = layers.linear(f"{block.name}._se_expand", gate, "sigmoid")
    pixels = x.permute(0, 2, 3, 1)
    gates = gate[:, None, None].expand_as(pixels)
    return layers.multiply(f"{block.name}._se_scale", pixels, gates).permute(0, 3, 1, 2)


def _same(
    layers: _Layers, name: str, x: Tensor, kernel: int, stride: int, f: Activation, groups: int = 1
) -> Tensor:
    """Convolve with the zero padding that keeps ceil(size / stride) pixels."""
    padding = same_padding((x.shape[2], x.shape[3]), kernel, stride)
    return layers.convolve(name, x, Convolution((kernel, kernel), stride, padding, groups), f)

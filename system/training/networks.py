"""The networks of system/models in torch, with every product going through an `ops` object.

The same forward functions serve float training (`FloatOps`) and noise-aware fine-tuning
(`system.training.naf.NoisyOps`); parameters are flat dictionaries with the checkpoint's names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from circuits.errors import ParameterError
from system.models.ops import Activation
from system.models.patches import Convolution

Parameters = dict[str, Tensor]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    None: lambda z: z,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
}


class TorchOps(Protocol):
    """What a network asks of its arithmetic; shapes as in `system.models.ops.Ops`."""

    def linear(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation
    ) -> Tensor:
        """Return f(x W^T + b) for x (..., in), weight (out, in)."""

    def convolve(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor, shape: Convolution,
        activation: Activation,
    ) -> Tensor:  # fmt: skip
        """Return f(x * W + b) for images x (B, C, H, W), weight (out, C / groups, kh, kw)."""

    def multiply(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Return the element-wise product of two activations."""

    def attention(
        self, name: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return causal attention for q (B, H, T, D), k and v (B, H_kv, T, D).

        With a mask (B, T): attention to both sides, where it is true.
        """


class FloatOps:
    """Plain float32 arithmetic."""

    def linear(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation
    ) -> Tensor:
        """Return f(x W^T + b)."""
        return ACTIVATIONS[activation](F.linear(x, weight, bias))

    def convolve(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor, shape: Convolution,
        activation: Activation,
    ) -> Tensor:  # fmt: skip
        """Return f(x * W + b)."""
        return ACTIVATIONS[activation](convolve(x, weight, bias, shape))

    def multiply(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Return a * b."""
        return a * b

    def attention(
        self, name: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return softmax(q k^T / sqrt(d)) v."""
        repeat = q.shape[1] // k.shape[1]
        k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
        seen = None if mask is None else mask[:, None, None]
        return F.scaled_dot_product_attention(q, k, v, seen, is_causal=mask is None)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, shape: Convolution) -> Tensor:
    """Return x * W + b for images (B, C, H, W)."""
    top, bottom, left, right = shape.padding
    padded = F.pad(x, (left, right, top, bottom))
    return F.conv2d(padded, weight, bias, shape.stride, groups=shape.groups)


def conv2d(
    ops: TorchOps,
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
    padding: int,
) -> Tensor:
    """Convolve by im2col, so that the layer is one matrix product as on the tiles."""
    batch, _, height, width = x.shape
    out, kernel = weight.shape[0], weight.shape[-1]
    columns = F.unfold(x, kernel, padding=padding).transpose(1, 2)  # (B, H*W, C*k*k)
    z = ops.linear(name, columns, weight.reshape(out, -1), bias, activation)
    side = (height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1)
    return z.transpose(1, 2).reshape(batch, out, *side)


def lenet(ops: TorchOps, p: Parameters, images: Tensor) -> Tensor:
    """LeNet-5: images (batch, 1, 28, 28) in [0, 1] -> logits (batch, 10)."""
    x = conv2d(ops, "conv1", images, p["conv1.weight"], p["conv1.bias"], "relu", padding=2)
    x = F.max_pool2d(x, 2)
    x = conv2d(ops, "conv2", x, p["conv2.weight"], p["conv2.bias"], "relu", padding=0)
    x = F.max_pool2d(x, 2).flatten(1)
    x = ops.linear("fc1", x, p["fc1.weight"], p["fc1.bias"], "relu")
    x = ops.linear("fc2", x, p["fc2.weight"], p["fc2.bias"], "relu")
    return ops.linear("fc3", x, p["fc3.weight"], p["fc3.bias"], None)


LENET_SHAPES = {
    "conv1": (6, 1, 5, 5),
    "conv2": (16, 6, 5, 5),
    "fc1": (120, 400),
    "fc2": (84, 120),
    "fc3": (10, 84),
}


def initial_lenet(seed: int) -> Parameters:
    """Kaiming-uniform initial parameters, as torch's own layers use."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, shape in LENET_SHAPES.items():
        bound = torch.tensor(shape[1:]).prod().item() ** -0.5
        for key, size in (("weight", shape), ("bias", shape[:1])):
            value = torch.empty(size).uniform_(-bound, bound, generator=generator)
            parameters[f"{name}.{key}"] = value.requires_grad_()
    return parameters


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square normalisation over the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, theta: float) -> Tensor:
    """Rotary position embedding, half-rotation convention, x (B, H, T, D)."""
    length, size = x.shape[-2:]
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency  # (T, D/2)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def llama(ops: TorchOps, p: Parameters, config: dict[str, int | float], tokens: Tensor) -> Tensor:
    """Llama decoder: tokens (batch, time) -> logits (batch, time, vocabulary).

    Raises
    ------
    ParameterError
        It has Dynamic Tanh in place of RMSNorm.
    """
    if config.get("normalization", "rms") != "rms":
        raise ParameterError(
            "a Llama with Dynamic Tanh runs in every mode, but is not trained here"
        )
    eps = float(config["rms_norm_eps"])
    x = F.embedding(tokens, p["model.embed_tokens.weight"])
    for i in range(int(config["num_hidden_layers"])):
        prefix = f"model.layers.{i}"
        h = rms_norm(x, p[f"{prefix}.input_layernorm.weight"], eps)
        x = x + _self_attention(ops, p, config, prefix, h)
        h = rms_norm(x, p[f"{prefix}.post_attention_layernorm.weight"], eps)
        x = x + _feed_forward(ops, p, prefix, h)
    x = rms_norm(x, p["model.norm.weight"], eps)
    return ops.linear("lm_head", x, p["model.embed_tokens.weight"], None, None)


def _self_attention(
    ops: TorchOps, p: Parameters, config: dict[str, int | float], prefix: str, h: Tensor
) -> Tensor:
    batch, time, _ = h.shape
    heads, groups = int(config["num_attention_heads"]), int(config["num_key_value_heads"])

    def project(name: str, count: int) -> Tensor:
        key = f"{prefix}.self_attn.{name}"
        return ops.linear(key, h, p[f"{key}.weight"], None, None).view(batch, time, count, -1)

    q = rotate(project("q_proj", heads).transpose(1, 2), float(config["rope_theta"]))
    k = rotate(project("k_proj", groups).transpose(1, 2), float(config["rope_theta"]))
    v = project("v_proj", groups).transpose(1, 2)
    mixed = ops.attention(f"{prefix}.self_attn", q, k, v).transpose(1, 2).flatten(2)
    key = f"{prefix}.self_attn.o_proj"
    return ops.linear(key, mixed, p[f"{key}.weight"], None, None)


def _feed_forward(ops: TorchOps, p: Parameters, prefix: str, h: Tensor) -> Tensor:
    gate_key, up_key, down_key = (f"{prefix}.mlp.{n}_proj" for n in ("gate", "up", "down"))
    gate = ops.linear(gate_key, h, p[f"{gate_key}.weight"], None, "silu")
    up = ops.linear(up_key, h, p[f"{up_key}.weight"], None, None)
    product = ops.multiply(f"{prefix}.mlp.product", gate, up)
    return ops.linear(down_key, product, p[f"{down_key}.weight"], None, None)


def llama_shapes(config: dict[str, int | float]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, Hugging Face names."""
    d, ffn = int(config["hidden_size"]), int(config["intermediate_size"])
    kv = d // int(config["num_attention_heads"]) * int(config["num_key_value_heads"])
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (int(config["vocab_size"]), d),
        "model.norm.weight": (d,),
    }
    for i in range(int(config["num_hidden_layers"])):
        prefix = f"model.layers.{i}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (d,),
            f"{prefix}.post_attention_layernorm.weight": (d,),
            f"{prefix}.self_attn.q_proj.weight": (d, d),
            f"{prefix}.self_attn.k_proj.weight": (kv, d),
            f"{prefix}.self_attn.v_proj.weight": (kv, d),
            f"{prefix}.self_attn.o_proj.weight": (d, d),
            f"{prefix}.mlp.gate_proj.weight": (ffn, d),
            f"{prefix}.mlp.up_proj.weight": (ffn, d),
            f"{prefix}.mlp.down_proj.weight": (d, ffn),
        }
    return shapes


def initial_llama(config: dict[str, int | float], seed: int) -> Parameters:
    """Normal initial weights of standard deviation 0.02, residual outputs scaled by depth."""
    generator = torch.Generator().manual_seed(seed)
    depth = (2 * int(config["num_hidden_layers"])) ** -0.5
    parameters = {}
    for name, shape in llama_shapes(config).items():
        if len(shape) == 1:
            value = torch.ones(shape)
        else:
            scale = 0.02 * (depth if "o_proj" in name or "down_proj" in name else 1.0)
            value = torch.randn(shape, generator=generator) * scale
        parameters[name] = value.requires_grad_()
    return parameters

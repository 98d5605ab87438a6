"""Noise-aware fine-tuning through the very models that inference uses.

The forward pass of a training step is the inference engine on a freshly programmed chip: IR drop,
cell non-linearity, programming and read noise, noisy ACAM thresholds, 8-bit codes, products by
log codes. The backward pass is that of the float network, evaluated at the noisy operating point
and cut where a converter saturates (straight-through estimator).

Beyond the published procedure (crossbar noise only in the network, ACAM noise per function) both
noises are seen by the network's weights at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from behavioral.library import Library
from system.calibration import Ranges
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.models.groups import bundles
from system.models.ops import Activation
from system.models.patches import Convolution
from system.quantization import Mapping, block_scale
from system.training import networks, pretraining
from system.training.kept import KeptTraining, State

WEIGHT_NORM = 1e-2  # factor of the largest-weight penalty, as in the published training


def _slope(z: Tensor, activation: Activation) -> Tensor:
    """Return the derivative of the activation."""
    if activation == "relu":
        return (z > 0).to(z.dtype)
    if activation == "relu6":
        return ((z > 0) & (z < 6)).to(z.dtype)
    if activation == "sigmoid":
        s = torch.sigmoid(z)
        return s * (1 - s)
    if activation == "silu":
        s = torch.sigmoid(z)
        return s * (1 + z * (1 - s))
    if activation == "gelu":
        slope: Tensor = torch.special.ndtr(z) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return slope
    return torch.ones_like(z)


class _Linear(torch.autograd.Function):
    """Forward on tiles; backward of the float layer where no converter saturates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: AnalogLinear) -> Tensor:
        """Run the layer as inference does; x (n, in), weight (out, in), bias (out,)."""
        ctx.save_for_backward(x, weight, bias)
        ctx.layer = layer
        return torch.from_numpy(layer.forward(x.numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of x, weight and bias."""
        x, weight, bias = ctx.saved_tensors
        spec = ctx.layer.spec
        y = x @ weight.T
        scale = torch.from_numpy(block_scale(x.numpy(), spec.norm)) if spec.blocks else 1.0
        seen = y / scale  # what the read-out range holds
        inside = (seen >= torch.from_numpy(spec.y_lo)) & (seen <= torch.from_numpy(spec.y_hi))
        g = gradients[0] * _slope(y + bias, spec.activation) * inside
        low, high = (spec.codes.scale * (c - spec.codes.zero) for c in (0, spec.codes.top))
        drive = x / scale
        if spec.smoothing is not None:
            drive = drive / torch.from_numpy(spec.smoothing)
        g_x = (g @ weight) * ((drive >= low) & (drive <= high))
        return g_x, g.T @ x, g.sum(0), None


class _Convolution(torch.autograd.Function):
    """Forward on tiles; backward of the float convolution where the read-out does not saturate."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shape: Convolution,
        activation: Activation, ops: AnalogOps, name: str,
    ) -> Tensor:  # fmt: skip
        """Run the layer as inference does; x (B, C, H, W), weight (out, C / groups, kh, kw)."""
        ctx.save_for_backward(x, weight, bias)
        ctx.shape, ctx.activation = shape, activation
        out = torch.from_numpy(ops.convolve(name, x.contiguous().numpy(), shape, activation))
        parts = [name]
        if shape.groups > 1:
            cut = bundles(weight.numpy(), shape.groups, ops.hardware.tile_rows)
            parts = [f"{name}[{i}]" for i, _ in enumerate(cut)]
        specs = [ops.layer(part, activation).spec for part in parts]
        ctx.ends = [np.concatenate([getattr(s, end) for s in specs]) for end in ("y_lo", "y_hi")]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors[:2]]
        bias = ctx.saved_tensors[2]
        low, high = (torch.from_numpy(end)[:, None, None] for end in ctx.ends)
        with torch.enable_grad():
            y = networks.convolve(leaves[0], leaves[1], None, ctx.shape)
        z = y.detach() + bias[:, None, None]
        inside = (y.detach() >= low) & (y.detach() <= high)
        g = gradients[0] * _slope(z, ctx.activation) * inside
        g_x, g_weight = torch.autograd.grad(y, leaves, g)
        return g_x, g_weight, g.sum((0, 2, 3)), None, None, None, None


class _Product(torch.autograd.Function):
    """Forward by log codes; backward of the exact product."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, ops: AnalogOps, name: str) -> Tensor:
        """Return the analog a * b."""
        ctx.save_for_backward(a, b)
        return torch.from_numpy(ops.multiply(name, a.numpy(), b.numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients of a and b."""
        a, b = ctx.saved_tensors
        return gradients[0] * b, gradients[0] * a, None, None


class _Attention(torch.autograd.Function):
    """Forward by log codes; backward of exact attention at the same operands."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, ops: AnalogOps, name: str
    ) -> Tensor:
        """Return the analog attention; q (B, H, T, D), k and v (B, H_kv, T, D), mask (B, T)."""
        ctx.save_for_backward(q, k, v)
        ctx.mask = mask
        exact = [t.contiguous().numpy() for t in (q, k, v)]
        seen = None if mask is None else mask.numpy()
        return torch.from_numpy(ops.attention(name, exact[0], exact[1], exact[2], None, seen))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k and v."""
        leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            out = networks.FloatOps().attention("", leaves[0], leaves[1], leaves[2], ctx.mask)
        return (*torch.autograd.grad(out, leaves, gradients[0]), None, None, None)


class NoisyOps:
    """`TorchOps` on one programmed chip."""

    def __init__(self, analog: AnalogOps):
        self.analog = analog

    def linear(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation
    ) -> Tensor:
        """Return f(x W^T + b) from crossbars and ACAM units."""
        layer = self.analog.layer(name, activation)
        flat = x.reshape(-1, x.shape[-1])
        shift = torch.zeros(len(weight)) if bias is None else bias
        out: Tensor = _Linear.apply(flat, weight, shift, layer)  # type: ignore[no-untyped-call]
        return out.reshape(*x.shape[:-1], -1)

    def convolve(
        self, name: str, x: Tensor, weight: Tensor, bias: Tensor, shape: Convolution,
        activation: Activation,
    ) -> Tensor:  # fmt: skip
        """Return f(x * W + b) from crossbars and ACAM units."""
        out: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            x, weight, bias, shape, activation, self.analog, name
        )
        return out

    def multiply(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Return a * b by log codes."""
        out: Tensor = _Product.apply(a, b, self.analog, name)  # type: ignore[no-untyped-call]
        return out

    def attention(
        self, name: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return attention by log codes."""
        out: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            q, k, v, mask, self.analog, name
        )
        return out


def arrays(parameters: networks.Parameters) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the current parameters as numpy arrays; a tied output projection is added."""
    tensors = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    if "model.embed_tokens.weight" in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    return tensors


class ChipMaker:
    """Programs a fresh chip from the current weights every few steps.

    Parameters
    ----------
    parameters : the weights in training
    measure : callable
        Returns the ranges of the current weights, measured in float.
    library, mapping, seed : what the chips are made of
    refresh : steps one chip serves
    remeasure : steps between two measurements of the ranges

    Attributes
    ----------
    hardware : models of the chips to come.
    ranges : of the codes, as measured last.
    """

    def __init__(
        self,
        parameters: networks.Parameters,
        measure: Callable[[dict[str, Any]], Ranges],
        library: Library,
        mapping: Mapping,
        seed: int,
        refresh: int,
        remeasure: int = 200,
    ):
        self._parameters, self._measure = parameters, measure
        self.hardware = Hardware(library, mapping)
        self._seed, self._refresh, self._remeasure = seed, refresh, remeasure
        self.ranges: Ranges = {}
        self._programmed: dict[str, Any] = {}  # the weights of the chip in use
        self._ops: NoisyOps | None = None

    def chip(self, step: int) -> NoisyOps:
        """Return the arithmetic of a step; steps follow each other."""
        if step % self._refresh == 0:
            self._programmed, self._ops = arrays(self._parameters), None
            if step % self._remeasure == 0:
                self.ranges = self._measure(self._programmed)
        if self._ops is None:
            self._ops = self._program(Chip(self._seed, 1_000_000 + step // self._refresh))
        return self._ops

    def _program(self, chip: Chip) -> NoisyOps:
        """Program the weights as they were when the chip's turn began."""
        return NoisyOps(AnalogOps(self._programmed, self.ranges, self.hardware, chip))

    def state_dict(self) -> State:
        """Return the ranges, and the weights that the chip in use was programmed with."""
        both = {"ranges": self.ranges, "programmed": self._programmed}
        return {key: {k: torch.from_numpy(v) for k, v in d.items()} for key, d in both.items()}

    def load_state_dict(self, state: State) -> None:
        """Take a state up again; the chip in use is programmed anew, with the same draws."""
        ranges, programmed = (
            {k: v.numpy() for k, v in state[key].items()} for key in ("ranges", "programmed")
        )
        self.ranges, self._programmed, self._ops = ranges, programmed, None


def largest_weights(parameters: networks.Parameters) -> Tensor:
    """Sum of each matrix's largest weight over its standard deviation: spread weights use g_max.

    The published penalty is the largest weight itself; relative to the standard deviation it does
    not shrink a layer as a whole, which would change nothing on the tiles.
    """
    matrices = [p for name, p in parameters.items() if p.ndim > 1]
    return torch.stack([p.abs().max() / p.detach().std() for p in matrices]).mean()


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the float network's prediction."""
    flat, target = logits.flatten(0, -2), teacher.flatten(0, -2)
    return F.kl_div(
        F.log_softmax(flat, -1), F.log_softmax(target, -1), log_target=True, reduction="batchmean"
    )


def tune_lenet(
    parameters: networks.Parameters,
    images: np.ndarray[Any, np.dtype[np.uint8]],
    labels: np.ndarray[Any, np.dtype[np.uint8]],
    maker: ChipMaker,
    *,
    steps: int,
    rate: float = 5e-4,
    seed: int = 1234,
    kept: KeptTraining | None = None,
) -> None:
    """Fine-tune LeNet-5 in place on freshly programmed chips."""
    targets = torch.from_numpy(labels.astype(np.int64))

    def loss_of_step(step: int) -> Tensor:
        index = pretraining.image_batch(len(images), 128, seed, step)
        batch = pretraining.shifted(images[index], seed + step)
        logits = networks.lenet(maker.chip(step), parameters, batch)
        return F.cross_entropy(logits, targets[index]) + WEIGHT_NORM * largest_weights(parameters)

    pretraining.optimize(
        parameters, loss_of_step, steps=steps, rate=rate, label="naf lenet", kept=kept,
        companion=maker,
    )  # fmt: skip


def tune_llama(
    parameters: networks.Parameters,
    config: dict[str, Any],
    tokens: np.ndarray[Any, np.dtype[np.int64]],
    maker: ChipMaker,
    *,
    steps: int,
    rate: float = 5e-4,
    batch: int = 8,
    length: int = 128,
    seed: int = 1234,
    kept: KeptTraining | None = None,
) -> None:
    """Fine-tune a Llama in place on freshly programmed chips; the float start is the teacher."""
    teacher = {name: p.detach().clone() for name, p in parameters.items()}
    exact = networks.FloatOps()

    def loss_of_step(step: int) -> Tensor:
        windows = pretraining.text_batch(tokens, batch, length, seed + 7_000_000 + step)
        logits = networks.llama(maker.chip(step), parameters, config, windows[:, :-1])
        with torch.no_grad():
            target = networks.llama(exact, teacher, config, windows[:, :-1])
        loss = 0.5 * pretraining.next_token_loss(logits, windows)
        loss = loss + 0.5 * distillation(logits, target)
        return loss + WEIGHT_NORM * largest_weights(parameters)

    pretraining.optimize(
        parameters, loss_of_step, steps=steps, rate=rate, label="naf llama", kept=kept,
        companion=maker,
    )  # fmt: skip

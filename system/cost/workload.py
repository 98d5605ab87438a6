"""What one inference asks of the hardware: layers with their counts, from shapes alone."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path

from system.models.lenet import SHAPES
from system.models.llama import LlamaConfig
from system.models.ops import Activation

CODE_BITS = 8
LOG_BITS = 9  # a cached key or value: a log code and its sign


@dataclass(frozen=True)
class Layer:
    """Counts of one layer for one inference, or for one token or prompt.

    Attributes
    ----------
    name : str
    kind : {"linear", "products", "digital"}
        Static weights on crossbars, products of two activations on ACAM units, or vector unit.
    inputs, outputs, vectors : size of the weight matrix, and input vectors it multiplies.
    activation : function in the ACAM units.
    logs, exps : searches of log and exp units.
    adds, multiplies, compares, scales : digital operations; `scales` are code conversions.
    buffer_bits : bits read from and written to the tile's buffer beside codes in and out.
    width : values that the vector unit or the product units work on side by side.
    heads : of an attention block.
    macs : multiply-accumulates of the layer.
    carry_bits : what a cut behind this layer sends to the next chip.
    stage : layers of one stage work side by side on the same input; empty: a stage of its own.
    """

    name: str
    kind: str
    inputs: int = 0
    outputs: int = 0
    vectors: int = 0
    activation: Activation = None
    logs: float = 0.0
    exps: float = 0.0
    adds: float = 0.0
    multiplies: float = 0.0
    compares: float = 0.0
    scales: float = 0.0
    buffer_bits: float = 0.0
    width: int = 1
    heads: int = 0
    macs: float = 0.0
    carry_bits: float = 0.0
    stage: str = ""


@dataclass(frozen=True)
class Attention:
    """One attention block.

    Attributes
    ----------
    heads, groups, size : query heads, key heads, and channels of a head.
    time : new tokens.
    pairs : of a query and a key that it sees.
    """

    heads: int
    groups: int
    size: int
    time: int
    pairs: int


@dataclass(frozen=True)
class Workload:
    """The layers of one inference in the order they run.

    Attributes
    ----------
    what : "image", "text", "token" or "prompt".
    items : what passes through the pipeline one by one: 1, or the tokens of a prompt.
    weight_bytes, state_bytes : 8-bit weights, and keys and values that are read (for the GPU).
    missing : work of this network that the layers do not hold.
    """

    what: str
    items: int
    layers: tuple[Layer, ...]
    weight_bytes: float
    state_bytes: float = 0.0
    missing: str = ""

    @property
    def macs(self) -> float:
        """Multiply-accumulates of the whole inference."""
        return sum(layer.macs for layer in self.layers)


def linear(
    name: str,
    inputs: int,
    outputs: int,
    vectors: int,
    activation: Activation,
    carry: float,
    stage: str = "",
) -> Layer:
    """Return a layer with static weights; inputs and outputs change scale once each."""
    return Layer(
        name,
        "linear",
        inputs,
        outputs,
        vectors,
        activation,
        scales=float((inputs + outputs) * vectors),
        width=outputs,
        macs=float(inputs) * outputs * vectors,
        carry_bits=carry,
        stage=stage,
    )


def lenet() -> Workload:
    """Return LeNet-5 on one image."""
    vectors = {"conv1": 28 * 28, "conv2": 10 * 10}
    layers = []
    for name in ("conv1", "conv2", "fc1", "fc2", "fc3"):
        outputs, *rest = SHAPES[f"{name}.weight"]
        count = vectors.get(name, 1)
        carry = float(outputs * count * CODE_BITS)
        activation: Activation = None if name == "fc3" else "relu"
        layers.append(linear(name, math.prod(rest), outputs, count, activation, carry))
        if name in vectors:
            pooled = outputs * count / 4
            pool = Layer(f"pool{name[-1]}", "digital", compares=3 * pooled, width=outputs)
            layers.append(pool)
    return Workload("image", 1, tuple(layers), sum(x.inputs * x.outputs for x in layers))


def classifier(
    weights: Mapping[str, tuple[int, int]],
    activations: Mapping[str, Activation],
    vectors: Mapping[str, int],
    products: Mapping[str, int],
    images: int,
    *,
    seen_inputs: Mapping[str, int] | None = None,
    attentions: Mapping[str, Attention] | None = None,
) -> Workload:
    """Return a network on one image or text, from what a recording of some of them saw.

    Parameters
    ----------
    weights : outputs and inputs of each layer, in the order they ran.
    activations : of each layer.
    vectors, products : input vectors of each layer, and element-wise products of each block.
    images : recorded.
    seen_inputs : of each layer, inputs that an output depends on; default: all.
    attentions : blocks, summed over the recorded texts.
    """
    layers, seen_inputs = [], seen_inputs or {}
    for name, (outputs, inputs) in weights.items():
        count = vectors[name] // images
        carry = float(outputs * count * CODE_BITS)
        stage = name.partition("[")[0]  # bundles of one grouped convolution
        layer = linear(name, inputs, outputs, count, activations[name], carry, stage)
        macs = float(seen_inputs.get(name, inputs)) * outputs * count
        layers.append(replace(layer, macs=macs))
    stored = sum(outputs * seen_inputs.get(n, inputs) for n, (outputs, inputs) in weights.items())
    layers += [_product(name, count // images, 1) for name, count in products.items()]
    for name, block in (attentions or {}).items():
        one = replace(block, time=block.time // images, pairs=block.pairs // images)
        layers.append(_attention(name, one))
    missing = "normalisation, pooling and residual additions of this network"
    what = "text" if attentions else "image"
    return Workload(what, 1, tuple(layers), stored, missing=missing)


def llama(config: LlamaConfig, what: str, sequence: int, word_bits: float = 16) -> Workload:
    """Return one token at the end of a sequence, or a whole prompt of that length.

    Parameters
    ----------
    what : "token" or "prompt"
    sequence : tokens in the context, the new ones included.
    word_bits : bits of a value of the residual stream.
    """
    time = 1 if what == "token" else sequence
    pairs = sequence if what == "token" else sequence * (sequence + 1) // 2
    block = _block(config, time, pairs, word_bits)
    layers = [
        replace(
            layer,
            name=f"model.layers.{i}.{layer.name}",
            stage=layer.stage and f"model.layers.{i}.{layer.stage}",
        )
        for i in range(config.num_hidden_layers)
        for layer in block
    ]
    width, carry = config.hidden_size, config.hidden_size * word_bits
    layers.append(_norm("model.norm", width, 1))
    # Only the last token's prediction is wanted; choosing it compares all logits.
    layers.append(linear("lm_head", width, config.vocab_size, 1, None, carry))
    layers.append(
        Layer("choice", "digital", compares=float(config.vocab_size), width=config.vocab_size)
    )
    weights = float(sum(x.inputs * x.outputs for x in layers))
    state = 2.0 * pairs * config.num_key_value_heads * config.head_dim * config.num_hidden_layers
    reads = state if what == "token" else state / max(1, (sequence + 1) / 2)
    return Workload(what, time, tuple(layers), weights, reads)


def _block(config: LlamaConfig, time: int, pairs: int, word_bits: float) -> list[Layer]:
    """Return one decoder block for `time` new tokens that see `pairs` tokens in total."""
    width, inner, size = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    carry = float(width * time * word_bits)

    def project(
        name: str, inputs: int, outputs: int, stage: str = "", activation: Activation = None
    ) -> Layer:
        return linear(name, inputs, outputs, time, activation, carry, stage)

    def residual(name: str) -> Layer:
        return Layer(name, "digital", adds=float(width * time), width=width)

    return [
        _norm("input_layernorm", width, time),
        project("self_attn.q_proj", width, queries, "self_attn.qkv"),
        project("self_attn.k_proj", width, keys, "self_attn.qkv"),
        project("self_attn.v_proj", width, keys, "self_attn.qkv"),
        _rotary(queries + keys, time),
        _attention(
            "self_attn",
            Attention(config.num_attention_heads, config.num_key_value_heads, size, time, pairs),
        ),
        project("self_attn.o_proj", queries, width),
        residual("self_attn.residual"),
        _norm("post_attention_layernorm", width, time),
        project("mlp.gate_proj", width, inner, "mlp.gate_up", "silu"),
        project("mlp.up_proj", width, inner, "mlp.gate_up"),
        _product("mlp.product", inner, time),
        project("mlp.down_proj", inner, width),
        residual("mlp.residual"),
    ]


def _norm(name: str, width: int, time: int) -> Layer:
    """RMSNorm: square, sum, scale, weight; one root and one division a vector count as products."""
    count = float(width * time)
    return Layer(name, "digital", adds=count, multiplies=3 * count + 2 * time, width=width)


def _rotary(values: int, time: int) -> Layer:
    """Two products and one addition a value."""
    count = float(values * time)
    return Layer("self_attn.rotary", "digital", adds=count, multiplies=2 * count, width=values)


def _product(name: str, width: int, time: int) -> Layer:
    count = float(width * time)
    return Layer(
        name, "products", logs=2 * count, exps=count, adds=count, scales=3 * count, width=width,
        macs=count,
    )  # fmt: skip


def _attention(name: str, block: Attention) -> Layer:
    """QK^T, softmax, attention x V: one exp search a product, one log search an operand.

    Softmax: compare, subtract, exp and add for each score, a log for each row, a subtraction for
    each score (`docs/method.md` 3). Two additions a product: of the logs, and into the sum.
    """
    heads, groups, size, time, pairs = (getattr(block, f.name) for f in fields(block))
    products, scores = 2.0 * pairs * heads * size, float(pairs * heads)
    operands = float((heads + 2 * groups) * size * time)
    cache = 2.0 * groups * size * LOG_BITS
    return Layer(
        name,
        "products",
        logs=operands + heads * time,
        exps=products + scores,
        adds=2 * products + 3 * scores,
        compares=scores,
        scales=operands + scores + heads * size * time,
        buffer_bits=cache * (pairs + time),
        width=heads * size,
        heads=heads,
        macs=products,
    )


def shaped() -> dict[str, LlamaConfig]:
    """Return the models known by their shapes alone."""
    path = Path(str(files("system.cost"))) / "shapes.toml"
    table: Mapping[str, dict[str, object]] = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: LlamaConfig.from_dict({"model_type": "llama", **shape})
        for name, shape in table.items()
    }

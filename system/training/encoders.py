"""A small BERT that classifies sentences: trained from nothing, then fine-tuned on chips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from system.data import sentences
from system.models.bert import BertConfig
from system.training import naf, networks, pretraining
from system.training.kept import KeptTraining
from system.training.networks import Parameters, TorchOps

BERT_TINY: dict[str, Any] = {  # the shape of Turc et al., arXiv:1908.08962; fewer words and places
    "model_type": "bert",
    "vocab_size": 4096,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 128,
    "type_vocab_size": 1,
    "pooling": "mean",
    "classes": 2,
    "dataset": sentences.NAME,
}
BATCH = 64
UNKNOWN = 0  # token
FORGOTTEN = 0.3  # share of the tokens of a training sentence that are taken for unknown
POOL = 16  # batches drawn at once and sorted by length, where batches are of like lengths


def forward(config: BertConfig, ops: TorchOps, p: Parameters, tokens: Tensor) -> Tensor:
    """Return logits (B, classes) for tokens (B, T), -1 beyond the end of a text."""
    mask, ids = tokens >= 0, tokens.clamp(min=0)
    x = p["embeddings.word_embeddings.weight"][ids]
    x = x + p["embeddings.token_type_embeddings.weight"][0]
    x = x + p["embeddings.position_embeddings.weight"][: ids.shape[1]]

    def normalize(name: str, y: Tensor) -> Tensor:
        weight, bias = (p[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(y, y.shape[-1:], weight, bias, config.layer_norm_eps)

    def linear(name: str, y: Tensor, activation: Any = None) -> Tensor:
        return ops.linear(name, y, p[f"{name}.weight"], p[f"{name}.bias"], activation)

    def heads(name: str, y: Tensor) -> Tensor:
        return linear(name, y).view(*y.shape[:2], config.num_attention_heads, -1).transpose(1, 2)

    x = normalize("embeddings", x)
    for layer in (f"encoder.layer.{i}" for i in range(config.num_hidden_layers)):
        own = f"{layer}.attention.self"
        q, k, v = (heads(f"{own}.{part}", x) for part in ("query", "key", "value"))
        mixed = ops.attention(own, q, k, v, mask).transpose(1, 2).flatten(2)
        mixed = linear(f"{layer}.attention.output.dense", mixed)
        x = normalize(f"{layer}.attention.output", x + mixed)
        inner = linear(f"{layer}.intermediate.dense", x, "gelu")
        x = normalize(f"{layer}.output", x + linear(f"{layer}.output.dense", inner))
    weights = mask.to(x.dtype)[:, :, None]
    return linear("classifier", (x * weights).sum(1) / weights.sum(1))


def initial(config: BertConfig, seed: int) -> Parameters:
    """Return normal initial weights of standard deviation 0.02, as BERT's; biases of zero."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, shape in config.shapes().items():
        value = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        if len(shape) > 1:
            value = torch.randn(shape, generator=generator) * 0.02
        parameters[name] = value.requires_grad_()
    return parameters


def batches(
    tokens: NDArray[np.int64], labels: NDArray[np.int64], seed: int, *, size: int = BATCH,
    forgotten: float = FORGOTTEN, unknown: int = UNKNOWN, alike: bool = False,
) -> Callable[[int], tuple[Tensor, Tensor]]:  # fmt: skip
    """Return what gives a step's sentences and labels; some tokens are forgotten each time.

    Parameters
    ----------
    tokens, labels : (n, longest), -1 beyond each end, and (n,).
    seed : of the order and of what is forgotten.
    size : sentences of a step.
    forgotten : share of the tokens that are taken for `unknown`.
    alike : sentences of a step are of like lengths: little is filled up.
    """
    lengths = (tokens >= 0).sum(axis=1)

    def draw(step: int) -> NDArray[np.int64]:
        return pretraining.image_batch(len(tokens), size, seed, step)

    def draw_alike(step: int) -> NDArray[np.int64]:
        pool, place = divmod(step, POOL)
        drawn = np.concatenate([draw(pool * POOL + k) for k in range(POOL)])
        by_length = drawn[np.argsort(lengths[drawn], kind="stable")].reshape(POOL, size)
        order = np.random.default_rng((seed, 2, pool)).permutation(POOL)
        return np.asarray(by_length[order[place]])

    def batch(step: int) -> tuple[Tensor, Tensor]:
        index = draw_alike(step) if alike else draw(step)
        chosen = tokens[index]
        chosen = chosen[:, : int(lengths[index].max())]
        lost = np.random.default_rng((seed, 1, step)).random(chosen.shape) < forgotten
        chosen = np.where(lost & (chosen >= 0), unknown, chosen)
        return torch.from_numpy(chosen), torch.from_numpy(labels[index])

    return batch


def pretrain(
    config: Mapping[str, Any],
    tokens: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    steps: int,
    seed: int,
    rate: float = 1e-3,
    kept: KeptTraining | None = None,
) -> Parameters:
    """Train in float32 on tokens (n, longest), -1 beyond each end, and labels (n,)."""
    shape, ops = BertConfig.from_dict(config), networks.FloatOps()
    parameters, batch = initial(shape, seed), batches(tokens, labels, seed)

    def loss_of_step(step: int) -> Tensor:
        texts, wanted = batch(step)
        return F.cross_entropy(forward(shape, ops, parameters, texts), wanted)

    pretraining.optimize(
        parameters, loss_of_step, steps=steps, rate=rate, weight_decay=0.1, label="bert", kept=kept
    )
    return parameters


def tune(
    config: Mapping[str, Any],
    parameters: Parameters,
    tokens: NDArray[np.int64],
    labels: NDArray[np.int64],
    maker: naf.ChipMaker,
    *,
    steps: int,
    seed: int,
    rate: float = 5e-5,
    kept: KeptTraining | None = None,
) -> None:
    """Fine-tune in place on freshly programmed chips; the float start is the teacher."""
    shape, exact = BertConfig.from_dict(config), networks.FloatOps()
    teacher = {name: p.detach().clone() for name, p in parameters.items()}
    on_tiles = {name: p for name, p in parameters.items() if not name.startswith("embeddings.")}
    batch = batches(tokens, labels, seed + 1)

    def loss_of_step(step: int) -> Tensor:
        texts, wanted = batch(step)
        logits = forward(shape, maker.chip(step), parameters, texts)
        with torch.no_grad():
            target = forward(shape, exact, teacher, texts)
        loss = 0.5 * F.cross_entropy(logits, wanted) + 0.5 * naf.distillation(logits, target)
        return loss + naf.WEIGHT_NORM * naf.largest_weights(on_tiles)

    pretraining.optimize(
        parameters, loss_of_step, steps=steps, rate=rate, label="naf", kept=kept, companion=maker
    )

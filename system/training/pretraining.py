"""Float training of the shipped networks from nothing: the start of noise-aware fine-tuning."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tqdm import tqdm

from circuits.errors import DataError
from system.training import networks
from system.training.kept import KeptTraining, Stateful

log = logging.getLogger(__name__)

LLAMA_CONFIG: dict[str, int | float] = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
}


def cosine(step: int, steps: int, warm_up: int) -> float:
    """Learning-rate factor: linear warm-up, then a cosine down to a tenth."""
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def optimize(
    parameters: networks.Parameters,
    loss_of_step: Callable[[int], torch.Tensor],
    *,
    steps: int,
    rate: float,
    weight_decay: float = 0.0,
    label: str = "train",
    kept: KeptTraining | None = None,
    companion: Stateful | None = None,
) -> None:
    """Run AdamW with a cosine schedule.

    Parameters
    ----------
    parameters : trained in place
    loss_of_step : builds the loss of step i, from i and the parameters alone.
    steps, rate, weight_decay : of the optimiser
    label : of the progress bar
    kept : where the state is kept; a training found there goes on, to the same bits.
    companion : what else changes from step to step, kept with it.
    """
    decayed = [p for p in parameters.values() if p.ndim > 1]
    plain = [p for p in parameters.values() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.95),
    )
    losses = [] if kept is None else kept.losses
    first = _resume(kept, parameters, optimizer, companion)
    bar = tqdm(
        range(first, steps), desc=label, initial=first, total=steps, disable=None, mininterval=1.0
    )
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(step, steps, warm_up=max(1, steps // 50))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of_step(step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
        value = float(loss.detach())
        losses.append(value)
        bar.set_postfix(loss=f"{value:.3f}")
        if step % 100 == 0:
            log.info("%s: step %d of %d, loss %.4f", label, step, steps, value)
        if kept is not None and kept.is_due(step + 1, steps):
            kept.save(
                step + 1,
                {
                    "parameters": {name: p.detach() for name, p in parameters.items()},
                    "optimizer": optimizer.state_dict(),
                    "companion": companion.state_dict() if companion is not None else {},
                    "losses": losses,
                },
            )


def _resume(
    kept: KeptTraining | None, parameters: networks.Parameters, optimizer: torch.optim.Optimizer,
    companion: Stateful | None,
) -> int:  # fmt: skip
    """Take up a kept state if there is one; return how many steps are done."""
    state = kept.load() if kept is not None else None
    if state is None:
        return 0
    for name, parameter in parameters.items():
        parameter.data.copy_(state["parameters"][name])
    optimizer.load_state_dict(state["optimizer"])
    if companion is not None:
        companion.load_state_dict(state["companion"])
    if kept is not None:
        kept.losses[:] = state["losses"]
    return int(state["done"])


def image_batch(count: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Return the indices of a step's batch; every epoch has a permutation of its own.

    Raises
    ------
    DataError
        There are fewer images than a batch takes.
    """
    if count < batch:
        raise DataError(f"{count} training images; a batch takes {batch}: give --data with more")
    epoch, place = divmod(step, count // batch)
    return _order(count, seed, epoch)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def shifted(images: NDArray[np.uint8], seed: int) -> torch.Tensor:
    """Return images as float (n, 1, 28, 28) in [0, 1], each moved by up to two pixels."""
    rng = np.random.default_rng(seed)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    moves = rng.integers(0, 5, size=(len(images), 2))
    moved = np.stack([p[r : r + 28, c : c + 28] for p, (r, c) in zip(padded, moves, strict=True)])
    return torch.from_numpy(moved.astype(np.float32) / 255.0)[:, None]


def train_lenet(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    steps: int = 4680,
    seed: int = 1234,
    kept: KeptTraining | None = None,
) -> networks.Parameters:
    """Train LeNet-5 in float32 on images (n, 28, 28), labels (n,)."""
    parameters = networks.initial_lenet(seed)
    targets = torch.from_numpy(labels.astype(np.int64))
    ops = networks.FloatOps()

    def loss_of_step(step: int) -> torch.Tensor:
        index = image_batch(len(images), 128, seed, step)
        logits = networks.lenet(ops, parameters, shifted(images[index], seed + step))
        return F.cross_entropy(logits, targets[index])

    optimize(
        parameters, loss_of_step, steps=steps, rate=2e-3, weight_decay=0.01, label="lenet",
        kept=kept,
    )  # fmt: skip
    return parameters


def text_batch(tokens: NDArray[np.int64], batch: int, length: int, seed: int) -> torch.Tensor:
    """Draw `batch` random windows of length + 1 tokens."""
    starts = np.random.default_rng(seed).integers(0, len(tokens) - length - 1, size=batch)
    return torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts]))


def next_token_loss(logits: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the next token; logits of windows[:, :-1]."""
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def train_llama(
    tokens: NDArray[np.int64],
    *,
    steps: int = 7000,
    batch: int = 16,
    length: int = 128,
    seed: int = 1234,
    kept: KeptTraining | None = None,
) -> networks.Parameters:
    """Train the small Llama in float32 on one long token sequence."""
    parameters = networks.initial_llama(LLAMA_CONFIG, seed)
    ops = networks.FloatOps()

    def loss_of_step(step: int) -> torch.Tensor:
        windows = text_batch(tokens, batch, length, seed + step)
        return next_token_loss(
            networks.llama(ops, parameters, LLAMA_CONFIG, windows[:, :-1]), windows
        )

    optimize(
        parameters,
        loss_of_step,
        steps=steps,
        rate=3e-3,
        weight_decay=0.1,
        label="llama",
        kept=kept,
    )
    return parameters

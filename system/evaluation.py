"""How good a network is: accuracy on images, perplexity on text."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from circuits.errors import DataError
from system.models.lenet import Lenet
from system.models.llama import Llama
from system.models.ops import Array, Ops

IMAGE_BATCH = 500
WINDOW = 256  # tokens a language model sees at once when it is scored


def accuracy(
    model: Lenet, ops: Ops, images: NDArray[np.uint8], labels: NDArray[np.uint8], label: str
) -> float:
    """Return the share of images (n, 28, 28) whose largest logit is the label's."""
    right = 0
    with tqdm(total=len(images), desc=label, unit="img", disable=None, leave=False) as bar:
        for start in range(0, len(images), IMAGE_BATCH):
            batch = slice(start, start + IMAGE_BATCH)
            logits = model.forward(images[batch], ops)
            right += int((logits.argmax(axis=1) == labels[batch]).sum())
            bar.update(len(logits))
    return right / len(images)


def text_windows(tokens: NDArray[np.int64], count: int, length: int = WINDOW) -> NDArray[np.int64]:
    """Return `count` windows of length + 1 tokens, spread evenly over a text.

    Raises
    ------
    DataError
        The text has fewer than length + 1 tokens.
    """
    room = len(tokens) - length - 1
    if room < 0:
        raise DataError(
            f"the text has {len(tokens)} tokens, a window needs {length + 1}; give a longer text "
            "with --data"
        )
    starts = np.unique(np.linspace(0, room, count).astype(np.int64))
    return np.stack([tokens[s : s + length + 1] for s in starts])


def perplexity(model: Llama, ops: Ops, windows: NDArray[np.int64], label: str) -> float:
    """Return exp of the mean next-token cross entropy over windows (n, length + 1) of tokens."""
    loss = 0.0
    for window in tqdm(windows, desc=label, unit="window", disable=None, leave=False):
        logits = model.forward(window[None, :-1], ops)[0]
        loss += cross_entropy(logits, window[1:])
    return math.exp(loss / len(windows))


def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> float:
    """Return the mean of -log softmax(logits)[target] over rows (n, vocabulary)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)) + top
    return float(np.mean(total - logits[np.arange(len(targets)), targets]))

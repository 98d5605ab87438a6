"""How good a network is: accuracy on images and sentences, perplexity on text."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from circuits.errors import DataError
from system.models.bert import Bert
from system.models.classifier import Classifier
from system.models.language import LanguageModel
from system.models.ops import Array, Ops

IMAGE_BATCH = 500
BATCH_VALUES = 400_000  # pixels and colours of a batch: large images run a few at a time
TOKEN_BATCH = 1024  # of sentences that run together
WINDOW = 256  # tokens a language model sees at once when it is scored


def image_batches(images: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """Yield images (n, ...) in batches that fit in memory."""
    size = max(1, min(IMAGE_BATCH, BATCH_VALUES // math.prod(images.shape[1:])))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def sentence_batches(tokens: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Yield the places of texts of equal length in tokens (n, longest), -1 beyond a text's end.

    Texts of one length run without filling up: no work is wasted, and no code range is measured
    on what is no text.
    """
    lengths = (tokens >= 0).sum(axis=1)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        size = max(1, TOKEN_BATCH // max(1, int(length)))
        for start in range(0, len(places), size):
            yield places[start : start + size]


def outputs(
    model: Classifier | Bert, ops: Ops, inputs: NDArray[np.generic], label: str = "infer"
) -> Array:
    """Return what a network makes of each input, (n, outputs).

    Parameters
    ----------
    model : classifier of images, or encoder of text.
    ops : the arithmetic.
    inputs : images (n, ...), or tokens (n, longest) with -1 beyond each text's end.
    label : of the progress bar.
    """
    found: list[Array] = []
    order: list[NDArray[np.intp]] = []
    with tqdm(total=len(inputs), desc=label, unit="inputs", disable=None, leave=False) as bar:
        if isinstance(model, Bert):
            for places in sentence_batches(inputs.astype(np.int64)):
                batch = inputs[places]
                found.append(model.forward(batch[:, batch[0] >= 0], ops))
                order.append(places)
                bar.update(len(places))
            return np.concatenate(found)[np.argsort(np.concatenate(order))]
        for images in image_batches(inputs):
            found.append(model.forward(images, ops))
            bar.update(len(images))
    return np.concatenate(found)


def accuracy(
    model: Classifier | Bert,
    ops: Ops,
    inputs: NDArray[np.generic],
    labels: NDArray[np.integer],
    label: str,
) -> float:
    """Return the share of inputs (n, ...) whose largest logit is the label's."""
    return float(np.mean(outputs(model, ops, inputs, label).argmax(axis=1) == labels))


def cosines(found: Array, wanted: Array) -> Array:
    """Return the cosine (n,) of the angle between each vector (n, width) and the one wanted."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    dots = np.einsum("ij,ij->i", found, wanted)
    return np.asarray(dots / np.maximum(lengths, np.float32(1e-30)))


def similarity(found: Array, wanted: Array) -> float:
    """Return the mean cosine of the angle between vectors (n, width) and those wanted."""
    return float(np.mean(cosines(found, wanted)))


def similarity_of_others(vectors: Array) -> float:
    """Return the mean cosine between vectors (n, width) of different texts, all pairs of them."""
    one, other = np.triu_indices(len(vectors), 1)
    return similarity(vectors[one], vectors[other])


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


def perplexity(model: LanguageModel, ops: Ops, windows: NDArray[np.int64], label: str) -> float:
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

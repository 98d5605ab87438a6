"""Classifiers on encoders that stay as published: a logistic regression on sentence vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from system import evaluation
from system.data import sentences
from system.models.ops import Array, FloatOps
from system.networks import load_network
from system.weights.checkpoint import save_checkpoint

HEADS = {"minilm-rt": "minilm-l6"}  # classifier -> its encoder
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)  # inverse regularisation, by cross-validation
FOLDS = 5


def train_head(name: str, out: Path, *, data: Path | None = None, seed: int = 1234) -> Path:
    """Train a classifier of sentences and write a checkpoint that holds nothing else.

    Parameters
    ----------
    name : a key of `HEADS`.
    out : folder that receives the checkpoint directory.
    data : the user's own sentences, or None for Rotten Tomatoes.
    seed : of the folds.

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
    tokens = network.encode_texts(train.texts)
    with one_blas_thread():
        ops = FloatOps(network.model.tensors)
        vectors = evaluation.outputs(network.model, ops, tokens, name)  # type: ignore[arg-type]
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
    return out / name


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

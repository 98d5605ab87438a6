"""Digits on photographs: a set of colour images, 3 x 32 x 32, made from MNIST and two photos.

Every image is |patch - digit| of a patch of a photo and a digit of MNIST, as MNIST-M blends them
(Ganin et al., arXiv:1505.07818, section 5.2, with the photos of BSDS500). Ours has the two photos
that scikit-learn carries: china.jpg behind the training digits, flower.jpg behind the test digits,
so that a network is scored on digits and on a background that it never saw. It is not MNIST-M, and
no CIFAR.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuits.errors import DataError
from system.data import datasets
from system.data.images import Images, read_image

SIDE = 32
PHOTOS = {"train": "china.jpg", "test": "flower.jpg"}
SEED = 1234  # of the patches of the set that is scored and of the one that calibrates


def photo_digits(part: str, data: Path | None = None) -> Images:
    """Return 60,000 images for training or 10,000 to score, always the same ones.

    Parameters
    ----------
    part : "train" or "test".
    data : the user's folder of MNIST, or None for the fetched package.

    Raises
    ------
    DataError
        MNIST or the photos cannot be found.
    """
    mnist = datasets.mnist(data)
    digits, labels = (
        (mnist.train_images, mnist.train_labels)
        if part == "train"
        else (mnist.test_images, mnist.test_labels)
    )
    return Images(blend(digits, photo(part), SEED), labels.astype(np.int64))


def photo(part: str) -> NDArray[np.uint8]:
    """Return the photo (3, height, width) behind the digits of a part.

    Raises
    ------
    DataError
        scikit-learn, which carries the photos, is not installed.
    """
    found = find_spec("sklearn")  # importing it would take a second
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "the photos behind the digits are part of scikit-learn, which is not installed; "
            "run: pip install 'nldpe-cosim[train]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "images"
    return read_image(folder / PHOTOS[part])


def blend(
    digits: NDArray[np.uint8], picture: NDArray[np.uint8], seed: int | tuple[int, ...]
) -> NDArray[np.uint8]:
    """Put every digit on a patch of its own.

    Parameters
    ----------
    digits : (n, 28, 28) array; a margin of two pixels is added.
    picture : (3, height, width) array
    seed : of the places of the patches.

    Returns
    -------
    (n, 3, 32, 32) array
    """
    rng = np.random.default_rng(seed)
    margin = (SIDE - digits.shape[-1]) // 2
    padded = np.pad(digits, ((0, 0), (margin, margin), (margin, margin)))[:, None]
    top, left = (rng.integers(0, n - SIDE + 1, len(digits)) for n in picture.shape[1:])
    windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE), axis=(1, 2))
    patches = windows[:, top, left].swapaxes(0, 1)  # (n, 3, 32, 32)
    return np.maximum(patches, padded) - np.minimum(patches, padded)

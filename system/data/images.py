"""Sets of colour images: CIFAR in its standard formats, and a few genuine samples that ship.

The CIFAR sets themselves are in no package registry: users pass their own copy. The package
`foolbox` carries 20 images each of CIFAR-10, CIFAR-100 and ImageNet, with labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import DataError, FormatError
from system.data.fetch import Package, fetch
from system.weights.pickles import load_pickle

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
# Labels of the samples, as their file names in the package state them.
_LABELS = {
    "cifar10": (3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6),
    "cifar100": (49, 33, 72, 51, 71, 92, 15, 14, 23, 0, 71, 75, 81, 69, 40, 43, 92, 97, 70, 53),
    "imagenet": (
        243, 559, 438, 990, 949, 853, 609, 609, 915, 455,
        541, 630, 741, 471, 129, 99, 251, 22, 317, 305,
    ),
}  # fmt: skip
_SUFFIX = {"cifar10": "png", "cifar100": "png", "imagenet": "jpg"}


def _sample_files(kind: str) -> list[str]:
    return [f"{kind}_{i:02d}_{n}.{_SUFFIX[kind]}" for i, n in enumerate(_LABELS[kind])]


FOOLBOX = Package(
    name="foolbox",
    version="3.3.4",
    client="pip",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    size_mb=1.7,
    contents="20 genuine images each of CIFAR-10, CIFAR-100 and ImageNet",
    members={f"foolbox/data/{name}": name for kind in _LABELS for name in _sample_files(kind)},
    alternative="Without it: pass --data FOLDER with CIFAR in its standard format.",
)


@dataclass(frozen=True)
class Images:
    """Images with labels.

    Attributes
    ----------
    pixels : (n, channels, height, width) uint8 array.
    labels : (n,) integer array.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class _Layout:
    """File names of one CIFAR set; `test` and `train` as (folder, files) for each format."""

    classes: int
    label: bytes  # key of the labels in a Python file
    label_bytes: int  # labels of a binary record; the last one counts
    python: str
    binary: str
    parts: dict[str, tuple[list[str], list[str]]]  # part -> Python files, binary files


_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
_CIFAR = {
    10: _Layout(
        10, b"labels", 1, "cifar-10-batches-py", "cifar-10-batches-bin",
        {
            "train": (_BATCHES, [f"{name}.bin" for name in _BATCHES]),
            "test": (["test_batch"], ["test_batch.bin"]),
        },
    ),
    100: _Layout(
        100, b"fine_labels", 2, "cifar-100-python", "cifar-100-binary",
        {"train": (["train"], ["train.bin"]), "test": (["test"], ["test.bin"])},
    ),
}  # fmt: skip


def cifar(path: str | Path, classes: int, part: str) -> Images:
    """Load CIFAR-10 or CIFAR-100 from the user's folder, in the Python or the binary format.

    Parameters
    ----------
    path : the folder that the archive unpacks to, or the one that holds it.
    classes : 10 or 100 (fine labels).
    part : "train" (50,000 images) or "test" (10,000).

    Raises
    ------
    DataError
        A file is missing, truncated, or not in the format.

    References
    ----------
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009; the formats are
    described on the set's home page: planes of red, green and blue, row by row.
    """
    layout, root = _CIFAR[classes], Path(path)
    python, binary = layout.parts[part]
    for folder in (root, root / layout.python, root / layout.binary):
        for names, read in ((python, _read_python), (binary, _read_binary)):
            if (folder / names[0]).is_file():
                return _join([read(_need(folder, name), layout) for name in names])
    raise DataError(
        f"{root} has no {python[0]} and no {binary[0]}. --data wants the folder of CIFAR-{classes} "
        f"in the Python format ({layout.python}) or the binary one ({layout.binary}), unpacked"
    )


def _need(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise DataError(f"{folder} has no {name}; unpack the whole archive")
    return folder / name


def _join(parts: list[Images]) -> Images:
    return Images(
        np.concatenate([p.pixels for p in parts]), np.concatenate([p.labels for p in parts])
    )


def _read_python(path: Path, layout: _Layout) -> Images:
    """Read one pickled batch: a dictionary with data (n, 3072) uint8 and a list of labels."""
    try:
        with path.open("rb") as stream:
            content = load_pickle(stream, _numpy_names(), encoding="bytes")
        data = np.asarray(content[b"data"])
        labels = np.array(content[layout.label], np.int64)
    except (OSError, FormatError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no batch of CIFAR-{layout.classes} in the Python format: {error}"
        ) from error
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(f"{path} has data {data.dtype} {data.shape}, wanted uint8 (n, {_PIXELS})")
    return _checked(path, data, labels, layout)


def _numpy_names() -> dict[tuple[str, str], Any]:
    """Return what the pickle of a numpy array calls, old and new names."""
    rebuild = np.ndarray(0).__reduce__()[0]
    frombuffer = np.ndarray(0).__reduce_ex__(5)[0]
    return {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        **{(f"numpy.{core}.multiarray", "_reconstruct"): rebuild for core in ("core", "_core")},
        **{(f"numpy.{core}.numeric", "_frombuffer"): frombuffer for core in ("core", "_core")},
    }


def _read_binary(path: Path, layout: _Layout) -> Images:
    """Read records of one or two label bytes and 3072 pixel bytes."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    size = layout.label_bytes + _PIXELS
    if not len(data) or len(data) % size:
        raise DataError(
            f"{path} has {len(data)} bytes, no multiple of a record of {size}: truncated, or not "
            f"CIFAR-{layout.classes} in the binary format"
        )
    records = data.reshape(-1, size)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    return _checked(path, records[:, layout.label_bytes :], labels, layout)


def _checked(
    path: Path, data: NDArray[np.uint8], labels: NDArray[np.int64], layout: _Layout
) -> Images:
    if len(data) != len(labels) or not len(data):
        raise DataError(f"{path} has {len(data)} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= layout.classes:
        raise DataError(
            f"{path} has labels {labels.min()} to {labels.max()}, wanted 0 to {layout.classes - 1}"
        )
    return Images(np.ascontiguousarray(data).reshape(-1, 3, _SIDE, _SIDE), labels)


def samples(kind: str, crop: int | None = None) -> Images:
    """Load the 20 genuine images of a set that ship with foolbox; no measure of accuracy.

    Parameters
    ----------
    kind : "cifar10", "cifar100" or "imagenet".
    crop : side of the square in the middle that is kept, scaled as ImageNet's evaluation does;
        None leaves the images as they are, 32 x 32.

    Raises
    ------
    DataError
        The package cannot be fetched, or an image is damaged.
    """
    folder = fetch(FOOLBOX)
    pixels = [read_image(folder / name, crop) for name in _sample_files(kind)]
    return Images(np.stack(pixels), np.array(_LABELS[kind], np.int64))


def read_image(path: Path, crop: int | None = None) -> NDArray[np.uint8]:
    """Return (3, H, W) bytes of an image file, or of its central square of side `crop`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Delete {path.parent} and run the command again"
        ) from error
    if crop is not None:
        image = _centre(image, crop)
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))


def _centre(image: Any, side: int) -> Any:
    """Keep the central square of side / (side + 32) of the shorter edge, scaled to `side`.

    The evaluation of the EfficientNet authors' code ("crop padding" 32, bicubic).
    """
    width, height = image.size
    edge = math.floor(min(width, height) * side / (side + 32))
    left, top = (width - edge + 1) // 2, (height - edge + 1) // 2
    box = (left, top, left + edge, top + edge)
    return image.crop(box).resize((side, side), 3)  # 3: bicubic

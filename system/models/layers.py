"""What convolutional networks share beside products: images in, batch normalisation, pooling.

All of it is digital, as in the NL-DPE architecture: batch normalisation before an activation is
folded into the convolution's weights and costs nothing; after one it is a scale and an offset of
the codes. Pooling compares or adds codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError, ParameterError
from system.models.ops import Array

Config = TypeVar("Config")

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class ImageInput:
    """What images a network takes, and how their bytes become numbers.

    Attributes
    ----------
    channels, height, width : of one image.
    mean, std : per channel, on the scale where a byte of 255 is 1; a network sees
        (image / 255 - mean) / std.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ImageInput:
        """Read "image" (channels, height, width), "mean" and "std" of config.json.

        Raises
        ------
        CheckpointError
            A key is missing, or the three do not fit together.
        """
        try:
            channels, height, width = (int(size) for size in config["image"])
            mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"config.json: image, mean or std: {error!r}") from error
        if not len(mean) == len(std) == channels or min((channels, height, width, *std)) <= 0:
            raise CheckpointError(
                f"config.json: image {channels, height, width} wants {channels} means and as many "
                f"positive deviations, got mean {mean} and std {std}"
            )
        return cls(channels, height, width, mean, std)

    def prepare(self, images: NDArray[np.generic]) -> Array:
        """Return (B, channels, height, width) float32 for images of bytes, or floats in 0 to 1.

        Raises
        ------
        ParameterError
            The images have another shape; one channel may be left out.
        """
        shape = (self.channels, self.height, self.width)
        if self.channels == 1 and images.ndim == 3:
            images = images[:, None]
        if images.shape[1:] != shape:
            wanted = ", ".join(str(size) for size in shape)
            raise ParameterError(f"the network takes images (n, {wanted}), not {images.shape}")
        x = images.astype(np.float32)
        if images.dtype == np.uint8:
            x /= np.float32(255.0)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        x -= mean
        x /= std
        return x


def read_config(kind: type[Config], config: Mapping[str, Any]) -> Config:
    """Build a network's dataclass from the keys of config.json that it knows; lists are tuples.

    Raises
    ------
    CheckpointError
        A key without a default is missing, or a value is of another type.
    """

    def plain(value: Any) -> Any:
        return tuple(plain(v) for v in value) if isinstance(value, list | tuple) else value

    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{key: plain(value) for key, value in config.items() if key in known})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json of a {config.get('model_type')}: {error}") from error


def batch_norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of the tensors of one batch normalisation."""
    return {f"{name}.{part}": (channels,) for part in BATCH_NORM}


def batch_norm_scale(tensors: Mapping[str, Array], name: str, eps: float) -> tuple[Array, Array]:
    """Return gain and offset (channels,): normalised = gain x + offset."""
    weight, bias, mean, variance = (
        tensors[f"{name}.{part}"].astype(np.float64) for part in BATCH_NORM
    )
    gain = weight / np.sqrt(variance + eps)
    return gain.astype(np.float32), (bias - gain * mean).astype(np.float32)


def fold_batch_norm(
    tensors: Mapping[str, Array], convolutions: Mapping[str, str], eps: float
) -> dict[str, Array]:
    """Fold every batch normalisation into the convolution before it.

    Parameters
    ----------
    tensors : of the checkpoint.
    convolutions : convolution -> its batch normalisation, by name.
    eps : added to the variance.

    Returns
    -------
    name -> array; each of these convolutions has a bias, its normalisation is gone.
    """
    folded = dict(tensors)
    for convolution, norm in convolutions.items():
        gain, offset = batch_norm_scale(tensors, norm, eps)
        weight = tensors[f"{convolution}.weight"]
        folded[f"{convolution}.weight"] = weight * gain[:, None, None, None]
        bias = tensors.get(f"{convolution}.bias")
        folded[f"{convolution}.bias"] = offset if bias is None else offset + gain * bias
        for part in BATCH_NORM:
            del folded[f"{norm}.{part}"]
    return folded


def same_padding(size: tuple[int, int], kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Return zeros (top, bottom, left, right) for ceil(size / stride) outputs.

    As TensorFlow's "SAME": where the number is odd, the extra zero stands at the bottom and right.
    """
    sides: list[int] = []
    for length in size:
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        sides += [total // 2, total - total // 2]
    return sides[0], sides[1], sides[2], sides[3]


def max_pool2d(x: Array, kernel: int, stride: int, padding: int = 0) -> Array:
    """Return the maximum of every kernel x kernel window of x (B, C, H, W)."""
    if padding:
        sides = (padding, padding)
        x = np.pad(x, ((0, 0), (0, 0), sides, sides), constant_values=-np.inf)
    height, width = ((n - kernel) // stride + 1 for n in x.shape[2:])
    largest: Array | None = None
    for row, column in np.ndindex(kernel, kernel):
        window = x[:, :, row::stride, column::stride][:, :, :height, :width]
        largest = window.copy() if largest is None else np.maximum(largest, window, out=largest)
    assert largest is not None  # a kernel has at least one place
    return largest


def average_pool2d(x: Array, size: int) -> Array:
    """Return means over a size x size grid of windows of x (B, C, H, W).

    Windows of row i go from floor(i H / size) to ceil((i + 1) H / size), as in torch's adaptive
    pooling; they overlap or repeat where size does not divide H.
    """
    height, width = x.shape[2:]
    out = np.empty((*x.shape[:2], size, size), np.float32)
    for i, j in np.ndindex(size, size):
        rows = slice(i * height // size, -(-(i + 1) * height // size))
        columns = slice(j * width // size, -(-(j + 1) * width // size))
        out[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return out

"""Convolution as a matrix product: every output position sees its patch of the image as a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from circuits.errors import ParameterError

Array = NDArray[np.float32]

BLOCK_BYTES = 4 << 20  # patches at a time: they should stay in the cache


@dataclass(frozen=True)
class Convolution:
    """Geometry of a two-dimensional convolution.

    Attributes
    ----------
    kernel : (height, width) of the kernel.
    stride : step between output positions, in both directions.
    padding : zeros added at (top, bottom, left, right).
    groups : input channels are cut into so many groups, each with kernels of its own.
    """

    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def pad(self, x: Array) -> Array:
        """Return x (B, C, H, W) with its zeros around it."""
        top, bottom, left, right = self.padding
        if not any(self.padding):
            return np.ascontiguousarray(x, np.float32)
        batch, channels, height, width = x.shape
        out = np.zeros((batch, channels, height + top + bottom, width + left + right), np.float32)
        out[:, :, top : top + height, left : left + width] = x
        return out

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Return the output size of a padded image.

        Raises
        ------
        ParameterError
            The image is smaller than the kernel.
        """
        rows, columns = height - self.kernel[0], width - self.kernel[1]
        if rows < 0 or columns < 0:
            raise ParameterError(
                f"a padded image of {height} x {width} is smaller than the kernel {self.kernel}"
            )
        return rows // self.stride + 1, columns // self.stride + 1

    def patches(self, padded: Array, inputs: slice | NDArray[np.int64] = slice(None)) -> Array:
        """Cut a padded image into patches.

        Parameters
        ----------
        padded : (B, C, H, W) float32 array
        inputs : which of the C kh kw inputs of a patch, in the order of the kernel's weights.

        Returns
        -------
        (B height width, inputs) float32 array
        """
        height, width = self.output(*padded.shape[2:])
        total = padded.shape[1] * self.kernel[0] * self.kernel[1]
        chosen = np.arange(total)[inputs]
        out = np.empty((len(padded) * height * width, chosen.size), np.float32)
        if out.size:
            offsets = self._offsets(padded.shape, chosen)
            shape = (len(padded), height, width)
            _gather(
                padded.reshape(len(padded), -1), offsets, shape, padded.shape[3], self.stride, out
            )
        return out

    def by_blocks(self, x: Array, convolve: Callable[[Array], Array]) -> Array:
        """Convolve a few images at a time, so that their patches stay in the processor's cache.

        Parameters
        ----------
        x : (B, C, H, W) array
        convolve : from some of these images to (images, out, height, width).
        """
        patch = 4 * x.shape[1] * self.kernel[0] * self.kernel[1]
        each = patch * x.shape[2] * x.shape[3] // self.stride**2
        step = max(1, BLOCK_BYTES // max(each, 1))
        if len(x) <= step:
            return convolve(x)
        return np.concatenate([convolve(x[i : i + step]) for i in range(0, len(x), step)])

    def _offsets(self, shape: tuple[int, ...], position: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return where these inputs of the first patch lie in a flat image."""
        high, wide = self.kernel
        channel, place = position // (high * wide), position % (high * wide)
        offsets = (channel * shape[2] + place // wide) * shape[3] + place % wide
        return offsets.astype(np.uint64)  # unsigned: an index that cannot be negative costs half


@njit(cache=True, parallel=True)  # type: ignore[no-untyped-call]
def _gather(images, offsets, shape, line, stride, out):  # type: ignore[no-untyped-def]
    """Copy the inputs of every patch; ``line`` is the width of a padded image."""
    batch, height, width = shape
    for b in prange(batch):
        for i in range(height):
            for j in range(width):
                corner = images[b, (i * line + j) * stride :]
                patch = out[(b * height + i) * width + j]
                for k in range(offsets.size):
                    patch[k] = corner[offsets[k]]

"""Grouped convolutions as ordinary ones: several groups share a row tile.

Each group has rows and columns of its own, and the cells where they cross another's stay at the
lowest conductance. A depthwise layer of 3x3 kernels thus puts 28 channels on 256 rows. Ours: the
papers do not say how a depthwise layer is laid out. Every such bundle is a layer of its own
("NAME[0]", "NAME[1]", ...), with its own scales and ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from system.models.patches import Array, Convolution

if TYPE_CHECKING:
    from system.models.ops import Activation, Ops


def convolve_bundles(
    ops: Ops,
    tensors: MutableMapping[str, Array],
    name: str,
    x: Array,
    shape: Convolution,
    activation: Activation,
    tile_rows: int,
) -> Array:
    """Return f(x * W + b) as one ordinary convolution for every bundle of groups.

    Parameters
    ----------
    ops : runs the ordinary convolutions.
    tensors : those that `ops` reads; the bundles' weights are added when first needed.
    x : (B, C, H, W) array.
    tile_rows : rows of a crossbar column.
    """
    weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    size = len(weight) // shape.groups  # outputs of a group
    whole = replace(shape, groups=1)
    outputs = []
    for i, groups in enumerate(bundles(weight, shape.groups, tile_rows)):
        part, outs = f"{name}[{i}]", slice(groups.start * size, groups.stop * size)
        if f"{part}.weight" not in tensors:
            tensors[f"{part}.weight"] = block_diagonal(weight[outs], groups.stop - groups.start)
            if bias is not None:
                tensors[f"{part}.bias"] = bias[outs]
        inputs = slice(groups.start * weight.shape[1], groups.stop * weight.shape[1])
        outputs.append(ops.convolve(part, x[:, inputs], whole, activation))
    return np.concatenate(outputs, axis=1)


def bundles(weight: Array, groups: int, tile_rows: int) -> Iterator[slice]:
    """Yield the groups that share a tile, for weights (out, C / groups, kh, kw).

    A group that needs more than a tile stands alone and is cut into row tiles like any layer.
    """
    together = max(1, tile_rows // (weight.size // len(weight)))
    for first in range(0, groups, together):
        yield slice(first, min(first + together, groups))


def block_diagonal(weight: Array, groups: int) -> Array:
    """Return weights (out, C, kh, kw) that are zero where a group sees another's channels.

    Parameters
    ----------
    weight : (out, C / groups, kh, kw) array
    groups : groups in it.
    """
    out, channels, *kernel = weight.shape
    dense = np.zeros((groups, out // groups, groups, channels, *kernel), np.float32)
    each = np.arange(groups)
    dense[each, :, each] = weight.reshape(groups, out // groups, channels, *kernel)
    return dense.reshape(out, groups * channels, *kernel)


def multiply_groups(patches: Array, weight: Array, groups: int) -> Array:
    """Multiply each group's inputs by its own kernels, without tiles.

    Parameters
    ----------
    patches : (n, C kh kw) array, group after group.
    weight : (out, C / groups, kh, kw) array.

    Returns
    -------
    (n, out) array
    """
    inputs = patches.reshape(len(patches), groups, -1).swapaxes(0, 1)  # (g, n, C/g kh kw)
    kernels = weight.reshape(groups, len(weight) // groups, -1).swapaxes(1, 2)
    return np.ascontiguousarray((inputs @ kernels).swapaxes(0, 1)).reshape(len(patches), -1)

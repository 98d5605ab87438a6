"""The arithmetic a network asks for, so that one forward pass runs in every mode.

A model does the digital parts itself (embedding, normalisation, rotary positions, residual adds,
max pooling) and hands every product, activation and softmax to an `Ops`. `FloatOps` is the exact
float32 reference; the analog modes implement the same four methods in `system.engine`.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float32]
Activation = Literal["relu", "silu"] | None


class Cache(Protocol):
    """Keys and values of the tokens seen so far; made and filled by the ops that reads it."""

    @property
    def length(self) -> int:
        """Tokens seen so far, the same for every sequence of the batch."""


class Ops(Protocol):
    """What a network asks of its arithmetic.

    An ops holds the network's tensors; a layer is known by its name, the key of its tensors
    without ".weight" or ".bias".
    """

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b) for x (..., in); W is `name`.weight flattened to (out, in)."""

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return the element-wise product of two activations of equal shape."""

    def attention(self, name: str, q: Array, k: Array, v: Array, cache: Cache | None) -> Array:
        """Return causal softmax(q k^T / sqrt(D)) v.

        Parameters
        ----------
        name : the attention block, for example "model.layers.0.self_attn".
        q : (B, H, T, D) array of the new tokens.
        k, v : (B, H_kv, T, D) arrays of the new tokens; H is a multiple of H_kv, and query head
            h reads key head h // (H // H_kv).
        cache : when given, k and v are appended to what it holds for `name` and the queries see
            all of it; otherwise the new tokens are the whole sequence.

        Returns
        -------
        (B, H, T, D) array
        """

    def new_cache(self) -> Cache:
        """Return an empty cache for `attention`."""


class FloatCache:
    """Keys and values in float32; buffers double when full, so appending costs O(1) a token."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}
        self._lengths: dict[str, int] = {}

    @property
    def length(self) -> int:
        """Tokens seen by every attention block."""
        return min(self._lengths.values(), default=0)

    def append(self, name: str, k: Array, v: Array) -> tuple[Array, Array]:
        """Add new keys and values (B, H_kv, T, D); return all of them (B, H_kv, S, D)."""
        start = self._lengths.get(name, 0)
        end = start + k.shape[2]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape[3] < end:
            grown = np.empty((2, *k.shape[:2], max(64, 2 * end), k.shape[3]), np.float32)
            if buffer is not None:
                grown[:, :, :, :start] = buffer[:, :, :, :start]
            self._buffers[name] = buffer = grown
        buffer[0, :, :, start:end] = k
        buffer[1, :, :, start:end] = v
        self._lengths[name] = end
        return buffer[0, :, :, :end], buffer[1, :, :, :end]


class FloatOps:
    """Exact float32 arithmetic on a network's tensors."""

    def __init__(self, tensors: Mapping[str, Array]):
        self._tensors = tensors

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b)."""
        weight = self._tensors[f"{name}.weight"]
        # One large product is faster than a stack of small ones.
        z: Array = x.reshape(-1, x.shape[-1]) @ weight.reshape(len(weight), -1).T
        bias = self._tensors.get(f"{name}.bias")
        if bias is not None:
            np.add(z, bias, out=z)
        if activation == "relu":
            np.maximum(z, 0.0, out=z)
        elif activation == "silu":
            np.multiply(z, expit(z), out=z)
        return z.reshape(*x.shape[:-1], -1)

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return a * b."""
        return a * b

    def attention(self, name: str, q: Array, k: Array, v: Array, cache: Cache | None) -> Array:
        """Return causal softmax(q k^T / sqrt(D)) v."""
        if cache is not None:
            if not isinstance(cache, FloatCache):
                raise TypeError("FloatOps reads only a cache made by FloatOps.new_cache")
            k, v = cache.append(name, k, v)
        batch, heads, time, size = q.shape
        groups, seen = k.shape[1:3]
        q = q.reshape(batch, groups, heads // groups, time, size)
        scores = q @ k[:, :, None].swapaxes(-1, -2)  # (B, H_kv, G, T, S)
        scores *= np.float32(size**-0.5)
        scores[..., ~causal_mask(time, seen)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Array = np.matmul(scores, v[:, :, None], dtype=np.float32)
        return mixed.reshape(batch, heads, time, size)

    def new_cache(self) -> FloatCache:
        """Return an empty cache."""
        return FloatCache()


def causal_mask(time: int, seen: int) -> NDArray[np.bool_]:
    """Return (time, seen) booleans: the last `time` of `seen` tokens see themselves and before."""
    return np.tri(time, seen, seen - time, dtype=bool)


def conv2d(
    ops: Ops, name: str, x: Array, kernel: int, padding: int, activation: Activation
) -> Array:
    """Convolve with stride 1 as one product, the way it is laid out on the tiles.

    Parameters
    ----------
    x : (B, C, H, W) array.
    kernel, padding : side of the square kernel, zeros added on each side.

    Returns
    -------
    (B, out, H + 2 padding - kernel + 1, W + 2 padding - kernel + 1) array
    """
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    batch, _, height, width = patches.shape[:4]
    columns = patches.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height * width, -1)
    z = ops.linear(name, columns, activation)  # (B, H W, C k k) -> (B, H W, out)
    return np.ascontiguousarray(z.swapaxes(1, 2)).reshape(batch, -1, height, width)


def max_pool2d(x: Array) -> Array:
    """Return the maximum of every 2x2 block of x (B, C, H, W); a comparator, not a product."""
    rows = np.maximum(x[:, :, ::2], x[:, :, 1::2])
    largest: Array = np.maximum(rows[..., ::2], rows[..., 1::2])
    return largest

"""The arithmetic a network asks for, so that one forward pass runs in every mode.

A model does the digital parts itself (embedding, normalisation, rotary positions, residual adds,
max pooling) and hands every product, activation and softmax to an `Ops`. `FloatOps` is the exact
float32 reference; the analog modes implement the same methods in `system.engine`.
"""

import math
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from behavioral.threads import product
from system.models.groups import convolve_bundles, multiply_groups
from system.models.patches import Convolution

Array = NDArray[np.float32]
Activation = Literal["relu", "relu6", "sigmoid", "silu", "gelu", "gelu_tanh", "tanh"] | None
Mask = NDArray[np.bool_]


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

    def convolve(
        self, name: str, x: Array, shape: Convolution, activation: Activation = None
    ) -> Array:
        """Return f(x * W + b) for images x (B, C, H, W): a product for every output position."""

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return the element-wise product of two activations of equal shape."""

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias, by channel; alpha, `name`.alpha, is one number."""

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Return softmax(q k^T / sqrt(D)) v, causal unless there is a mask.

        Parameters
        ----------
        name : the attention block, for example "model.layers.0.self_attn".
        q : (B, H, T, D) array of the new tokens.
        k, v : (B, H_kv, T, D) arrays of the new tokens; H is a multiple of H_kv, and query head
            h reads key head h // (H // H_kv).
        cache : when given, k and v are appended to what it holds for `name` and the queries see
            all of it; otherwise the new tokens are the whole sequence.
        mask : (B, T) booleans, at least one true in each row: every query sees the keys where it
            is true, those after it too, as encoders do. None: every query sees itself and before.

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
    """Exact float32 arithmetic on a network's tensors.

    Parameters
    ----------
    tensors : the network's parameters
    tile_rows : rows of a crossbar column, when grouped convolutions are to be cut as on the tiles.
    """

    def __init__(self, tensors: Mapping[str, Array], tile_rows: int | None = None):
        self._tensors = ChainMap[str, Array]({}, cast(MutableMapping[str, Array], tensors))
        self._tile_rows = tile_rows

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b)."""
        weight = self._tensors[f"{name}.weight"]
        # One large product is faster than a stack of small ones.
        z: Array = product(x.reshape(-1, x.shape[-1]), weight.reshape(len(weight), -1).T)
        bias = self._tensors.get(f"{name}.bias")
        if bias is not None:
            np.add(z, bias, out=z)
        return activate(z, activation).reshape(*x.shape[:-1], -1)

    def convolve(
        self, name: str, x: Array, shape: Convolution, activation: Activation = None
    ) -> Array:
        """Return f(x * W + b), laid out as on the tiles: one product of all patches."""
        rows = self._tile_rows
        if shape.groups > 1 and rows is not None:
            return convolve_bundles(self, self._tensors, name, x, shape, activation, rows)
        padded = shape.pad(x)
        patches = shape.patches(padded)
        if shape.groups == 1:
            return as_images(self.linear(name, patches, activation), padded, shape)
        z = multiply_groups(patches, self._tensors[f"{name}.weight"], shape.groups)
        bias = self._tensors.get(f"{name}.bias")
        if bias is not None:
            z += bias
        return as_images(activate(z, activation), padded, shape)

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return a * b."""
        return a * b

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias."""
        alpha, weight, bias = (self._tensors[f"{name}.{k}"] for k in ("alpha", "weight", "bias"))
        out: Array = weight * np.tanh(alpha * x) + bias
        return out

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Return softmax(q k^T / sqrt(D)) v."""
        if cache is not None:
            if not isinstance(cache, FloatCache):
                raise TypeError("FloatOps reads only a cache made by FloatOps.new_cache")
            k, v = cache.append(name, k, v)
        batch, heads, time, size = q.shape
        groups, seen = k.shape[1:3]
        q = q.reshape(batch, groups, heads // groups, time, size)
        scores = q @ k[:, :, None].swapaxes(-1, -2)  # (B, H_kv, G, T, S)
        scores *= np.float32(size**-0.5)
        visible = causal_mask(time, seen) if mask is None else mask[:, None, None, None]
        np.copyto(scores, np.float32(-np.inf), where=~visible)
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


# The approximation x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) of GELU that GPT-2 was trained with:
# Hendrycks and Gimpel, arXiv:1606.08415, section 2; 0.5 (1 + tanh(u)) is sigmoid(2 u).
GELU_SLOPE, GELU_CUBE = 2.0 * (2.0 / math.pi) ** 0.5, 0.044715


def activate(z: Array, activation: Activation) -> Array:
    """Apply an activation in place."""
    if activation == "relu":
        np.maximum(z, 0.0, out=z)
    elif activation == "relu6":
        np.clip(z, 0.0, 6.0, out=z)
    elif activation == "silu":
        np.multiply(z, expit(z), out=z)
    elif activation == "sigmoid":
        expit(z, out=z)
    elif activation == "gelu":
        z *= np.float32(0.5) * (np.float32(1.0) + erf(z * np.float32(0.5**0.5)))
    elif activation == "gelu_tanh":
        z *= expit(np.float32(GELU_SLOPE) * (z + np.float32(GELU_CUBE) * z**3))
    elif activation == "tanh":
        np.tanh(z, out=z)
    return z


def as_images(z: Array, padded: Array, shape: Convolution) -> Array:
    """Return outputs (B height width, out) as images (B, out, height, width)."""
    height, width = shape.output(*padded.shape[2:])
    images = z.reshape(len(padded), height * width, -1).swapaxes(1, 2)
    return np.ascontiguousarray(images).reshape(len(padded), -1, height, width)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Return (x - mean) / sqrt(variance + eps) over the last axis, scaled and shifted."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(np.square(centred), axis=-1, keepdims=True)
    normalised: Array = centred / np.sqrt(variance + np.float32(eps))
    return normalised * weight + bias

"""Attention on ACAM units: products by log, add, exp on cached log codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.products import LogCodes, ProductModel
from system.calibration import Ranges, peaks
from system.models.ops import Array, Mask


class _Buffers:
    """Log codes of the keys and values one attention block has seen; room doubles when full."""

    def __init__(self, batch: int, heads: int, size: int, room: int):
        self.length = 0
        self.k = np.zeros((batch, heads, room, size), np.uint16)
        self.k_scale = np.zeros((batch, heads, room), np.float32)
        self.v = np.zeros((batch, heads, size, room), np.uint16)
        self.v_scale = np.zeros((batch, heads, size), np.float32)

    def grown(self, room: int) -> _Buffers:
        """Return a copy with more room."""
        batch, heads, _, size = self.k.shape
        new = _Buffers(batch, heads, size, room)
        seen = slice(0, self.length)
        new.k[:, :, seen], new.k_scale[:, :, seen] = self.k[:, :, seen], self.k_scale[:, :, seen]
        new.v[..., seen], new.v_scale = self.v[..., seen], self.v_scale
        new.length = self.length
        return new


def _words(room: int) -> int:
    """Round up: products take four codes at a time, and copy what has another length."""
    return -(-room // 4) * 4


class AnalogCache:
    """Keys and values of all attention blocks, as log codes."""

    def __init__(self) -> None:
        self._blocks: dict[str, _Buffers] = {}

    @property
    def length(self) -> int:
        """Tokens seen by every attention block."""
        return min((b.length for b in self._blocks.values()), default=0)

    def append(self, name: str, k: LogCodes, v: LogCodes) -> _Buffers:
        """Add the codes of new keys (B, H, T, D) and values (B, H, D, T) of one block."""
        batch, heads, time, size = k.code.shape
        block = self._blocks.get(name)
        if block is None:
            block = _Buffers(batch, heads, size, _words(max(64, time)))
        elif block.k.shape[2] < block.length + time:
            block = block.grown(_words(2 * (block.length + time)))
        new = slice(block.length, block.length + time)
        block.k[:, :, new], block.k_scale[:, :, new] = k.code, k.scale
        block.v[..., new], block.v_scale = v.code, v.scale
        block.length += time
        self._blocks[name] = block
        return block


class AnalogAttention:
    """One attention block: QK^T, softmax and attention x V on the units of its cores."""

    def __init__(self, name: str, products: ProductModel, ranges: Ranges, margin: float = 0.0):
        self._name, self._products, self._ranges = name, products, ranges
        self._margin = margin
        self.clipped = 0

    def forward(
        self, q: Array, k: Array, v: Array, cache: AnalogCache, mask: Mask | None = None
    ) -> Array:
        """Return softmax(q k^T / sqrt(D)) v; shapes and masks as in `Ops.attention`."""
        products = self._products
        batch, heads, time, size = q.shape
        groups = k.shape[1]
        keys = products.encode(k, self._ceiling("k", k))
        values = products.encode(
            np.ascontiguousarray(v.swapaxes(2, 3)),
            self._ceiling("v", v)[..., :1].repeat(size, axis=2),
            block=False,
            by_row=True,
        )
        seen = cache.append(self._name, keys, values)
        self.clipped += keys.clipped + values.clipped
        # The queries of the heads that share a key head are more rows of one product.
        queries = q.reshape(batch, groups, -1, size)
        ceiling = self._ceiling("q", q).reshape(batch, groups, -1)
        query_codes = products.encode(queries, ceiling)
        self.clipped += query_codes.clipped
        past = seen.length - time
        position = np.tile(np.arange(past, seen.length), heads // groups)
        limit = position + 1 if mask is None else np.full_like(position, seen.length)
        scores = products.matmul(
            query_codes, LogCodes(seen.k, seen.k_scale, 0), columns=seen.length, n_limit=limit
        )
        scores *= np.float32(size**-0.5)
        if mask is not None:
            np.copyto(scores, np.float32(-np.inf), where=~mask[:, None, None])
        # By position: a token meets the same log unit in a prompt and on its own.
        weights = products.softmax(scores, limit=limit, place=position)
        mixed = products.matmul(weights, LogCodes(seen.v, seen.v_scale, 0), k_limit=limit)
        return mixed.reshape(batch, heads, time, size)

    def _ceiling(self, key: str, x: Array) -> NDArray[np.float32]:
        """Return the largest magnitude (B, heads, T) of each row's code."""
        batch, heads, time, _ = x.shape
        peak = peaks(self._ranges, f"{self._name}.{key}", heads, self._margin)
        return np.broadcast_to(peak[None, :, None], (batch, heads, time)).copy()

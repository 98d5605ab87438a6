"""Ranges of every code in a network, measured on a few inputs of its float version."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Mapping as Table
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.threads import one_blas_thread
from circuits.errors import CheckpointError
from system.models.ops import Activation, Array, Cache, FloatOps, Mask
from system.quantization import Mapping, block_scale

Ranges = dict[str, NDArray[Any]]
HALF = float(np.finfo(np.float16).max)
FEW = 128  # inputs: the extremes of fewer say little about those to come
# The fields of a mapping that `RangeRecorder` reads.
RANGE_CHOICES = ("percentile", "range_momentum", "input_blocks", "block_norm", "output_range")
TRIM_CHOICES = ("output_trim", "trim_inputs")  # and these, if chips are trimmed
# Those that move windows: fine-tuned ones fit no others.
WINDOW_CHOICES = (
    *RANGE_CHOICES, "output_bits", "output_margin", "flat_margin", "output_lift", "line_start",
    "output_fine", "output_copies", "input_bits", "product_copies", "product_log_copies",
    "product_finer",
)  # fmt: skip


def tiles(rows: int, tile_rows: int) -> list[slice]:
    """Cut the input dimension of a layer into row tiles of nearly equal height."""
    count = -(-rows // tile_rows)
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


TYPICAL = 48  # inputs of every layer that are kept


def _spread(rows: NDArray[Any], count: int, zeros: bool = False) -> NDArray[Any]:
    """Return at most `count` of the rows, from the shortest (that is not zero) to the longest."""
    length = np.linalg.norm(rows.astype(np.float32), axis=1)
    order = np.argsort(length, kind="stable")[0 if zeros else np.count_nonzero(length == 0) :]
    if len(order) > count:
        order = order[np.linspace(0, len(order) - 1, count).astype(np.int64)]
    return rows[order]


def _bounds(values: Array, mapping: Mapping) -> Array:
    """Return (2, columns): the range that holds the mapping's percentile of each column."""
    share = mapping.percentile
    if share >= 100.0:
        return np.stack([values.min(axis=0), values.max(axis=0)])
    return np.percentile(values, [100.0 - share, share], axis=0).astype(np.float32)


def _follow(seen: Array, new: Array, momentum: float) -> Array:
    """Return a range that has moved towards that of a new batch."""
    return np.asarray(seen + np.float32(1.0 - momentum) * (new - seen), np.float32)


class RangeRecorder(FloatOps):
    """Float arithmetic that notes the range of everything that will become a code.

    Keys of `ranges` (float32 arrays, widened with every call, or following the calls where the
    mapping has a `range_momentum`):

    - `NAME.x` (2, in): every input of a linear layer
    - `NAME.y` (2, out): product x W^T before the bias, all rows
    - `NAME.mean`, `NAME.std` (out,): its moments
    - `NAME.rows` (up to 48, in), float16: some of the inputs, spread over all calls, on which the
      correction for non-linear cells is fitted
    - `NAME.trim` (up to `trim_inputs`, in), float16: inputs as they come, zeros too, on which the
      columns of a chip are trimmed; only with `Mapping.output_trim`
    - `NAME.tile` (tiles, 2, out): the same, row tile by row tile
    - `NAME.out` (2,): after bias and activation
    - `NAME.a`, `NAME.b` (1,) or (channels,): largest magnitudes of the operands of a
      data-dependent product; by channel if the mapping's output ranges are by column
    - `NAME.a` (1,) too: of the inputs of a Dynamic Tanh
    - `NAME.q`, `NAME.k`, `NAME.v` (heads,): largest magnitudes per head

    With `Mapping.input_blocks`, x, y, its moments and tile are those of the scaled vectors.
    """

    def __init__(self, tensors: Table[str, Array], mapping: Mapping, tile_rows: int):
        super().__init__(tensors, tile_rows)
        self._mapping = mapping
        self._rows = tile_rows
        self.ranges: Ranges = {}
        self._calls: dict[str, int] = {}
        self._sums: dict[str, tuple[int, NDArray[np.float64]]] = {}

    def linear(self, name: str, x: Array, activation: Activation = None) -> Array:
        """Return f(x W^T + b), noting ranges."""
        flat = x.reshape(-1, x.shape[-1])
        weight = self._tensors[f"{name}.weight"].reshape(-1, flat.shape[1])
        mapping = self._mapping.of(name)
        if mapping.input_blocks and activation is None and not self._has_bias(name):
            flat = flat / block_scale(flat, mapping.block_norm)
        momentum = mapping.range_momentum
        self._widen(f"{name}.x", _bounds(flat, mapping), momentum)
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        self._keep_rows(f"{name}.rows", flat, TYPICAL, TYPICAL * (calls - 1) // calls)
        if mapping.output_trim:
            most, (seen, _) = mapping.trim_inputs, self._sums.get(name, (0, None))
            old = max(most * seen // (seen + len(flat)), most - len(flat))
            self._keep_rows(f"{name}.trim", flat, most, old, zeros=True)
        parts = [flat[:, t] @ weight[:, t].T for t in tiles(flat.shape[1], self._rows)]
        self._widen(f"{name}.tile", np.stack([_bounds(p, mapping) for p in parts]), momentum, 1)
        y = np.sum(parts, axis=0)
        self._widen(f"{name}.y", _bounds(y, mapping), momentum)
        self._note_moments(name, y)
        out = super().linear(name, x, activation)
        self._widen(f"{name}.out", _bounds(out.reshape(-1, 1), mapping)[:, 0], momentum)
        return out

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        """Return a * b, noting the largest magnitudes."""
        channels = a.shape[-1] if self._mapping.of(name).output_range == "column" else 1
        self._peak(name, "a", a.reshape(-1, channels))
        self._peak(name, "b", b.reshape(-1, channels))
        return super().multiply(name, a, b)

    def dynamic_tanh(self, name: str, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias, noting the largest magnitude."""
        self._peak(name, "a", x.reshape(-1, 1))
        return super().dynamic_tanh(name, x)

    def attention(
        self, name: str, q: Array, k: Array, v: Array, cache: Cache | None, mask: Mask | None = None
    ) -> Array:
        """Return attention, noting the largest magnitudes per head."""
        for key, value in (("q", q), ("k", k), ("v", v)):
            self._peak(name, key, value.swapaxes(1, 3).reshape(-1, value.shape[1]))
        return super().attention(name, q, k, v, cache, mask)

    def _has_bias(self, name: str) -> bool:
        return f"{name}.bias" in self._tensors

    def _keep_rows(self, key: str, x: Array, most: int, kept: int, zeros: bool = False) -> None:
        """Keep so many rows of earlier calls, and of this one what `most` leaves room for."""
        old = _spread(self.ranges.get(key, x[:0].astype(np.float16)), kept, zeros)
        new = _spread(x, most - len(old), zeros)
        self.ranges[key] = np.concatenate([old, np.clip(new, -HALF, HALF).astype(np.float16)])

    def _note_moments(self, name: str, y: Array) -> None:
        sums = np.stack([y.sum(axis=0, dtype=np.float64), np.square(y, dtype=np.float64).sum(0)])
        count, seen = self._sums.get(name, (0, np.zeros_like(sums)))
        count, sums = self._sums[name] = count + len(y), seen + sums
        mean, square = sums / count
        self.ranges[f"{name}.mean"] = mean.astype(np.float32)
        variance = np.maximum(square - np.square(mean), 0.0)
        self.ranges[f"{name}.std"] = np.sqrt(variance).astype(np.float32)

    def pool_few(self) -> None:
        """Give the columns of a layer that saw fewer than `FEW` inputs one range in common.

        The classes of a classifier that saw ten images would otherwise be clipped to their logits.
        """
        for name, (count, _) in self._sums.items():
            if count < FEW:
                y, tile = self.ranges[f"{name}.y"], self.ranges[f"{name}.tile"]
                y[0], y[1] = y[0].min(), y[1].max()
                tile[:, 0], tile[:, 1] = tile[:, 0].min(), tile[:, 1].max()

    def _peak(self, name: str, operand: str, values: Array) -> None:
        key, mapping = f"{name}.{operand}", self._mapping.of(name)
        peak = np.percentile(np.abs(values), mapping.percentile, axis=0).astype(np.float32)
        seen = self.ranges.get(key, peak)
        followed = _follow(seen, peak, mapping.range_momentum)
        self.ranges[key] = followed if mapping.range_momentum else np.maximum(seen, peak)

    def _widen(self, key: str, bounds: Array, momentum: float, axis: int = 0) -> None:
        seen = self.ranges.get(key, bounds)
        if momentum:
            self.ranges[key] = _follow(seen, bounds, momentum)
            return
        low = np.minimum(np.take(seen, 0, axis), np.take(bounds, 0, axis))
        high = np.maximum(np.take(seen, 1, axis), np.take(bounds, 1, axis))
        self.ranges[key] = np.stack([low, high], axis=axis).astype(np.float32)


def calibrate(
    tensors: Table[str, Array],
    forward: Callable[[RangeRecorder], object],
    mapping: Mapping,
    tile_rows: int,
) -> Ranges:
    """Run `forward(recorder)` on calibration inputs in float and return the ranges."""
    recorder = RangeRecorder(tensors, mapping, tile_rows)
    with one_blas_thread():
        forward(recorder)
    recorder.pool_few()
    return recorder.ranges


def peaks(
    ranges: Ranges, key: str, size: int, margin: float, shared: bool = False
) -> NDArray[np.float32]:
    """Return positive ceilings of signed codes, (size,), or (1,) if `shared` and stored so.

    Parameters
    ----------
    margin : share added to the largest magnitudes that calibration saw.
    """
    found = ranges.get(key)
    one = shared and found is not None and found.shape == (1,)
    peak = need(ranges, key, (1 if one else size,))
    floor = max(1e-3 * float(peak.max()), 1e-12)  # a silent channel keeps a usable code
    return np.maximum(peak, np.float32(floor)) * np.float32(1.0 + margin)


def need(ranges: Ranges, key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return one range, or say which calibration is missing or misshapen."""
    value = ranges.get(key)
    if value is None or value.shape != shape:
        got = "missing" if value is None else f"of shape {value.shape}"
        raise CheckpointError(
            f"range {key} is {got}, wanted {shape}; remove the analog tensors of the checkpoint, "
            "or add --map percentile=100: the ranges are then measured again"
        )
    return value

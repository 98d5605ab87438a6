"""Attention by log codes against exact attention."""

import numpy as np
import pytest

from behavioral.acam import AcamModel
from behavioral.products import ProductModel
from system.attention import AnalogAttention, AnalogCache
from system.models.ops import FloatCache, FloatOps
from tests.behavioral.standin import make_library

RNG = np.random.default_rng(3)
RANGES = {f"a.{key}": np.full(heads, 4.5, np.float32) for key, heads in zip("qkv", (4, 2, 2),
                                                                          strict=True)}  # fmt: skip


def operands(time: int, batch: int = 2):
    """Return q with four heads, k and v with two; normal values within the ceilings."""
    return [
        RNG.normal(size=(batch, heads, time, 16)).clip(-4.5, 4.5).astype(np.float32)
        for heads in (4, 2, 2)
    ]


def block(bits: int) -> AnalogAttention:
    return AnalogAttention("a", ProductModel.program(None, bits=bits), RANGES)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.05), (10, 0.015)])
def test_log_codes_give_exact_attention_but_for_their_rounding(bits, share):
    """Oracle: float32 softmax attention, itself checked against transformers."""
    q, k, v = operands(40)
    exact = FloatOps({}).attention("a", q, k, v, FloatCache())
    found = block(bits).forward(q, k, v, AnalogCache())
    # a log step of ln 2 / 31 is 1.1 % rms per factor at 8 bits, a quarter of that at 10
    assert np.abs(found - exact).std() < share * exact.std()


def test_incremental_attention_equals_the_whole_sequence_bit_by_bit():
    q, k, v = operands(70)  # beyond the first 64 places of the cache
    whole = block(8).forward(q, k, v, AnalogCache())
    cache, unit = AnalogCache(), block(8)
    parts = [
        unit.forward(q[:, :, s], k[:, :, s], v[:, :, s], cache)
        for s in (slice(0, 30), slice(30, 31), slice(31, 70))
    ]
    assert cache.length == 70
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


def test_a_token_meets_the_same_noisy_units_in_a_prompt_and_on_its_own():
    acam = AcamModel.from_library(make_library())
    noisy = AnalogAttention("a", ProductModel.program(acam, units=16, seed=5), RANGES)
    q, k, v = operands(20)  # positions beyond the 16 units, two heads to a key head
    whole, cache = noisy.forward(q, k, v, AnalogCache()), AnalogCache()
    parts = [noisy.forward(q[:, :, [t]], k[:, :, [t]], v[:, :, [t]], cache) for t in range(20)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


def test_sequences_of_a_batch_do_not_see_each_other():
    q, k, v = operands(12, batch=3)
    together = block(8).forward(q, k, v, AnalogCache())
    for i in range(3):
        alone = block(8).forward(q[i : i + 1], k[i : i + 1], v[i : i + 1], AnalogCache())
        np.testing.assert_array_equal(alone[0], together[i])


def test_later_tokens_do_not_change_earlier_ones():
    q, k, v = operands(20)
    full = block(8).forward(q, k, v, AnalogCache())
    short = block(8).forward(*(x[:, :, :9] for x in (q, k, v)), AnalogCache())
    np.testing.assert_array_equal(full[:, :, :9], short)


def test_operands_beyond_the_ceiling_are_counted():
    q, k, v = operands(5)
    unit = block(8)
    unit.forward(q, k, v, AnalogCache())
    assert unit.clipped == 0
    unit.forward(100 * np.sign(q), k, v, AnalogCache())
    assert unit.clipped == q.size

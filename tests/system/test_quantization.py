"""Codes and ranges: DAC codes, weights, smoothing, scales per vector."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.errors import ParameterError
from system.commands.options import mapping_overrides
from system.quantization import (
    InputCodes,
    Mapping,
    as_options,
    block_scale,
    fake_quantize,
    quantize_weight,
    smoothing_factors,
    widen,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight_scale", "row"),
        ("input_bits", 1),
        ("slices", 3),
        ("percentile", 50.0),
        ("range_momentum", 1.0),
        ("smoothing", 1.5),
        ("block_norm", -0.1),
        ("output_margin", 5.0),
        ("output_lift", -1.0),
        ("weight_headroom", 1.0),
        ("line_start", 0.95),
        ("output_fine", -1.0),
        ("output_copies", 0),
    ],
)
def test_mapping_refuses_what_no_tile_can_do(key, value):
    with pytest.raises(ParameterError, match=f"mapping.{key} is {value!r}; permitted"):
        Mapping(**{key: value})


def test_a_fine_range_needs_the_sum_of_currents():
    with pytest.raises(ParameterError, match="with partial_sums 'digital'"):
        Mapping(output_fine=2.0, partial_sums="digital")


def test_mapping_names_an_unknown_key():
    with pytest.raises(ParameterError, match="unknown mapping key 'bits'"):
        Mapping.from_dict({"bits": 8})


def test_mapping_survives_its_dictionary():
    mapping = Mapping(smoothing=0.5, input_blocks=True, output_margin=0.25)
    assert Mapping.from_dict(mapping.to_dict()) == mapping


def test_layers_have_the_choices_of_the_last_pattern_that_fits():
    mapping = Mapping(
        input_bits=7, layers={"*proj": {"input_bits": 9, "slices": 1}, "*.up_proj": {"slices": 2}}
    )
    assert mapping.of("lm_head") is mapping
    assert mapping.of("a.down_proj") == Mapping(input_bits=9, slices=1)
    assert mapping.of("a.up_proj") == Mapping(input_bits=9, slices=2)
    assert Mapping.from_dict(mapping.to_dict()) == mapping


def test_choices_of_layers_are_changed_one_by_one():
    before = Mapping(layers={"*.a": {"input_bits": 9}})
    after = before.changed({"slices": 1, "*.a.output_bits": 6, "*.b.input_bits": 10})
    layers = {"*.a": {"input_bits": 9, "output_bits": 6}, "*.b": {"input_bits": 10}}
    assert after == Mapping(slices=1, layers=layers)
    assert before.layers == {"*.a": {"input_bits": 9}}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"*.a": {"bits": 9}}, "unknown mapping key 'layers.*.a.bits'"),
        ({"*.a": {"spare_rows": 2}}, "unknown mapping key 'layers.*.a.spare_rows'"),
        ({"*.a": {"slices": "two"}}, "mapping.layers.*.a.slices is 'two'; wanted a value like 2"),
        ({"*.a": {"slices": 3}}, "mapping.slices is 3; permitted: 1, 2"),
        ({"*.a": 3}, "mapping.layers.*.a is 3; wanted an object"),
        ([], "mapping.layers is []; wanted a value like {}"),
    ],
)
def test_choices_of_layers_that_no_mapping_has_are_refused(layers, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        Mapping.from_dict({"layers": layers})


@settings(deadline=None)  # the first example compiles
@given(low=st.floats(-100, 0), width=st.floats(0.01, 200))
def test_input_codes_round_like_torch(low, width):
    """Oracle: torch.fake_quantize_per_tensor_affine, same scale and zero point."""
    codes = InputCodes.from_range(low, low + width, 8)
    x = np.linspace(low - 1, low + width + 1, 50, dtype=np.float32)
    expected = torch.fake_quantize_per_tensor_affine(
        torch.from_numpy(x), codes.scale, codes.zero, 0, 255
    )
    drive = codes.normalise(x[:, None])[:, 0] * np.float32(codes.full_scale)
    # A tie may round either way: one step apart at most, and rarely.
    wrong = np.abs(drive - expected.numpy()) > 1e-3 * codes.scale
    assert wrong.sum() <= 2
    np.testing.assert_allclose(drive, expected, rtol=0, atol=1.001 * codes.scale)


def test_zero_is_a_code_so_that_its_row_carries_no_current():
    codes = InputCodes.from_range(-0.37, 1.9, 8)
    assert codes.normalise(np.zeros((1, 3), np.float32)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("scale", ["layer", "column"])
def test_weights_are_within_half_a_step(scale):
    weight = RNG.normal(size=(5, 7)).astype(np.float32)
    w, factor = quantize_weight(weight, Mapping(weight_scale=scale))
    error = np.abs(w.T * factor[:, None] - weight)
    assert (error <= factor[:, None] * (0.5 / 127 + 1e-6)).all()  # 127 steps, float32 rounding


def test_smoothing_leaves_the_product_unchanged_and_evens_the_inputs():
    weight = RNG.normal(size=(6, 4)).astype(np.float32)
    x = (RNG.normal(size=(50, 4)) * [1, 1, 1, 100]).astype(np.float32)
    factors = smoothing_factors(weight, np.stack([x.min(0), x.max(0)]), 0.8)
    assert factors is not None
    before, after = (np.abs(v).max(0) for v in (x, x / factors))
    assert after.max() / after.min() < 0.2 * before.max() / before.min()
    # float32 sums of four terms
    np.testing.assert_allclose((x / factors) @ (weight * factors).T, x @ weight.T, rtol=1e-4,
                               atol=1e-4)  # fmt: skip


def test_no_smoothing_is_no_work():
    assert smoothing_factors(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), 0.0) is None


def test_block_scale_is_the_largest_magnitude_or_a_share_of_the_norm():
    x = np.array([[3, -4, 0], [0, 0, 0], [1, 1, 1]], np.float32)
    assert block_scale(x)[:, 0].tolist() == [4.0, 1.0, 1.0]
    # norms 5, 0 and sqrt 3
    np.testing.assert_allclose(block_scale(x, 0.9)[:, 0], [4.5, 1.0, 0.9 * 3**0.5], rtol=1e-6)


def test_widened_range_keeps_its_middle():
    low, high = widen(np.float32(-1.0), np.float32(3.0), 0.25)
    assert (low, high) == (-2.0, 4.0)


def test_fake_quantize_is_idempotent_and_clips():
    x = RNG.normal(size=200).astype(np.float32)
    once = fake_quantize(x, -1.0, 1.0, 8)
    assert np.abs(once).max() <= 1.0
    np.testing.assert_allclose(fake_quantize(once, -1.0, 1.0, 8), once, rtol=0, atol=1e-6)


def test_headroom_leaves_the_top_of_the_conductances_free():
    weight = RNG.normal(size=(4, 30)).astype(np.float32)
    plain, _ = quantize_weight(weight, Mapping(weight_scale="column"))
    w, scale = quantize_weight(weight, Mapping(weight_scale="column", weight_headroom=0.25))
    np.testing.assert_allclose(np.abs(w).max(axis=0), 0.75)
    np.testing.assert_allclose(w, 0.75 * plain, rtol=1e-6)  # float32
    np.testing.assert_allclose(w.T * scale[:, None], weight, atol=np.abs(weight).max() / 250)


def test_log_codes_are_no_finer_than_their_units_allow():
    found = [Mapping(product_copies=n, product_finer=4).finer for n in (1, 2, 3, 4, 6, 8)]
    assert found == [1, 2, 1, 4, 2, 4]
    assert Mapping(product_copies=2, product_log_copies=8, product_finer=4).finer == 4


def test_choices_are_written_as_the_command_line_reads_them():
    choices = {"linearize": True, "lm_head.output_copies": 4, "weight_scale": "column"}
    pairs = [word.removeprefix("--map ") for word in as_options(choices)]
    assert mapping_overrides(pairs) == choices

"""A linear layer on tiles against the same codes with exact arithmetic between them."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from behavioral import correction_fit
from behavioral.library import Library
from system.calibration import RangeRecorder
from system.hardware import Chip, Hardware
from system.layer_spec import QuantizedLinear
from system.linear import AnalogLinear
from system.models.ops import as_images
from system.models.patches import Convolution
from system.quantization import Mapping
from tests.behavioral.standin import driven_library, make_library

RNG = np.random.default_rng(2)
WEIGHT = RNG.normal(size=(12, 300)).astype(np.float32) * np.geomspace(0.1, 1, 12)[:, None].astype(
    np.float32
)
BIAS = RNG.normal(size=12).astype(np.float32)
X = RNG.normal(size=(64, 300)).astype(np.float32)
COLUMN = Mapping(weight_scale="column", output_range="column")
ROWS = 256


@pytest.fixture(scope="module")
def ideal() -> Library:
    """Stand-in with ohmic cells, no wires and an ideal amplifier: only codes are left."""
    library = make_library(column__r_wire_ohm_per_cell="1e-6")
    data = library.crossbar
    crossbar = dataclasses.replace(
        data,
        current=data.g[:, None, None] * (data.v_row[:, None] - data.v_bl),
        held_out_current=data.held_out_g * (data.held_out_v_row - data.held_out_v_bl),
    )
    readout = dataclasses.replace(library.readout, r_input_ohm=1e-6)
    return dataclasses.replace(library, crossbar=crossbar, readout=readout)


@pytest.fixture(scope="module")
def real() -> Library:
    return make_library()


def layers(library, mapping, activation=None, bias=None, chip=None, **kept):
    """Return the quantised and the analog layer on the same calibrated ranges."""
    tensors = {"l.weight": WEIGHT} | ({} if bias is None else {"l.bias": bias})
    recorder = RangeRecorder(tensors, mapping, ROWS)
    recorder.linear("l", X, activation)
    args = ("l", WEIGHT, bias, activation, recorder.ranges)
    hardware = Hardware(library, mapping, **kept)
    analog = AnalogLinear(*args, hardware, chip or Chip(noise="none"))
    return QuantizedLinear(*args, mapping, ROWS), analog


def step(layer):
    return (layer.spec.out_hi - layer.spec.out_lo) / 255


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("mapping", [Mapping(), COLUMN], ids=["layer", "column"])
@pytest.mark.parametrize("bias", [None, BIAS], ids=["", "bias"])
def test_ideal_tiles_give_the_quantised_layer_within_a_code(ideal, mapping, activation, bias):
    quantized, analog = layers(ideal, mapping, activation, bias)
    codes = (analog.forward(X) - quantized.forward(X)) / step(analog)
    # one code where a sum lies within float32 rounding, or a table point, of a code's edge
    assert np.abs(codes).max() <= 1.01
    assert np.abs(codes).mean() < 0.05


@pytest.mark.parametrize(
    "mapping",
    [COLUMN, Mapping(**COLUMN.to_dict() | {"smoothing": 0.6, "input_blocks": True})],
    ids=["plain", "smoothed blocks"],
)
def test_quantised_layer_is_near_the_float_product(mapping, ideal):
    """Oracle: the float64 product."""
    quantized, _ = layers(ideal, mapping)
    exact = X.astype(np.float64) @ WEIGHT.T
    # 8-bit inputs, weights and outputs: 300 terms of rounding, together under 2 % of the spread
    assert (np.abs(quantized.forward(X) - exact).std(0) < 0.02 * exact.std(0)).all()


def test_lifted_outputs_lie_higher_on_the_data_line_for_a_coarser_step(ideal):
    lifted = Mapping(**COLUMN.to_dict() | {"output_lift": 1.0})
    (_, plain), (_, high) = layers(ideal, COLUMN), layers(ideal, lifted)
    np.testing.assert_allclose(step(high), 2 * step(plain), rtol=1e-5)  # float32 ends
    np.testing.assert_array_equal(high.spec.y_hi, plain.spec.y_hi)
    assert (np.abs(high.forward(X) - plain.forward(X)) <= 1.5 * step(high)).all()


PLACES = ({"line_start": 0.4}, {"output_fine": 2.0}, {"output_copies": 3})


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("change", [*PLACES, PLACES[0] | PLACES[1] | PLACES[2]])
@pytest.mark.parametrize("range_", ["layer", "column"])
def test_ideal_units_give_the_quantised_layer_wherever_their_codes_lie(
    ideal, change, activation, range_
):
    mapping = Mapping(**COLUMN.to_dict() | change | {"output_range": range_})
    quantized, analog = layers(ideal, mapping, activation, BIAS)
    codes = (analog.forward(X) - quantized.forward(X)) / step(analog)
    # codes as above; at the border of two ranges a code of the coarse one decides
    assert np.abs(codes).max() <= 1.51
    assert np.abs(codes).mean() < 0.05


def test_a_line_that_starts_higher_counts_what_lies_below_its_codes(ideal):
    raised = Mapping(**COLUMN.to_dict() | {"line_start": 0.4})
    (_, plain), (_, high) = layers(ideal, COLUMN), layers(ideal, raised)
    for layer in (plain, high):
        layer.forward(1.2 * X)  # beyond the codes, some within the unused part of the line
    assert plain.hardware.counters.clipped > 20
    assert abs(high.hardware.counters.clipped - plain.hardware.counters.clipped) <= 1


def test_a_fine_range_has_finer_steps_around_the_mean(ideal):
    """Oracle: the float64 product."""
    exact = X.astype(np.float64) @ WEIGHT.T
    middle = np.abs(exact - exact.mean(0)) < 0.9 * exact.std(0)
    error = {}
    for fine in (0.0, 1.0):
        mapping = Mapping(**COLUMN.to_dict() | {"output_fine": fine, "input_bits": 12,
                                                "weight_bits": 12})  # fmt: skip
        quantized, _ = layers(ideal, mapping)
        error[fine] = np.abs(quantized.forward(X) - exact)[middle].mean()
    assert error[1.0] < 0.6 * error[0.0]  # 64 samples reach 2.4 sigma: steps 2.4 times finer


def test_copies_average_the_noise_of_thresholds(real):
    error = {}
    for copies in (1, 4):
        mapping = Mapping(**COLUMN.to_dict() | {"output_copies": copies})
        quantized, noisy = layers(real, mapping, chip=Chip(1, 0))
        _, ideal = layers(real, mapping)
        error[copies] = (noisy.forward(X) - ideal.forward(X)).std()
        assert (noisy.forward(X) != quantized.forward(X)).any()
    # half the threshold noise; the crossbar's is the same
    assert error[4] < 0.75 * error[1]


@pytest.mark.parametrize("sums", ["current", "digital"])
def test_a_trimmed_chip_has_no_mean_error_on_recorded_inputs(real, sums):
    """Inputs of one sign: each column's write noise shifts it; codes and thresholds remain."""
    means, inputs = [], np.abs(X)
    for trim in (False, True):
        mapping = dataclasses.replace(COLUMN, output_trim=trim, partial_sums=sums)
        recorder = RangeRecorder({"l.weight": WEIGHT, "l.bias": BIAS}, mapping, ROWS)
        recorder.linear("l", inputs)
        layer = AnalogLinear(
            "l", WEIGHT, BIAS, None, recorder.ranges, Hardware(real, mapping), Chip()
        )
        error = (layer.forward(inputs) - inputs @ WEIGHT.T - BIAS) / step(layer)
        means.append(np.abs(error.mean(axis=0)).mean())
    assert means[1] < 0.5 * means[0]


def test_more_inputs_trim_a_chip_better(real):
    """Against 2,000 inputs not recorded; a mean of n errors scatters by n**-0.5 of theirs."""
    mapping = dataclasses.replace(COLUMN, output_trim=True, trim_inputs=300)
    inputs = np.abs(np.random.default_rng(5).normal(size=(2600, 300))).astype(np.float32)
    recorder = RangeRecorder({"l.weight": WEIGHT}, mapping, ROWS)
    recorder.linear("l", inputs[:600])
    kept = recorder.ranges["l.trim"]
    assert kept.shape == (300, 300)
    ends = [
        AnalogLinear(
            "l", WEIGHT, None, None, recorder.ranges | {"l.trim": rows}, Hardware(real, mapping),
            Chip(),
        ).spec.y_lo
        for rows in (kept[::100], kept, inputs[600:])
    ]  # fmt: skip
    few, many = (np.abs(end - ends[2]).mean() for end in ends[:2])
    assert many < 0.3 * few


@pytest.mark.parametrize("sums", ["current", "digital"])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_the_constant_of_the_virtual_ground_is_taken_off(real, sums, activation):
    """Inputs of a fiftieth of the DAC's range, codes of 12 bits: the offset is what is left."""
    means, few = [], np.concatenate([X, X / 50])
    for trim in (False, True):
        mapping = dataclasses.replace(
            COLUMN, ground_trim=trim, partial_sums=sums, input_bits=12, output_bits=12
        )
        _, layer = layers(real, mapping, activation, BIAS)
        wanted = few @ WEIGHT.T + BIAS
        wanted = wanted if activation is None else wanted * expit(wanted)
        means.append(np.abs((layer.forward(few) - wanted)[len(X) :].mean(axis=0)).mean())
    assert means[1] < 0.3 * means[0]


def test_headroom_lets_predistortion_reach_the_largest_weights():
    """Oracle: the quantised layer; 300 rows on a bit line of 10 ohm per cell."""
    library, worst = make_library(column__r_wire_ohm_per_cell="10"), {}
    for headroom in (0.0, 0.3):
        mapping = Mapping(**COLUMN.to_dict() | {"weight_headroom": headroom, "output_bits": 12})
        quantized, analog = layers(library, mapping)
        worst[headroom] = np.abs(analog.forward(X) - quantized.forward(X)).mean()
    assert worst[0.3] < 0.8 * worst[0.0]


def test_blocks_keep_codes_for_small_vectors_beside_a_huge_one(ideal):
    scaled = X * np.where(np.arange(64) == 0, 1000.0, 1.0)[:, None].astype(np.float32)
    worst = {}
    for blocks in (False, True):
        mapping = Mapping(**COLUMN.to_dict() | {"input_blocks": blocks})
        recorder = RangeRecorder({"l.weight": WEIGHT}, mapping, ROWS)
        recorder.linear("l", scaled)
        layer = QuantizedLinear("l", WEIGHT, None, None, recorder.ranges, mapping, ROWS)
        worst[blocks] = np.abs(layer.forward(scaled) - scaled @ WEIGHT.T)[1:].max()
    assert worst[True] < 0.05 * worst[False]


def test_each_columns_silu_uses_the_codes_of_its_own_range(ideal):
    """Oracle: silu in float64; a column of small outputs has a finer step than the largest."""
    _, analog = layers(ideal, COLUMN, "silu")
    z = X.astype(np.float64) @ WEIGHT.T
    assert step(analog)[0] < 0.5 * step(analog)[-1]
    error = np.abs(analog.forward(X) - z * expit(z)).mean(0)
    assert error[0] < 0.5 * error[-1]


def test_digital_and_current_partial_sums_agree_within_their_codes(ideal):
    digital = Mapping(**COLUMN.to_dict() | {"partial_sums": "digital"})
    _, current = layers(ideal, COLUMN)
    _, summed = layers(ideal, digital)
    assert len(summed.units) == len(summed.tiles) == 2
    bound = (summed.spec.tile_hi - summed.spec.tile_lo).sum(0) / 255 + step(current)
    assert (np.abs(summed.forward(X) - current.forward(X)) <= 1.5 * bound).all()


def test_same_chip_same_bits_another_chip_others(real):
    outs = [layers(real, COLUMN, "silu", chip=Chip(3, i))[1].forward(X) for i in (0, 0, 1)]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()


def test_frozen_chip_repeats_itself_and_per_read_noise_does_not(real):
    for noise, same in (("frozen", True), ("per-read", False)):
        _, layer = layers(real, COLUMN, chip=Chip(0, 0, noise))
        assert np.array_equal(layer.forward(X), layer.forward(X)) is same


def test_a_huge_input_saturates_and_is_counted(ideal):
    _, layer = layers(ideal, COLUMN)
    layer.forward(100 * X)
    counters = layer.hardware.counters
    assert counters.conversions == 64 * 12
    assert 0.3 * counters.conversions < counters.clipped <= counters.conversions


@pytest.mark.parametrize("forced", ["auto", "second product", "profile"])
def test_a_convolution_is_the_product_of_its_patches(real, monkeypatch, forced):
    """Bending the image and then copying pixels gives the bits of bending patches."""
    if forced != "auto":
        monkeypatch.setattr(correction_fit, "ENOUGH", -1.0 if forced == "profile" else 0.05)
        monkeypatch.setattr(correction_fit, "LARGEST", 0.0)
        monkeypatch.setattr(correction_fit, "WORTH", np.inf if forced == "profile" else 1.0)
    shape = Convolution((5, 5), stride=2, padding=(1, 2, 0, 1))
    images = RNG.normal(size=(3, 12, 9, 8)).astype(np.float32)
    patches = shape.patches(shape.pad(images))
    recorder = RangeRecorder({"l.weight": WEIGHT}, Mapping(), ROWS)
    recorder.linear("l", patches)
    layer = AnalogLinear(
        "l", WEIGHT, None, None, recorder.ranges, Hardware(real, Mapping()), Chip()
    )
    found = [a.correction for a in layer.arrays]
    wanted = {"auto": (True, 1), "second product": (True, 2), "profile": (False, 1)}[forced]
    assert [(c.pointwise, len(c.laws)) for c in found] == [wanted] * len(found)
    expected = as_images(layer.forward(patches), shape.pad(images), shape)
    np.testing.assert_allclose(layer.convolve(images, shape), expected, atol=step(layer).max())
    assert np.mean(layer.convolve(images, shape) != expected) < 0.01


def test_row_drivers_of_a_convolution_see_rows():
    """A pixel stands on 25 rows of different load: the image cannot be driven as it is."""
    shape, mapping = Convolution((5, 5), padding=(2, 2, 2, 2)), Mapping()
    images = RNG.normal(size=(2, 12, 6, 6)).astype(np.float32)
    patches = shape.patches(shape.pad(images))
    recorder = RangeRecorder({"l.weight": WEIGHT}, mapping, ROWS)
    recorder.linear("l", patches)
    hardware = Hardware(driven_library(500.0), mapping)
    layer = AnalogLinear("l", WEIGHT, None, None, recorder.ranges, hardware, Chip())
    assert all(array.correction.pointwise for array in layer.arrays)
    expected = as_images(layer.forward(patches), shape.pad(images), shape)
    assert np.mean(layer.convolve(images, shape) != expected) < 0.01


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("start", [0.0, 0.4])
def test_both_read_out_ranges_in_one_pass_are_one_after_the_other(real, activation, start):
    """Bit for bit, beyond the line too; the wide units are asked only where in doubt."""
    change = {"output_fine": 1.0, "output_copies": 2, "line_start": start}
    _, layer = layers(real, Mapping(**COLUMN.to_dict() | change), activation, BIAS, Chip(3, 0))
    low, high = layer.spec.y_lo / layer.spec.gain, layer.spec.y_hi / layer.spec.gain
    y = np.random.default_rng(0).uniform(1.2 * low - 0.2 * high, 1.2 * high - 0.2 * low, (999, 12))
    y = y.astype(np.float32)
    y[5, 3] = np.nan
    one, two = y.copy(), y.copy()
    clipped = layer._convert_ranges(one, slice(0, 12), 0)
    layer.together = False
    assert clipped == layer._convert_ranges(two, slice(0, 12), 0) > 300
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("noise", ["frozen", "per-read"])
def test_tiles_in_one_product_add_up_as_on_their_own(real, noise):
    """Float32 sums in another order; per-read noise of the sum is drawn once: its spread."""
    _, layer = layers(real, COLUMN, chip=Chip(1, 0, noise))
    drive = layer.drive(np.repeat(X[:1], 4000, axis=0))
    stacked = np.empty((4000, 12), np.float32)
    driven = layer._stack.drive(layer.hardware.crossbar, drive)
    layer._stack.read_block(driven, slice(0, 12), seed=(1,), out=stacked)
    one = stacked.astype(float), (layer.multiply(drive, 0) + layer.multiply(drive, 1)).astype(float)
    spread, mean = np.std(one, axis=1), np.mean(one, axis=1)
    # 4,000 draws: 1.1 % a deviation, 4 sigma of the ratio of two
    np.testing.assert_allclose(spread[0], spread[1], rtol=0.065, atol=1e-6)
    assert (np.abs(mean[0] - mean[1]) < 1e-5 + 5 * spread[0] * np.sqrt(2 / 4000)).all()
    assert (spread[0].max() > 1e-4) == (noise == "per-read")

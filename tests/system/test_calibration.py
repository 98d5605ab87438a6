"""Ranges measured on a float forward pass."""

import numpy as np
import pytest

from circuits.errors import CheckpointError
from system.calibration import RANGE_CHOICES, RangeRecorder, need, peaks, tiles
from system.models.ops import FloatOps
from system.quantization import Mapping

RNG = np.random.default_rng(1)
WEIGHT = RNG.normal(size=(3, 10)).astype(np.float32)
X = RNG.normal(size=(40, 10)).astype(np.float32)


def record(mapping: Mapping, *batches: np.ndarray, bias: np.ndarray | None = None) -> RangeRecorder:
    tensors = {"l.weight": WEIGHT} | ({} if bias is None else {"l.bias": bias})
    recorder = RangeRecorder(tensors, mapping, 4)
    for batch in batches:
        recorder.linear("l", batch)
    return recorder


def test_tiles_cover_every_row_once_within_the_column():
    parts = tiles(577, 256)
    assert [p.start for p in parts] == [0, *(p.stop for p in parts[:-1])]
    assert parts[-1].stop == 577
    assert max(p.stop - p.start for p in parts) <= 256


def test_recorder_computes_what_float_does():
    """Oracle: FloatOps."""
    expected = FloatOps({"l.weight": WEIGHT}).linear("l", X)
    out = RangeRecorder({"l.weight": WEIGHT}, Mapping(), 4).linear("l", X)
    np.testing.assert_array_equal(out, expected)


def test_ranges_are_those_of_all_batches_together():
    once, twice = record(Mapping(), X), record(Mapping(), X[:25], X[25:])
    assert once.ranges.keys() == twice.ranges.keys()
    for key in once.ranges.keys() - {"l.rows"}:  # a sample of the inputs, spread over the calls
        value = once.ranges[key]
        # float32 products of differently shaped batches
        np.testing.assert_allclose(twice.ranges[key], value, rtol=1e-5, atol=1e-6)


def test_moments_are_those_of_every_output():
    """Oracle: float64 mean and standard deviation."""
    y = X.astype(np.float64) @ WEIGHT.T.astype(np.float64)
    ranges = record(Mapping(), X[:25], X[25:]).ranges
    np.testing.assert_allclose(ranges["l.mean"], y.mean(0), atol=1e-5)  # float32 products
    np.testing.assert_allclose(ranges["l.std"], y.std(0), rtol=1e-5)


def test_output_range_is_the_columns_minimum_and_maximum():
    y = X.astype(np.float64) @ WEIGHT.T.astype(np.float64)
    found = record(Mapping(), X).ranges["l.y"]
    np.testing.assert_allclose(found, [y.min(0), y.max(0)], rtol=1e-5)  # float32 product


def test_blocks_take_the_size_of_a_vector_out_of_the_ranges():
    mapping = Mapping(input_blocks=True)
    plain, huge = record(mapping, X), record(mapping, X, 1000 * X[:1])
    np.testing.assert_allclose(huge.ranges["l.y"], plain.ranges["l.y"], rtol=1e-4, atol=1e-5)
    assert np.abs(plain.ranges["l.x"]).max() == 1.0


def test_blocks_are_not_for_layers_with_a_bias():
    bias = np.ones(3, np.float32)
    with_blocks = record(Mapping(input_blocks=True), X, bias=bias).ranges
    np.testing.assert_array_equal(with_blocks["l.x"], record(Mapping(), X, bias=bias).ranges["l.x"])


def test_percentile_ignores_outliers():
    outlier = X.copy()
    outlier[0] = 1e6
    found = record(Mapping(percentile=95.0), outlier).ranges["l.x"]
    assert np.abs(found).max() < np.abs(X).max()


def test_products_have_a_ceiling_per_channel_with_ranges_per_column():
    a = np.array([[1, -20], [2, 10]], np.float32)
    for choice, expected in (("layer", [20.0]), ("column", [2.0, 20.0])):
        recorder = RangeRecorder({}, Mapping(output_range=choice), 4)
        recorder.multiply("p", a, a)
        assert recorder.ranges["p.a"].tolist() == expected


def test_peaks_are_positive_and_have_their_margin():
    ranges = {"p.a": np.array([0.0, 2.0], np.float32)}
    np.testing.assert_allclose(peaks(ranges, "p.a", 2, 0.5), [3e-3, 3.0], rtol=1e-6)
    shared = {"p.a": np.array([2.0], np.float32)}
    assert peaks(shared, "p.a", 7, 0.0, shared=True).tolist() == [2.0]


def test_missing_range_says_how_to_get_it():
    with pytest.raises(CheckpointError, match=r"range l\.x is missing.*measured again"):
        need({}, "l.x", (2, 3))


def test_a_layer_may_have_a_percentile_of_its_own():
    mapping = Mapping(layers={"l": {"percentile": 95.0}})
    outlier = X.copy()
    outlier[0, 0] = 100.0
    wanted = record(Mapping(percentile=95.0), outlier).ranges["l.x"]
    np.testing.assert_array_equal(record(mapping, outlier).ranges["l.x"], wanted)
    assert mapping.chosen(RANGE_CHOICES) != Mapping().chosen(RANGE_CHOICES)


def test_moving_ranges_are_torchs_moving_averages():
    """torch.ao's observer, which averages by 1 - momentum; float32 in another order."""
    torch = pytest.importorskip("torch")
    quantization = pytest.importorskip("torch.ao.quantization")
    observers = [quantization.MovingAverageMinMaxObserver(0.1) for _ in range(2)]
    recorder = RangeRecorder(
        {"l.weight": np.eye(1, dtype=np.float32)}, Mapping(range_momentum=0.9), 4
    )
    for scale in (1.0, 5.0, 2.0):
        batch = RNG.normal(0, scale, (40, 1)).astype(np.float32)
        recorder.linear("l", batch)
        recorder.multiply("p", batch, batch)
        observers[0](torch.from_numpy(batch))
        observers[1](torch.from_numpy(np.abs(batch)))
    wanted = [float(observers[0].min_val), float(observers[0].max_val)]
    for key in ("l.x", "l.y"):
        np.testing.assert_allclose(recorder.ranges[key][:, 0], wanted, rtol=1e-6)
    np.testing.assert_allclose(recorder.ranges["p.b"], float(observers[1].max_val), rtol=1e-6)

"""The replay in ngspice, and what it would find."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavioral.library import Library
from circuits.errors import ParameterError
from system import validation
from system.linear import Chip
from system.networks import load_network


@pytest.fixture(scope="module")
def recorded(quick_library):
    library = Library.from_hdf5(quick_library)
    network = load_network("lenet-mnist-float", tile_rows=256)
    return library, validation.record(network, library, 4, Chip(0, 0, "frozen"))


@given(st.integers(0, 255))
def test_rows_decode_to_the_code_whose_gray_word_they_are(code):
    """Gray word: code ^ code >> 1, bit by bit one row."""
    word = code ^ (code >> 1)
    match = np.array([[bool(word >> b & 1) for b in range(8)]])
    assert validation.decode_rows(match, np.arange(8), 8, gray=True) == [code]


@pytest.mark.ngspice
def test_columns_of_a_recorded_layer_agree_within_the_bars(recorded):
    """0.1 LSB rms and 0.5 LSB at most, the design's bars."""
    library, ops = recorded
    rng = np.random.default_rng(0)
    found = validation.replay_columns(library, ops.layers["fc3"], ops.inputs["fc3"], rng)
    errors = np.concatenate([c.errors.ravel() for c in found])
    assert np.sqrt(np.mean(errors**2)) <= 0.1
    assert np.abs(errors).max() <= 0.5


@pytest.mark.ngspice
def test_a_wrong_conductance_is_found(recorded):
    """All devices of the positive main columns 20 % off: the error exceeds the bar."""
    library, ops = recorded
    layer = ops.layers["fc2"]
    devices = layer.arrays[0].devices
    before = devices.copy()
    try:
        devices[0] *= 1.2
        rng = np.random.default_rng(0)
        found = validation.replay_columns(library, layer, ops.inputs["fc2"], rng)
    finally:
        devices[...] = before
    assert max(np.abs(c.errors).max() for c in found) > 0.5


@pytest.mark.ngspice
def test_an_unknown_layer_is_named_with_those_there_are(recorded):
    network = load_network("lenet-mnist-float", tile_rows=256)
    with pytest.raises(ParameterError, match="no layer 'fc9'; its layers: conv1, conv2, fc1"):
        validation.validate(network, recorded[0], samples=2, layers=["fc9"])


def test_the_totals_weigh_layers_by_their_points():
    layers = [
        validation.LayerReport("a", 100, 0.3, 0.5, 0.0, 10, 1.0, 1.0, ""),
        validation.LayerReport("b", 300, 0.1, 0.2, 0.0, 30, 0.8, 1.0, ""),
    ]
    totals = validation.to_dict(layers)
    assert totals["column_rms_lsb"] == pytest.approx(np.sqrt((0.09 * 100 + 0.01 * 300) / 400))
    assert totals["codes_equal"] == pytest.approx(0.85)
    assert totals["column_max_lsb"] == 0.5
    assert validation.to_table(layers).splitlines()[1].startswith("a ")

"""Evaluation over chips."""

import numpy as np
import pytest

from behavioral.library import Library
from circuits.errors import ParameterError
from system.hardware import Chip
from system.inference import arithmetic, evaluate
from system.networks import load_network

pytestmark = pytest.mark.ngspice


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.fixture(scope="module")
def network():
    return load_network("lenet-mnist-float", tile_rows=256)


def test_chips_differ_and_their_spread_is_the_sample_deviation(network, library):
    result = evaluate(network, library, mode="noisy", samples=300, chips=3)
    assert result.mean == pytest.approx(np.mean(result.values))
    assert result.std == pytest.approx(np.std(result.values, ddof=1))
    assert "3 chips, 300 samples" in str(result)
    x = network.samples(20).inputs
    logits = [
        network.model.forward(x, arithmetic(network, library, "noisy", Chip(0, k)))
        for k in range(2)
    ]
    assert not np.array_equal(*logits)


def test_one_chip_is_the_same_alone_and_among_others(network, library):
    alone = evaluate(network, library, mode="noisy", samples=200, chips=1)
    among = evaluate(network, library, mode="noisy", samples=200, chips=2)
    assert among.values[0] == alone.values[0]


def test_modes_lose_little_by_little(network, library):
    """One of 300 images is 0.33 %; quantisation costs less than 2 %, all noise less than 5 %."""
    means = {
        mode: evaluate(network, library, mode=mode, samples=300).mean
        for mode in ("float", "quantized", "ideal-analog", "noisy")
    }
    assert means["float"] > 0.97
    assert means["quantized"] > means["float"] - 0.02
    assert means["ideal-analog"] > means["float"] - 0.03
    assert means["noisy"] > means["float"] - 0.05


def test_a_mode_on_silicon_needs_a_library(network):
    with pytest.raises(ParameterError, match="needs a library; make one: nldpe characterize"):
        evaluate(network, None, mode="noisy", samples=5)

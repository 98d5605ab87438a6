"""Layers on tiles whose DAC levels and conductances make up for bent cells."""

import numpy as np
import pytest

from system.calibration import RangeRecorder
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.models.ops import as_images
from system.models.patches import Convolution
from system.parts import PartOps, Parts
from system.quantization import Mapping
from tests.behavioral.standin import make_library
from tests.system.test_linear import ROWS, WEIGHT, X, layers
from tests.system.tiny_llama import tiny_network

FINE = {"weight_scale": "column", "output_range": "column", "output_bits": 12, "input_bits": 10,
        "weight_bits": 12, "weight_headroom": 0.2, "ground_trim": True}  # fmt: skip


@pytest.fixture(scope="module")
def library():
    return make_library()


def error(library, **choices):
    """Return the rms difference from exact sums of the same codes."""
    quantised, analog = layers(library, Mapping(**FINE, **choices))
    return np.sqrt(np.mean(np.square(analog.forward(X) - quantised.forward(X))))


@pytest.mark.parametrize("sums", ["current", "digital"])
def test_a_linearized_layer_is_nearer_to_exact_sums(library, sums):
    """No device noise: bent cells make most of the difference; wires and codes are left."""
    plain = error(library, partial_sums=sums)
    assert error(library, partial_sums=sums, linearize=True) < 0.6 * plain


def test_a_linearized_convolution_is_the_product_of_its_patches(library):
    """But for sums in another order, which move a code in a hundred."""
    shape, mapping = Convolution((5, 5), stride=2, padding=(1, 2, 0, 1)), Mapping(linearize=True)
    images = np.random.default_rng(4).normal(size=(3, 12, 9, 8)).astype(np.float32)
    patches = shape.patches(shape.pad(images))
    recorder = RangeRecorder({"l.weight": WEIGHT}, mapping, ROWS)
    recorder.linear("l", patches)
    hardware = Hardware(library, mapping)
    layer = AnalogLinear("l", WEIGHT, None, None, recorder.ranges, hardware, Chip())
    expected = as_images(layer.forward(patches), shape.pad(images), shape)
    assert np.mean(layer.convolve(images, shape) != expected) < 0.01


def test_a_kept_layer_drives_the_same_levels(library):
    mapping = Mapping(**FINE, linearize=True)
    _, layer = layers(library, mapping, chip=Chip(3))
    again = AnalogLinear.from_state(layer.state(), Hardware(library, mapping), Chip(3))
    np.testing.assert_array_equal(again.forward(X), layer.forward(X))
    assert np.abs(layer.drive(X) - layer.spec.drive(X)[0]).max() > 3e-3


def test_a_trimmed_layer_has_no_mean_error_with_levels(library):
    quantised, analog = layers(library, Mapping(**FINE, linearize=True, output_trim=True))
    mean = (analog.forward(X) - quantised.forward(X)).mean(axis=0)
    assert np.abs(mean).max() < 0.5 * np.ptp(quantised.forward(X)) / 256


def test_codes_alone_have_even_steps(library):
    """With exact products of codes there are no cells whose bend levels could make up for."""
    found = []
    for choice in (False, True):
        network = tiny_network(ROWS, linearize=choice)
        ops = PartOps(network, library, Chip(noise="none"))
        ops.switch.parts = Parts.of(["codes"])
        found.append(network.model.forward(np.arange(20)[None], ops))
    np.testing.assert_array_equal(*found)

"""Layers that torch computes against the kernels: same draws, same codes but at their edges."""

import numpy as np
import pytest

from behavioral import correction_fit
from behavioral.kernels import noise as kernels
from behavioral.noise import quantiles
from circuits.errors import ParameterError
from system.calibration import RangeRecorder
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.models.patches import Convolution
from system.quantization import Mapping
from tests.behavioral.standin import make_library

torch_linear = pytest.importorskip("system.torch_linear")

RNG = np.random.default_rng(8)
WEIGHT = RNG.normal(size=(301, 300)).astype(np.float32)
X = RNG.normal(size=(50, 300)).astype(np.float32)
MAPPINGS = {
    "plain": Mapping(),
    "two ranges": Mapping(output_fine=True, output_copies=2, input_blocks=True),
    "column": Mapping(weight_scale="column", output_range="column"),
    "digital": Mapping(partial_sums="digital"),
}


def layer(mapping, noise, weight=WEIGHT, x=X):
    recorder = RangeRecorder({"l.weight": weight}, mapping, 256)
    recorder.linear("l", x)
    hardware = Hardware(make_library(), mapping)
    return AnalogLinear("l", weight, None, None, recorder.ranges, hardware, Chip(3, 0, noise))


@pytest.mark.parametrize("noise", ["none", "frozen", "per-read"])
@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_torch_gives_the_kernels_codes(mapping, noise):
    """Sums differ by float32 rounding: one code in a thousand may be the next one."""
    own = layer(mapping, noise)
    moved = torch_linear.mover("cpu")(own)
    moved.reads = list(own.reads)
    for _ in range(2):  # reads go on counting
        wanted, found = own.forward(3 * X), moved.forward(3 * X)
        assert np.mean(found != wanted) < 1e-3
    assert np.abs(found - wanted).max() <= 0.1 * np.ptp(wanted)


def test_terms_and_convolutions_are_those_of_the_kernels(monkeypatch):
    monkeypatch.setattr(correction_fit, "ENOUGH", -1.0)
    shape = Convolution((5, 5), stride=2, padding=(1, 2, 0, 1))
    images = RNG.normal(size=(3, 12, 9, 8)).astype(np.float32)
    own = layer(Mapping(), "frozen", x=shape.patches(shape.pad(images)))
    assert all(array.correction.terms.size for array in own.arrays)
    moved = torch_linear.mover("cpu")(own)
    wanted = own.convolve(images, shape)
    assert np.mean(moved.convolve(images, shape) != wanted) < 2e-3


def test_normals_are_those_of_the_kernels():
    """200,000 draws: some 100 lie in the outermost strata, which are drawn by rejection."""
    samples, cols, key = 800, 251, np.uint64(2**63 + 12345)
    wanted = np.zeros((samples, cols), np.float32)
    with np.errstate(over="ignore"):
        kernels.add_noise(wanted, np.ones_like(wanted), quantiles(), key, np.uint64(7))
    table = torch_linear.torch.from_numpy(quantiles())
    found = torch_linear._normals(int(key.astype(np.int64)), 7, samples, cols, table).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert np.abs(wanted).max() > 3.6


def test_an_unknown_device_ends_in_a_message():
    with pytest.raises(ParameterError, match="--device tpu"):
        torch_linear.mover("tpu")

"""LeNet-5 on noisy tiles and ACAM units against the same network in float32.

Speed does not depend on what the weights say, so they are random and nothing is downloaded.
"""

import numpy as np
import pytest

from system.calibration import calibrate
from system.engine import AnalogOps
from system.linear import Chip, Hardware
from system.models.lenet import SHAPES, Lenet
from system.models.ops import FloatOps
from system.quantization import Mapping

IMAGES = 250


@pytest.fixture(scope="module")
def network():
    """Return an untrained LeNet-5, images and calibrated ranges."""
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.uniform(-1, 1, shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    model, images = Lenet(tensors), rng.uniform(0, 1, (IMAGES, 28, 28)).astype(np.float32)
    ranges = calibrate(tensors, lambda ops: model.forward(images, ops), Mapping(), 256)
    return model, images, ranges


@pytest.mark.parametrize("baseline", ["numpy", "torch"])
@pytest.mark.parametrize("noise", ["frozen", "per-read"])
def test_noisy_lenet(compare, library, network, noise, baseline):
    """Classify a batch of images on a chip that is already programmed."""
    model, images, ranges = network
    ops = AnalogOps(model.tensors, ranges, Hardware(library, Mapping()), Chip(0, 0, noise))
    digital = FloatOps(model.tensors)
    exact = (lambda: model.forward(images, digital)) if baseline == "numpy" else in_torch(network)
    compare(
        f"LeNet-5 noisy, read noise {noise}; float32 in {baseline}",
        lambda: model.forward(images, ops), exact, IMAGES, IMAGES, "images",
    )  # fmt: skip


def in_torch(network):
    """Return the float network in torch, on one thread and without gradients."""
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    model, images, _ = network
    p = {name: torch.from_numpy(tensor) for name, tensor in model.tensors.items()}
    x = torch.from_numpy(images)[:, None]
    torch.set_num_threads(1)

    @torch.inference_mode()
    def forward():
        y = F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=2))
        y = F.relu(F.conv2d(F.max_pool2d(y, 2), p["conv2.weight"], p["conv2.bias"]))
        y = F.max_pool2d(y, 2).flatten(1)
        for name in ("fc1", "fc2", "fc3"):
            y = F.linear(y, p[f"{name}.weight"], p[f"{name}.bias"])
            y = y if name == "fc3" else F.relu(y)
        return y

    assert np.allclose(forward().numpy(), model.forward(images, FloatOps(model.tensors)), atol=1e-5)
    return forward

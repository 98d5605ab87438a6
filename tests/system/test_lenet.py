"""LeNet-5 against torch."""

import numpy as np
import pytest

from circuits.errors import ParameterError
from system.models.lenet import SHAPES, Lenet
from system.models.ops import FloatOps


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(1)
    return {
        name: rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def torch_lenet(tensors, images: np.ndarray) -> np.ndarray:
    import torch
    import torch.nn.functional as F

    p = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    x = torch.from_numpy(images)[:, None].float() / 255
    x = F.max_pool2d(F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=2)), 2)
    x = F.max_pool2d(F.relu(F.conv2d(x, p["conv2.weight"], p["conv2.bias"])), 2).flatten(1)
    x = F.relu(F.linear(x, p["fc1.weight"], p["fc1.bias"]))
    x = F.relu(F.linear(x, p["fc2.weight"], p["fc2.bias"]))
    return F.linear(x, p["fc3.weight"], p["fc3.bias"]).numpy()


def test_forward_equals_torch(tensors):
    """1e-5 of the largest logit: two float32 summation orders over at most 400 terms."""
    images = np.random.default_rng(2).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    logits = Lenet(tensors).forward(images, FloatOps(tensors))
    wanted = torch_lenet(tensors, images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_bytes_and_fractions_give_the_same(tensors):
    images = np.random.default_rng(3).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    model, ops = Lenet(tensors), FloatOps(tensors)
    fractions = images.astype(np.float32) / 255
    np.testing.assert_array_equal(model.forward(images, ops), model.forward(fractions, ops))


@pytest.mark.parametrize("shape", [(28, 28), (1, 1, 28, 28), (1, 32, 32)])
def test_images_of_another_shape_are_refused(tensors, shape):
    with pytest.raises(ParameterError, match=r"takes images \(n, 28, 28\), not"):
        Lenet(tensors).forward(np.zeros(shape, np.uint8), FloatOps(tensors))

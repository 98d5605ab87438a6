"""The shipped networks on noisy tiles and ACAM units against the same networks in float32.

Real digits and text, 64 at a time: the tables of the ACAM units are looked up at random, so what
a network sees decides what stays in the processor's cache.
"""

import numpy as np
import pytest

from system.engine import make_ops
from system.hardware import Chip
from system.models.ops import FloatOps
from system.networks import load_network

BATCH = 64
TOKENS = 64


def inputs(network):
    """Return a batch of digits, or of beginnings of windows of text."""
    if network.metric == "accuracy":
        return network.samples(BATCH).inputs
    windows = network.samples(BATCH // 4).inputs
    return windows[:, : 4 * TOKENS].reshape(BATCH, TOKENS)


@pytest.mark.parametrize("noise", ["frozen", "per-read"])
@pytest.mark.parametrize("name", ["lenet-mnist", "llama-austen"])
def test_noisy_network(compare, library, name, noise):
    """Run a batch through a chip that is already programmed."""
    network = load_network(name, tile_rows=library.technology.column.rows)
    model, batch = network.model, inputs(network)
    noisy = make_ops(network, library, "noisy", Chip(0, 0, noise))
    exact = FloatOps(model.tensors)
    compare(
        f"{name} noisy, read noise {noise}; float32 in numpy",
        lambda: model.forward(batch, noisy), lambda: model.forward(batch, exact), BATCH, BATCH,
        "samples",
    )  # fmt: skip


@pytest.mark.parametrize("noise", ["frozen", "per-read"])
def test_noisy_lenet_against_torch(compare, library, noise):
    """The same digits; torch has kernels of its own for convolution."""
    network = load_network("lenet-mnist", tile_rows=library.technology.column.rows)
    digits = inputs(network)
    noisy = make_ops(network, library, "noisy", Chip(0, 0, noise))
    compare(
        f"lenet-mnist noisy, read noise {noise}; float32 in torch",
        lambda: network.model.forward(digits, noisy), in_torch(network.model, digits), BATCH, BATCH,
        "samples",
    )  # fmt: skip


def in_torch(model, digits):
    """Return LeNet-5 in torch, on one thread and without gradients."""
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    p = {name: torch.from_numpy(tensor) for name, tensor in model.tensors.items()}
    x = torch.from_numpy(digits.astype(np.float32) / np.float32(255.0))[:, None]
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

    assert np.allclose(forward().numpy(), model.forward(digits, FloatOps(model.tensors)), atol=1e-4)
    return forward

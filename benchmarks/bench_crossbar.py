"""A 256 x 256 tile, wires, cells and noise included, against the float32 product of numpy."""

import numpy as np
import pytest

from behavioral.crossbar import CrossbarModel


@pytest.mark.parametrize("noise", ["frozen", "per-read"])
@pytest.mark.parametrize("batch", [1, 64, 1024])
def test_crossbar_product(compare, library, batch, noise):
    """Multiply a batch of positive inputs."""
    rng = np.random.default_rng(0)
    w = np.clip(rng.normal(0, 0.25, (256, 256)), -1, 1).astype(np.float32)
    x = rng.uniform(0, 1, (batch, 256)).astype(np.float32)
    model = CrossbarModel(library)
    array = model.program(w, noise=noise)
    compare(
        f"crossbar 256x256, batch {batch}, read noise {noise}; numpy x @ w",
        lambda: model.multiply(array, x),
        lambda: x @ w,
        batch,
        batch,
        "vectors",
    )

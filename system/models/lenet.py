"""LeNet-5 with rectified linear units and max pooling.

Layout as in LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE
86 (1998), figure 2, with two changes usual since: ReLU for the scaled tanh, and max pooling for
the trained subsampling (which also makes every map of the second convolution see all six maps).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import ParameterError
from system.models.layers import max_pool2d
from system.models.ops import Array, Ops
from system.models.patches import Convolution

CONFIG: dict[str, Any] = {"model_type": "lenet", "architectures": ["LeNet5"]}

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}

CONV1 = Convolution((5, 5), padding=(2, 2, 2, 2))
CONV2 = Convolution((5, 5))


class Lenet:
    """LeNet-5; `tensors` has the names and shapes of `SHAPES`."""

    def __init__(self, tensors: Mapping[str, Array]):
        self.tensors = dict(tensors)

    def forward(self, images: NDArray[np.generic], ops: Ops) -> Array:
        """Classify images.

        Parameters
        ----------
        images : (B, 28, 28) array, uint8 in 0 to 255 or float in 0 to 1.
        ops : the arithmetic, holding this network's tensors.

        Returns
        -------
        (B, 10) array of logits

        Raises
        ------
        ParameterError
            The images have another shape.
        """
        if images.ndim != 3 or images.shape[1:] != (28, 28):
            raise ParameterError(f"LeNet-5 takes images (n, 28, 28), not {images.shape}")
        x = images[:, None].astype(np.float32)  # (B, 1, 28, 28)
        if images.dtype == np.uint8:
            x /= 255.0
        x = max_pool2d(ops.convolve("conv1", x, CONV1, "relu"), 2, 2)
        x = max_pool2d(ops.convolve("conv2", x, CONV2, "relu"), 2, 2)
        x = x.reshape(len(x), -1)  # (B, 16, 5, 5) -> (B, 400)
        x = ops.linear("fc1", x, "relu")
        x = ops.linear("fc2", x, "relu")
        return ops.linear("fc3", x)

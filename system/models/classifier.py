"""The convolutional classifiers by their `model_type` in config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from system.models import efficientnet, lenet, resnet, vgg
from system.models.ops import Array, Ops


class Classifier(Protocol):
    """A network that turns images into logits."""

    tensors: dict[str, Array]

    def forward(self, images: NDArray[Any], ops: Ops) -> Array:
        """Return logits (B, classes) for images (B, ...)."""


Built = TypeVar("Built")


@dataclass(frozen=True)
class Kind(Generic[Built]):
    """One architecture.

    Attributes
    ----------
    shapes : config -> name and shape of every tensor of a checkpoint.
    build : config and tensors -> the network.
    rename : tensors under another library's names -> under ours.
    optional : beginnings of the names of tensors that files may hold and a config not use.
    """

    shapes: Callable[[Mapping[str, Any]], dict[str, tuple[int, ...]]]
    build: Callable[[Mapping[str, Any], Mapping[str, Array]], Built]
    rename: Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]] = dict
    optional: tuple[str, ...] = ()


KINDS: dict[str, Kind[Classifier]] = {
    "lenet": Kind(lambda _: dict(lenet.SHAPES), lambda _, tensors: lenet.Lenet(tensors)),
    "resnet": Kind(resnet.shapes, resnet.Resnet),
    "vgg": Kind(vgg.shapes, vgg.Vgg, vgg.rename),
    "efficientnet": Kind(efficientnet.shapes, efficientnet.Efficientnet),
}

"""Convolutional networks in float against torch, with random weights."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

from circuits.errors import CheckpointError, ParameterError
from system.models import layers
from system.models.classifier import KINDS
from system.models.efficientnet import LITE0
from system.models.ops import FloatOps
from system.weights.checkpoint import load_checkpoint, save_checkpoint
from tests.system.torch_networks import Efficientnet, Resnet, vgg

IMAGE = {"image": [3, 16, 16], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
RESNET = {**IMAGE, "model_type": "resnet", "blocks": [1, 1, 1], "widths": [8, 12, 16], "classes": 5}
VGG = {**IMAGE, "model_type": "vgg", "features": [8, "M", 12], "classifier": [20, 10, 5]}
SQUEEZED = {
    **IMAGE,
    "model_type": "efficientnet",
    "stages": [[1, 3, 1, 1, 8, 8], [2, 5, 2, 4, 8, 12]],
    "stem": 8,
    "head": 24,
    "classes": 5,
    "activation": "silu",
    "squeeze": 0.25,
}


def random_module(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value that would show if it were left out."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            layer.running_mean.normal_(std=0.3)
            layer.running_var.uniform_(0.5, 2.0)
    return module.eval()


def images(config: dict, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *config["image"]), dtype=np.uint8)


def expected(module: nn.Module, config: dict, pixels: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(pixels).float() / 255
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        return module((x - mean) / std).numpy()


def computed(module: nn.Module, config: dict, pixels: np.ndarray) -> np.ndarray:
    stored = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    kept = {name: t for name, t in stored.items() if not name.endswith("num_batches_tracked")}
    kind = KINDS[config["model_type"]]
    assert {name: t.shape for name, t in kept.items()} == kind.shapes(config)
    network = kind.build(config, kept)
    return network.forward(pixels, FloatOps(network.tensors))


def check(module: nn.Module, config: dict) -> None:
    """1e-5 of the largest logit: float32 sums in another order."""
    module, pixels = random_module(module), images(config)
    want = expected(module, config, pixels)
    got = computed(module, config, pixels)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_a_resnet_is_torchs(shortcut, stem):
    config = {**RESNET, "shortcut": shortcut, "stem": stem}
    check(Resnet(config), config)


@pytest.mark.parametrize(("blocks", "parameters"), [((1, 1, 1), 78_042), ((3, 3, 3), 272_474)])
def test_resnet_8_and_20_have_the_published_size(blocks, parameters):
    """He et al., table 6: 0.27 M for ResNet-20; torch counts the rest."""
    config = {
        **RESNET, "image": [3, 32, 32], "blocks": blocks, "widths": (16, 32, 64), "classes": 10,
    }  # fmt: skip
    module = Resnet(config)
    assert sum(p.numel() for p in module.parameters()) == parameters
    check(module, config)


@pytest.mark.parametrize("norm", ["none", "before", "after"])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_vgg_is_torchs(norm, padding):
    config = {**VGG, "batch_norm": norm, "padding": padding}
    check(vgg(config), config)


@pytest.mark.parametrize("side", [3, 7])
def test_a_vgg_pools_to_a_grid_as_torch_does(side):
    config = {**VGG, "pooled": side, "batch_norm_eps": 1e-3, "batch_norm": "before"}
    check(vgg(config), config)


def test_squeeze_and_excite_with_swish_is_torchs():
    check(Efficientnet(SQUEEZED), SQUEEZED)


def test_efficientnet_lite0_is_torchs():
    config = {
        **IMAGE, "image": [3, 65, 64], "model_type": "efficientnet", "stages": LITE0,
        "stem": 32, "head": 1280, "classes": 1000,
    }  # fmt: skip
    module = Efficientnet(config)
    assert sum(p.numel() for p in module.parameters()) == 4_652_008
    check(module, config)


def test_max_pooling_is_torchs():
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 8)).astype(np.float32)
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 0)):
        want = F.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()
        np.testing.assert_array_equal(layers.max_pool2d(x, kernel, stride, padding), want)


def test_timms_vgg_names_are_understood(tmp_path):
    """In timm the classifier is convolutions: pre_logits.fc1, fc2 and head.fc."""
    config = {**VGG, "dataset": "cifar10"}
    module = random_module(vgg(config))
    stored = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    save_checkpoint(tmp_path / "ours", config, stored)
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    names["classifier.6"] = "head.fc"
    theirs = {}
    for name, tensor in stored.items():
        layer, kind = name.rsplit(".", 1)
        if kind == "weight" and layer == "classifier.0":
            tensor = tensor.reshape(len(tensor), 12, 8, 8)
        theirs[f"{names.get(layer, layer)}.{kind}"] = tensor
    renamed = KINDS["vgg"].rename(theirs)
    assert {name: t.shape for name, t in renamed.items()} == {k: v.shape for k, v in stored.items()}


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
def test_a_torch_export_with_counters_loads(tmp_path, file):
    """Batch normalisations export num_batches_tracked, which no inference reads."""
    config = {**RESNET, "dataset": "cifar10"}
    module = random_module(Resnet(config))
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if file == "model.pth":
        torch.save(module.state_dict(), folder / file)
    else:
        save_file({k: t.numpy() for k, t in module.state_dict().items()}, folder / file)
    pixels = images(config)
    network = load_checkpoint(folder).build()
    got = network.forward(pixels, FloatOps(network.tensors))
    np.testing.assert_allclose(got, expected(module, config, pixels), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": [1, 1]}, "differ in length"),
        ({"classes": 0}, "classes 0"),
        ({"stem": "tiny"}, "'tiny'; small or large"),
        ({"std": [0.1, 0.0, 0.1]}, "positive deviations"),
        ({"image": [3]}, "image, mean or std"),
        ({"widths": None}, "config.json of a resnet"),
    ],
)
def test_a_config_that_makes_no_resnet_is_named(change, message):
    with pytest.raises(CheckpointError, match=message):
        KINDS["resnet"].shapes({**RESNET, **change})


def test_missing_unexpected_and_misshapen_tensors_are_listed(tmp_path):
    config = {**RESNET, "dataset": "cifar10"}
    stored = {name: t.numpy() for name, t in Resnet(config).state_dict().items()}
    stored = {name: t for name, t in stored.items() if not name.endswith("num_batches_tracked")}
    stored["layer9.0.conv1.weight"] = stored.pop("layer1.0.conv1.weight")
    stored["fc.weight"] = np.zeros((5, 17), np.float32)
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(tmp_path / "net", config, stored)
    for line in (
        "missing: layer1.0.conv1.weight",
        "unexpected: layer9.0.conv1.weight",
        r"fc.weight (want (5, 16), got (5, 17))",
    ):
        assert line in str(caught.value)


def test_images_of_another_size_are_refused():
    shapes = KINDS["resnet"].shapes(RESNET)
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    network = KINDS["resnet"].build(RESNET, ones)
    with pytest.raises(ParameterError, match=r"takes images \(n, 3, 16, 16\), not \(1, 3, 8, 8\)"):
        network.forward(np.zeros((1, 3, 8, 8), np.uint8), FloatOps(network.tensors))

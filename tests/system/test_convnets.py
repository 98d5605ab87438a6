"""Convolutional networks in torch: the same functions as inference, folding, fine-tuning."""

import numpy as np
import pytest
import torch

from behavioral.library import Library
from system.calibration import calibrate
from system.data import photo_digits
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.inference import evaluate
from system.models.classifier import KINDS
from system.models.ops import FloatOps
from system.networks import load_network
from system.quantization import Mapping
from system.training import convnets, naf, networks
from tests.behavioral.standin import make_library

CONFIGS = {"resnet": convnets.RESNET8, "se": convnets.SENET}
DEEP = CONFIGS | {"resnet20": convnets.RESNET20}


def some_images(count: int) -> np.ndarray:
    digits = np.random.default_rng(0).integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return photo_digits.blend(digits, photo_digits.photo("train"), 1)


def test_the_blend_is_the_distance_of_patch_and_digit():
    picture = np.random.default_rng(1).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    digit = np.full((1, 28, 28), 200, np.uint8)
    found = photo_digits.blend(digit, picture, 0)[0]
    np.testing.assert_array_equal(found[:, :2], picture[:, :2])
    inner = np.abs(picture[:, 2:30, 2:30].astype(int) - 200)
    np.testing.assert_array_equal(found[:, 2:30, 2:30], inner)


@pytest.mark.parametrize("name", DEEP)
def test_both_forms_of_a_network_agree(name):
    """Float32 sums in two orders: 1e-4 of the largest logit."""
    config, images = DEEP[name], some_images(4)
    parameters = convnets.initial(config, 3)
    model = KINDS[config["model_type"]].build(config, naf.arrays(parameters))
    wanted = model.forward(images, FloatOps(model.tensors))
    ops, shown = networks.FloatOps(), torch.from_numpy(images)
    found = convnets.forward(config, ops, parameters, shown).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_folding_keeps_what_the_normalised_network_computes():
    """With momentum 1 the running moments are the batch's, up to n / (n - 1) of the variance."""
    config, images = convnets.RESNET8, torch.from_numpy(some_images(8))
    parameters = convnets.initial(config, 3)
    ops = convnets.BatchNormOps(parameters, momentum=1.0)
    wanted = convnets.forward(config, ops, parameters, images)
    found = convnets.forward(config, networks.FloatOps(), ops.fold(parameters), images)
    assert float((found - wanted).detach().abs().max()) < 0.02 * float(wanted.detach().abs().max())


@pytest.mark.ngspice
@pytest.mark.parametrize("name", ["resnet8-photo-digits", "resnet20-photo-digits"])
def test_a_shipped_resnet_with_naf_reads_digits_through_a_noisy_chip(name, quick_library):
    """Of 60 images 98 % are right on a chip; below 54 by chance twice in 10,000 times."""
    library = Library.from_hdf5(quick_library)
    assert (
        evaluate(load_network(name, tile_rows=256), library, mode="noisy", samples=60).mean >= 0.9
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_backward_on_tiles_follows_float(name):
    """Gradients of noisy convolutions, depthwise and channel scaling: same direction as float."""
    config, images = CONFIGS[name], some_images(6)
    parameters, mapping = convnets.initial(config, 5), Mapping(weight_scale="column")
    tensors = naf.arrays(parameters)
    model = KINDS[config["model_type"]].build(config, tensors)
    ranges = calibrate(tensors, lambda ops: model.forward(images, ops), mapping, 256)
    analog = AnalogOps(tensors, ranges, Hardware(make_library(), mapping), Chip(0, 0, "none"))
    gradients = []
    for ops in (naf.NoisyOps(analog), networks.FloatOps()):
        logits = convnets.forward(config, ops, parameters, torch.from_numpy(images))
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(6))
        found = torch.autograd.grad(loss, list(parameters.values()))
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.8

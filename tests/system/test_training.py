"""Training in torch: the same functions as inference, gradients of the float network, NAF."""

import numpy as np
import pytest
import torch

from behavioral.library import Library
from circuits.errors import DataError
from system.calibration import calibrate
from system.data import datasets
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.models.lenet import Lenet
from system.models.llama import Llama, LlamaConfig
from system.models.ops import FloatOps
from system.quantization import Mapping
from system.training import naf, networks, pretraining

SMALL = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.fixture(scope="module")
def digits():
    mnist = datasets.mnist()
    return mnist.train_images[:4000], mnist.train_labels[:4000]


@pytest.fixture(scope="module")
def trained(digits):
    return pretraining.train_lenet(*digits, steps=100, seed=0)


def noisy_ops(parameters, images, library, noise) -> naf.NoisyOps:
    tensors, mapping = naf.arrays(parameters), Mapping()
    ranges = calibrate(tensors, lambda ops: Lenet(tensors).forward(images, ops), mapping, 256)
    return naf.NoisyOps(AnalogOps(tensors, ranges, Hardware(library, mapping), Chip(0, 0, noise)))


def test_both_forms_of_lenet_agree(trained, digits):
    """Float32 sums in two orders."""
    images = digits[0][:20]
    ours = Lenet(naf.arrays(trained))
    wanted = ours.forward(images, FloatOps(ours.tensors))
    x = torch.from_numpy(images[:, None].astype(np.float32) / 255)
    found = networks.lenet(networks.FloatOps(), trained, x).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_both_forms_of_llama_agree():
    parameters = networks.initial_llama(SMALL, 3)
    config = LlamaConfig.from_dict({"model_type": "llama", "tie_word_embeddings": True, **SMALL})
    ours = Llama(config, {k: p.detach().numpy() for k, p in parameters.items()})
    tokens = np.arange(24).reshape(2, 12)
    wanted = ours.forward(tokens, FloatOps(ours.tensors))
    found = networks.llama(networks.FloatOps(), parameters, SMALL, torch.from_numpy(tokens))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=1e-6)


def test_the_backward_of_a_linear_layer_is_floats_where_nothing_saturates(library):
    """The layer's own input, weight and bias gradients; inputs inside the calibrated range."""
    rng = np.random.default_rng(5)
    weight, bias = rng.normal(size=(12, 40)), rng.normal(size=12)
    tensors = {"l.weight": weight.astype(np.float32), "l.bias": bias.astype(np.float32)}
    x = rng.uniform(-1, 1, (30, 40)).astype(np.float32)
    wide = 3 * x
    mapping = Mapping()
    ranges = calibrate(tensors, lambda ops: ops.linear("l", wide), mapping, 256)
    analog = AnalogOps(tensors, ranges, Hardware(library, mapping), Chip())
    gradients = []
    for ops in (naf.NoisyOps(analog), networks.FloatOps()):
        leaves = [torch.tensor(a).requires_grad_() for a in (x, *tensors.values())]
        torch.manual_seed(0)
        out = ops.linear("l", *leaves, None)
        (out * torch.randn(out.shape)).sum().backward()
        gradients.append([leaf.grad.numpy() for leaf in leaves])
    for found, wanted in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_saturated_converter_passes_no_gradient(library):
    weight = np.eye(4, dtype=np.float32)
    tensors = {"l.weight": weight, "l.bias": np.zeros(4, np.float32)}
    small = np.random.default_rng(6).uniform(-1, 1, (50, 4)).astype(np.float32)
    ranges = calibrate(tensors, lambda ops: ops.linear("l", small), Mapping(), 256)
    ops = naf.NoisyOps(AnalogOps(tensors, ranges, Hardware(library, Mapping()), Chip()))
    x = torch.full((1, 4), 5.0, requires_grad=True)
    ops.linear("l", x, torch.from_numpy(weight), torch.zeros(4), None).sum().backward()
    assert not x.grad.any()


def test_the_backward_of_attention_is_torchs_own(library):
    """Exact attention at the same operands, by torch's autograd."""
    generator = torch.Generator().manual_seed(7)
    shapes = [(1, 4, 6, 8), (1, 2, 6, 8), (1, 2, 6, 8)]
    start = [torch.randn(s, generator=generator) for s in shapes]
    heads = {k: t.abs().amax((0, 2, 3)).numpy() for k, t in zip("qkv", start, strict=True)}
    ranges = {f"a.{k}": v for k, v in heads.items()}
    analog = AnalogOps({}, ranges, Hardware(library, Mapping()), Chip())
    gradients = []
    for ops in (naf.NoisyOps(analog), networks.FloatOps()):
        leaves = [t.clone().requires_grad_() for t in start]
        ops.attention("a", *leaves).square().sum().backward()
        gradients.append(leaves)
    out = networks.FloatOps().attention("a", *start)
    noisy = naf.NoisyOps(analog).attention("a", *start)
    assert torch.linalg.norm(noisy - out) < 0.2 * torch.linalg.norm(out)
    for found, wanted in zip(*gradients, strict=True):
        # The outer gradient 2 y is taken at the noisy output, hence the loose bound.
        assert torch.linalg.norm(found.grad - wanted.grad) < 0.4 * torch.linalg.norm(wanted.grad)


def test_noise_aware_fine_tuning_lowers_the_noisy_loss(trained, digits, library):
    """Forty steps from a network of 100; the loss of a chip never seen, on images never seen."""
    mnist = datasets.mnist()
    images, labels = mnist.test_images[:600], torch.from_numpy(mnist.test_labels[:600].astype(int))
    x = torch.from_numpy(images[:, None].astype(np.float32) / 255)
    parameters = {k: p.detach().clone().requires_grad_() for k, p in trained.items()}

    def loss() -> float:
        ops = noisy_ops(parameters, images, library, "frozen")
        with torch.no_grad():
            logits = networks.lenet(ops, parameters, x)
        return float(torch.nn.functional.cross_entropy(logits, labels))

    def measure(tensors):
        return calibrate(
            tensors, lambda ops: Lenet(tensors).forward(digits[0][:256], ops), Mapping(), 256
        )

    before = loss()
    maker = naf.ChipMaker(parameters, measure, library, Mapping(), seed=9, refresh=3)
    naf.tune_lenet(parameters, *digits, maker, steps=40, seed=9)
    assert loss() < 0.95 * before


def test_float_training_with_one_seed_gives_the_same_bits(digits):
    runs = [pretraining.train_lenet(*digits, steps=3, seed=4) for _ in range(2)]
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name])


def test_too_few_images_for_a_batch_are_refused(digits):
    images, labels = digits
    with pytest.raises(DataError, match="100 training images"):
        pretraining.train_lenet(images[:100], labels[:100], steps=1, seed=0)

"""Convolutional networks in every mode: grouped layers, bounded activations, channel scaling."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from circuits.errors import CheckpointError
from system.calibration import FEW, RangeRecorder, calibrate
from system.engine import AnalogOps, QuantizedOps, make_ops
from system.hardware import Chip, Hardware
from system.inference import evaluate
from system.models.classifier import KINDS
from system.models.groups import block_diagonal, bundles
from system.models.ops import FloatOps
from system.models.patches import Convolution
from system.networks import Network, load_network
from system.quantization import Mapping
from system.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.behavioral.standin import make_library
from tests.system.test_cnn_models import RESNET, SQUEEZED, VGG, images, random_module
from tests.system.torch_networks import Efficientnet, Resnet, vgg

MAPPING = Mapping(weight_scale="column", output_range="column")
LITE = {**SQUEEZED, "activation": "relu6", "squeeze": 0.0}
NETWORKS = {"resnet": (Resnet, RESNET), "vgg": (vgg, VGG), "se": (Efficientnet, SQUEEZED)}
NETWORKS["lite"] = (Efficientnet, LITE)


@pytest.fixture(scope="module")
def library():
    return make_library()


def network(name: str, count: int = 6) -> Network:
    module, config = NETWORKS[name]
    stored = random_module(module(config)).state_dict()
    tensors = {k: v.numpy() for k, v in stored.items() if not k.endswith("num_batches_tracked")}
    model = KINDS[config["model_type"]].build(config, tensors)
    pixels = images(config, count)
    ranges = calibrate(model.tensors, lambda ops: model.forward(pixels, ops), MAPPING, 256)
    return Network(name, model, Checkpoint(config, tensors), MAPPING, ranges)


@pytest.mark.parametrize(("channels", "out", "groups"), [(40, 40, 40), (12, 24, 4), (600, 2, 2)])
def test_a_convolution_cut_into_bundles_is_torchs(channels, out, groups):
    """Float32 sums in another order: 1e-5 of the largest output."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, channels, 9, 8)).astype(np.float32)
    weight = rng.normal(size=(out, channels // groups, 3, 3)).astype(np.float32)
    bias = rng.normal(size=out).astype(np.float32)
    shape = Convolution((3, 3), 2, (0, 1, 1, 0), groups)
    padded = F.pad(torch.from_numpy(x), (1, 0, 0, 1))
    parts = (padded, torch.from_numpy(weight), torch.from_numpy(bias))
    want = F.relu6(F.conv2d(*parts, stride=2, groups=groups)).numpy()
    for rows in (None, 256):
        ops = FloatOps({"a.weight": weight, "a.bias": bias}, rows)
        got = ops.convolve("a", x, shape, "relu6")
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max() + 1e-4)


def test_a_bundle_fills_a_tile_of_256_rows():
    """28 channels of 9 rows are 252, ten of 25 are 250; a group beyond a tile stands alone."""
    sizes = [
        [part.stop - part.start for part in bundles(np.zeros((n, 1, k, k)), n, 256)]
        for n, k in ((60, 3), (25, 5), (3, 17))
    ]
    assert sizes == [[28, 28, 4], [10, 10, 5], [1, 1, 1]]


def test_a_block_diagonal_keeps_groups_apart():
    weight = np.arange(1, 9, dtype=np.float32).reshape(4, 2, 1, 1)
    dense = block_diagonal(weight, 2)[:, :, 0, 0]
    np.testing.assert_array_equal(dense, [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]])


def test_every_bundle_of_a_depthwise_layer_has_its_own_ranges():
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(30, 1, 3, 3)).astype(np.float32)}
    recorder = RangeRecorder(tensors, MAPPING, 256)
    x = rng.normal(size=(1, 30, 6, 6)).astype(np.float32)
    x[:, 28:] *= 100
    recorder.convolve("a", x, Convolution((3, 3), groups=30))
    assert recorder.ranges["a[0].y"].shape == (2, 28)
    assert np.abs(recorder.ranges["a[1].x"]).max() > 10 * np.abs(recorder.ranges["a[0].x"]).max()
    assert set(tensors) == {"a.weight"}  # the caller's tensors stay as they were


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_codes_stay_close_to_float(name):
    """8-bit codes in a few layers: within a tenth of the spread of the logits."""
    net = network(name)
    pixels = images(net.checkpoint.config, 6)
    want = net.model.forward(pixels, FloatOps(net.model.tensors))
    ops = QuantizedOps(net.model.tensors, net.ranges, net.mapping, 256)
    error = net.model.forward(pixels, ops) - want
    assert 0 < np.sqrt(np.mean(error**2)) < 0.1 * want.std()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_ideal_circuits_stay_close_to_codes(name, library):
    """Circuits without noise add what is left of IR drop and bending: under 0.2 of the spread."""
    net = network(name)
    pixels = images(net.checkpoint.config, 6)
    want = net.model.forward(pixels, make_ops(net, library, "quantized", Chip()))
    error = net.model.forward(pixels, make_ops(net, library, "ideal-analog", Chip())) - want
    assert np.sqrt(np.mean(error**2)) < 0.2 * want.std()


def test_chips_differ_and_a_chip_repeats(library):
    net = network("se")
    pixels = images(SQUEEZED, 2)
    a, again, b = (
        net.model.forward(pixels, make_ops(net, library, "noisy", Chip(3, index)))
        for index in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, again)
    assert (a != b).any()


def test_relu6_reads_only_what_it_can_show(library):
    """Above 6 the function is flat: the read-out range ends there and codes are not wasted."""
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(4, 16)).astype(np.float32)}
    x = 4 * rng.normal(size=(200, 16)).astype(np.float32)
    ranges = calibrate(tensors, lambda ops: ops.linear("a", x, "relu6"), MAPPING, 256)
    assert ranges["a.y"][1].min() > 20
    ops = AnalogOps(tensors, ranges, Hardware(library, MAPPING), Chip(noise="none"))
    got = ops.linear("a", x, "relu6")
    spec = ops.layer("a", "relu6").spec
    assert spec.y_hi.max() < 6 * (1 + MAPPING.flat_margin) + 1e-3
    want = np.clip(x @ tensors["a.weight"].T, 0, 6)
    # Sixteen inputs in steps of 0.12 and weights in steps of 1/127 make 0.2 of noise.
    assert np.sqrt(np.mean((got - want) ** 2)) < 0.25
    assert (got[want == 6] > 5.9).mean() > 0.98


def test_sigmoid_gates_lie_between_none_and_all(library):
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(4, 16)).astype(np.float32)}
    x = rng.normal(size=(100, 16)).astype(np.float32)
    ranges = calibrate(tensors, lambda ops: ops.linear("a", x, "sigmoid"), MAPPING, 256)
    want = 1 / (1 + np.exp(-x @ tensors["a.weight"].T))
    for ops in (
        QuantizedOps(tensors, ranges, MAPPING, 256),
        AnalogOps(tensors, ranges, Hardware(library, MAPPING), Chip(noise="none")),
    ):
        got = ops.linear("a", x, "sigmoid")
        assert got.min() >= 0
        assert got.max() <= 1
        np.testing.assert_allclose(got, want, rtol=0, atol=0.05)


def test_an_untrained_resnet_runs_from_a_checkpoint_on_the_users_cifar(tmp_path, library):
    """Checkpoint directory and binary CIFAR in, one number per mode out; labels are scored."""
    config = {**RESNET, "image": [3, 32, 32], "classes": 10, "dataset": "cifar10"}
    stored = random_module(Resnet(config)).state_dict()
    tensors = {k: v.numpy() for k, v in stored.items() if not k.endswith("num_batches_tracked")}
    save_checkpoint(tmp_path / "net", config, tensors)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    net = load_network(str(tmp_path / "net"), tile_rows=256, data=tmp_path)
    assert net.metric == "accuracy"
    for mode in ("float", "quantized", "noisy"):
        result = evaluate(net, library, mode=mode, samples=4)
        assert (result.metric, result.samples) == ("accuracy", 4)
        assert str(result).startswith(f"{net.name} {mode}: accuracy ")


def test_without_the_whole_set_a_network_is_compared_with_itself(library):
    net = load_network("vgg-cifar10", tile_rows=None)
    assert net.metric == "agreement"
    assert evaluate(net, library, mode="float", samples=20).mean == 1.0


def test_a_checkpoint_without_its_data_set_is_named(tmp_path):
    stored = Resnet(RESNET).state_dict()
    tensors = {k: v.numpy() for k, v in stored.items() if not k.endswith("num_batches_tracked")}
    save_checkpoint(tmp_path / "net", RESNET, tensors)
    assert load_checkpoint(tmp_path / "net").config == RESNET
    with pytest.raises(
        CheckpointError, match=r"dataset is None, wanted one of: mnist, photo-digits"
    ):
        load_network(str(tmp_path / "net"), tile_rows=256)


@pytest.mark.parametrize(("count", "common"), [(FEW - 1, True), (FEW, False)])
def test_columns_that_saw_few_inputs_share_a_range(count, common):
    """The logits of a class that was not among ten images must not be clipped to theirs."""
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(4, 300)).astype(np.float32)}
    x = rng.normal(size=(count, 300)).astype(np.float32)
    ranges = calibrate(tensors, lambda ops: ops.linear("a", x), MAPPING, 256)
    y = x @ tensors["a.weight"].T
    low, high = (y.min(), y.max()) if common else (y.min(axis=0), y.max(axis=0))
    np.testing.assert_allclose(ranges["a.y"][0], np.broadcast_to(low, 4), rtol=1e-4)
    np.testing.assert_allclose(ranges["a.y"][1], np.broadcast_to(high, 4), rtol=1e-4)
    assert (np.ptp(ranges["a.tile"][:, 1]) == 0) == common

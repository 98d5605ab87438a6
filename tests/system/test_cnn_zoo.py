"""Published networks from their packages, and torch's files read without torch."""

import collections
import zipfile

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from circuits.errors import CheckpointError
from system.data import datasets, images
from system.data.fetch import fetch
from system.models.ops import FloatOps
from system.weights import zoo
from system.weights.state_dict import read_state_dict

DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int8, torch.bool)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    made = {str(kind): (10 * torch.randn(3, 2)).to(kind) for kind in DTYPES}
    views = {"view": base[1:4, ::2], "transposed": base.T, "scalar": torch.tensor(7)}
    return collections.OrderedDict(made | views, empty=torch.zeros(0, 3))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_read_as_torch_wrote_it(tmp_path, zipped):
    """Both formats of torch, with views that share a storage."""
    torch.save(tensors(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    read = read_state_dict(tmp_path / "a.pth")
    assert list(read) == list(tensors())
    for name, want in tensors().items():
        assert read[name].dtype == want.numpy().dtype
        np.testing.assert_array_equal(read[name], want.numpy())


def test_bfloat16_is_widened(tmp_path):
    want = torch.randn(5, 3).bfloat16()
    torch.save({"state_dict": {"a": want}}, tmp_path / "a.pth")
    np.testing.assert_array_equal(read_state_dict(tmp_path / "a.pth")["a"], want.float().numpy())


def test_a_whole_pickled_module_is_refused(tmp_path):
    """Unpickling it would run code; torch itself refuses by default."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"asks for torch\.nn\.modules\.linear\.Linear.*anew"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.98])
def test_a_truncated_file_is_named(tmp_path, zipped, kept):
    torch.save(tensors(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"cannot read .*a\.pth as a torch state dictionary"):
        read_state_dict(tmp_path / "a.pth")


def test_a_storage_shorter_than_its_tensor_is_named(tmp_path):
    torch.save({"a": torch.randn(9)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:8] if name.endswith("data/0") else content)
    with pytest.raises(CheckpointError, match="storage 0 has 8 bytes, wanted 36"):
        read_state_dict(tmp_path / "b.pth")


def float_logits(name: str, pixels: np.ndarray) -> np.ndarray:
    network = zoo.load(name).build()
    return network.forward(pixels, FloatOps(network.tensors))


def test_ccexam_is_torchs_network_and_reads_digits():
    """The package's models.py, written down once more in torch; 99.05 % is its measured score."""
    mnist = datasets.mnist()
    pixels = mnist.test_images[:500]
    w = {k: torch.from_numpy(v) for k, v in zoo.load("ccexam-mnist").tensors.items()}
    x = (torch.from_numpy(pixels.copy())[:, None].float() / 255 - 0.1307) / 0.3081
    for i in (0, 3):
        x = F.conv2d(x, w[f"features.{i}.weight"], w[f"features.{i}.bias"], padding=1)
        x = F.max_pool2d(F.relu(x), 2)
    x = F.relu(F.linear(x.flatten(1), w["classifier.0.weight"], w["classifier.0.bias"]))
    want = F.linear(x, w["classifier.2.weight"], w["classifier.2.bias"]).numpy()
    got = float_logits("ccexam-mnist", pixels)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert np.mean(got.argmax(axis=1) == mnist.test_labels[:500]) > 0.98


def test_vgg_cifar10_is_the_keras_network_and_knows_its_images():
    """Layer by layer from the HDF5 file in torch, in Keras's order; 20 of 20 images are right."""
    samples = images.samples("cifar10")
    x = torch.from_numpy(samples.pixels).float()
    with h5py.File(fetch(zoo.CIFAR_MODEL) / "cnn_model.h5") as file:
        for i in range(6):
            part = zoo._keras_layer(file, "conv2d", i)
            kernel = torch.from_numpy(part["kernel"].transpose(3, 2, 0, 1).copy())
            x = F.relu(F.conv2d(x, kernel, torch.from_numpy(part["bias"])))
            norm = zoo._keras_layer(file, "batch_normalization", i)
            mean, var, gamma, beta = (
                torch.from_numpy(norm[k])
                for k in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            x = F.batch_norm(x, mean, var, gamma, beta, eps=1e-3)
            x = F.max_pool2d(x, 2) if i in (1, 3) else x
        x = x.permute(0, 2, 3, 1).flatten(1)
        for i in range(3):
            part = zoo._keras_layer(file, "dense", i)
            x = F.relu(x @ torch.from_numpy(part["kernel"]) + torch.from_numpy(part["bias"]))
    got = float_logits("vgg-cifar10", samples.pixels)
    want = x.numpy()  # the last ReLU is left off in ours
    np.testing.assert_allclose(np.maximum(got, 0), want, rtol=0, atol=1e-5 * want.max())
    assert (got.argmax(axis=1) == samples.labels).all()


def test_efficientnet_lite0_knows_natural_images():
    """20 of the 20 labels are among its first five (measured once with the authors' code)."""
    samples = images.samples("imagenet", 224)
    logits = float_logits("efficientnet-lite0", samples.pixels[:6])
    best = np.argsort(-logits, axis=1)[:, :5]
    assert np.mean((best == samples.labels[:6, None]).any(axis=1)) == 1.0


def test_a_package_of_another_layout_is_named(monkeypatch):
    entry = zoo.NETWORKS["ccexam-mnist"]
    wrong = {**entry.config, "classifier": [64, 10]}
    monkeypatch.setitem(zoo.NETWORKS, "ccexam-mnist", zoo._Entry(entry.package, wrong, entry.read))
    with pytest.raises(CheckpointError, match=r"classifier\.0\.weight \(want \(64, 3136\), got"):
        zoo.load("ccexam-mnist")


def test_a_damaged_keras_file_is_named(tmp_path):
    (tmp_path / "cnn_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match=r"cannot read .*cnn_model\.h5.*Delete"):
        zoo._read_keras(tmp_path / "cnn_model.h5", zoo.NETWORKS["vgg-cifar10"].config)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(CheckpointError, match=r"cannot read .*empty\.h5"):
        zoo._read_keras(tmp_path / "empty.h5", zoo.NETWORKS["vgg-cifar10"].config)

"""The data sets, as fetched and from the user's own folder."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.errors import DataError, FormatError
from system.data import datasets
from system.data.rdata import read_lazy_load


def write_idx(path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def mnist_folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8))
    return tmp_path


def test_mnist_is_the_genuine_set():
    """Class counts of the published test set, 980 zeros to 1009 nines."""
    data = datasets.mnist()
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.test_labels.shape == (10_000,)
    assert np.bincount(data.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_mnist_reads_a_users_folder_plain_or_compressed(mnist_folder):
    plain = datasets.mnist(mnist_folder)
    file = mnist_folder / "t10k-images-idx3-ubyte"
    (mnist_folder / "t10k-images.idx3-ubyte.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    np.testing.assert_array_equal(datasets.mnist(mnist_folder).test_images, plain.test_images)


def test_a_truncated_idx_file_is_named(mnist_folder):
    file = mnist_folder / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte holds 3919 bytes.*says 3920"):
        datasets.mnist(mnist_folder)


def test_a_missing_idx_file_is_named(mnist_folder):
    (mnist_folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"has no t10k-labels-idx1-ubyte.*--data FOLDER"):
        datasets.mnist(mnist_folder)


def test_images_and_labels_must_fit_together(mnist_folder):
    write_idx(mnist_folder / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(DataError, match=r"labels \(4,\), wanted"):
        datasets.mnist(mnist_folder)


@given(st.binary(max_size=40))
def test_any_bytes_give_an_array_or_a_data_error(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any-idx"
    file.write_bytes(content)
    try:
        array = datasets.read_idx(file)
    except DataError:
        return
    assert array.nbytes == len(content) - 4 - 4 * array.ndim


def test_austen_holds_persuasion_out():
    """Total length from an independent extraction of the package: 4,025,022 characters."""
    corpus = datasets.austen()
    assert corpus.valid.startswith("Persuasion")
    assert "Kellynch" in corpus.valid
    assert "Kellynch" not in corpus.train
    assert len(corpus.train) + len(corpus.valid) == pytest.approx(4_025_022, abs=10)


def test_austen_reads_a_users_folder(tmp_path):
    for name in ("Emma", "Persuasion", "Lady Susan"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert datasets.austen(tmp_path) == datasets.Corpus("Emma\n\nLady Susan", "Persuasion")
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / "valid.txt").write_text("b")
    assert datasets.austen(tmp_path) == datasets.Corpus("a", "b")


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe", "as UTF-8 text"), (b" \n", "is empty")]
)
def test_a_text_that_cannot_be_used_is_named(tmp_path, content, message):
    (tmp_path / "train.txt").write_bytes(content)
    (tmp_path / "valid.txt").write_text("fine")
    with pytest.raises(DataError, match=message):
        datasets.austen(tmp_path)


def test_austen_without_a_held_out_novel_is_an_error(tmp_path):
    (tmp_path / "Emma.txt").write_text("Emma")
    with pytest.raises(DataError, match=r"\['Emma'\]; wanted one with 'persuasion'"):
        datasets.austen(tmp_path)


def test_a_damaged_r_database_is_a_format_error(tmp_path):
    folder = datasets.fetch(datasets.AUSTEN)
    (tmp_path / "Rdata.rdx").write_bytes((folder / "Rdata.rdx").read_bytes())
    (tmp_path / "Rdata.rdb").write_bytes((folder / "Rdata.rdb").read_bytes()[:-1000])
    with pytest.raises(FormatError, match=r"no readable R database"):
        read_lazy_load(tmp_path / "Rdata")


def test_smollm2_takes_a_file_or_a_folder_with_one(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert datasets.smollm2(file) == datasets.smollm2(tmp_path) == file
    with pytest.raises(DataError, match="is not one GGUF file"):
        datasets.smollm2(tmp_path / "absent")

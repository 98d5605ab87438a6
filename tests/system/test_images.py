"""CIFAR as its authors distribute it, and the samples that ship."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.errors import CheckpointError, DataError, FormatError
from system.data import images, vision
from system.weights.pickles import load_pickle

FINE = 100


def batch(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return data, rng.integers(0, 10, count).tolist()


def write_python(folder, classes: int, protocol: int = 2) -> dict[str, tuple[np.ndarray, list]]:
    """Write the Python format: dictionaries with byte keys, as Python 2 left them."""
    folder.mkdir()
    names = ["train", "test"]
    if classes == 10:
        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    written = {}
    for seed, name in enumerate(names):
        data, labels = written[name] = batch(4, seed)
        key = b"labels" if classes == 10 else b"fine_labels"
        content = {b"batch_label": b"x", key: labels, b"data": data, b"filenames": [b"a.png"] * 4}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return written


def write_binary(folder, classes: int) -> dict[str, tuple[np.ndarray, list]]:
    """Write the binary format: for every image a label (coarse and fine: two) and 3072 bytes."""
    folder.mkdir()
    names = ["train", "test"]
    if classes == 10:
        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    written = {}
    for seed, name in enumerate(names):
        data, labels = written[name] = batch(4, seed)
        head = [[19] * 4, labels] if classes == FINE else [labels]
        records = np.concatenate([np.array(head, np.uint8).T, data], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return written


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("name", "write"), [("python", write_python), ("binary", write_binary)])
def test_cifar_is_read_as_written(tmp_path, classes, name, write):
    written = write(tmp_path / "cifar", classes)
    test = images.cifar(tmp_path / "cifar", classes, "test")
    data, labels = list(written.values())[-1]
    np.testing.assert_array_equal(test.pixels.reshape(4, -1), data)
    assert test.labels.tolist() == labels
    train = images.cifar(tmp_path / "cifar", classes, "train")
    assert train.labels.tolist() == [n for _, ls in list(written.values())[:-1] for n in ls]


@pytest.mark.parametrize("protocol", [2, 5])
def test_the_folder_around_the_archives_is_accepted(tmp_path, protocol):
    write_python(tmp_path / "cifar-10-batches-py", 10, protocol)
    assert images.cifar(tmp_path, 10, "test").pixels.shape == (4, 3, 32, 32)


def test_planes_are_red_green_blue_row_by_row(tmp_path):
    """Home page of the set: the first 1024 bytes are red, its first 32 the top row."""
    (tmp_path / "test_batch.bin").write_bytes(bytes([7]) + bytes(range(32)) + bytes(3040))
    found = images.cifar(tmp_path, 10, "test")
    assert found.pixels[0, 0, 0].tolist() == list(range(32))
    assert found.labels.tolist() == [7]


def test_a_folder_without_cifar_names_both_formats(tmp_path):
    with pytest.raises(DataError, match=r"no test_batch and no test_batch\.bin.*batches-py"):
        images.cifar(tmp_path, 10, "test")


def test_a_missing_batch_is_named(tmp_path):
    write_python(tmp_path / "cifar", 10)
    (tmp_path / "cifar" / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"has no data_batch_3; unpack the whole archive"):
        images.cifar(tmp_path / "cifar", 10, "train")


def test_a_truncated_binary_file_is_named(tmp_path):
    write_binary(tmp_path / "cifar", 10)
    file = tmp_path / "cifar" / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"12291 bytes, no multiple of a record of 3073"):
        images.cifar(tmp_path / "cifar", 10, "test")


def test_labels_of_another_set_are_refused(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match=r"labels 10 to 10, wanted 0 to 9"):
        images.cifar(tmp_path, 10, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"data": np.zeros((2, 7), np.uint8), b"labels": [1, 2]}, r"uint8 \(2, 7\), wanted"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "2 images and 1 labels"),
        ({b"labels": [1]}, "no batch of CIFAR-10"),
        ([1, 2], "no batch of CIFAR-10"),
    ],
)
def test_a_misshapen_batch_is_named(tmp_path, content, message):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=message):
        images.cifar(tmp_path, 10, "test")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Attack()}, protocol=2))
    with pytest.raises(DataError, match=r"asks for (io|_io|__builtin__)\.open, which is not data"):
        images.cifar(tmp_path, 10, "test")
    assert not marker.exists()


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_any_bytes_give_plain_data_or_a_format_error(content):
    """Nothing else may come out of a pickle that is allowed nothing."""
    try:
        made = load_pickle(io.BytesIO(content), {})
    except FormatError:
        return
    plain = (int, float, complex, str, bytes, bytearray, list, dict, tuple, set, frozenset)
    assert made is None or isinstance(made, plain)


def test_the_samples_are_those_of_the_file_names():
    """Labels of the test set's start as every loader of CIFAR-10 prints them: cat, ship, ship."""
    found = images.samples("cifar10")
    assert found.pixels.shape == (20, 3, 32, 32)
    assert found.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert images.samples("imagenet", 224).pixels.shape == (20, 3, 224, 224)


def test_the_crop_is_the_central_square():
    """Crop padding 32: of 512 pixels 448 are kept, a factor of two at 224."""
    from PIL import Image

    pixels = np.zeros((512, 600, 3), np.uint8)
    pixels[32:480, 76:524] = 200
    cropped = np.asarray(images._centre(Image.fromarray(pixels), 224))
    assert (cropped == 200).all()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet", "mnist"])
def test_no_image_is_both_calibrated_on_and_scored(name):
    config = {"dataset": name}
    scored = {p.tobytes() for p in vision.test_images(config, None).pixels}
    assert not scored & {p.tobytes() for p in vision.calibration_images(config, None)}


def test_an_unknown_data_set_is_named():
    with pytest.raises(
        CheckpointError, match=r"dataset is 'svhn', wanted one of: mnist, photo-digits"
    ):
        vision.test_images({"dataset": "svhn"}, None)


def test_labels_are_scored_only_on_whole_sets(tmp_path):
    assert vision.is_labelled({"dataset": "mnist"}, None)
    assert not vision.is_labelled({"dataset": "cifar10"}, None)
    assert vision.is_labelled({"dataset": "cifar10"}, tmp_path)

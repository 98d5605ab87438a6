"""Networks by name: found, calibrated, scored on the official test set."""

import json
import shutil

import numpy as np
import pytest

from circuits.errors import CheckpointError, DataError, ParameterError
from system.data import datasets
from system.models.ops import FloatOps
from system.networks import excerpts, load_network, shipped

LENET = "lenet-mnist-float"


def test_the_shipped_networks_load_with_ranges_for_256_rows():
    assert {LENET, "llama-austen-float"} <= set(shipped())
    for name in set(shipped()) - {"smollm2-135m-naf"}:  # ranges of its base take minutes
        network = load_network(name, tile_rows=256)
        assert network.ranges
        assert network.metric == ("perplexity" if "llama" in name else "accuracy")


def test_a_changed_mapping_measures_the_ranges_anew():
    """Min-max ranges hold every percentile range; a tile of 128 rows has more parts than one."""
    stored = load_network(LENET, tile_rows=256).ranges
    narrow = load_network(LENET, tile_rows=256, overrides={"percentile": 99}).ranges
    assert (narrow["fc1.y"][1] <= stored["fc1.y"][1]).all()
    assert (narrow["fc1.y"][1] < stored["fc1.y"][1]).any()
    small = load_network(LENET, tile_rows=128).ranges
    assert (stored["fc1.tile"].shape[0], small["fc1.tile"].shape[0]) == (2, 4)


def test_a_mapping_that_moves_no_range_keeps_those_of_the_checkpoint():
    """The recipe measured on more windows than a load would."""
    stored = load_network("llama-austen-float", tile_rows=256).ranges
    kept = load_network("llama-austen-float", tile_rows=256, overrides={"slices": 1}).ranges
    assert kept.keys() == stored.keys()
    assert all(np.array_equal(kept[key], stored[key]) for key in stored)


def test_inputs_for_trimming_are_measured_beside_stored_ranges():
    stored = load_network(LENET, tile_rows=256).ranges
    choices = {"output_trim": True, "trim_inputs": 70}
    trimmed = load_network(LENET, tile_rows=256, overrides=choices).ranges
    assert {k: len(v) for k, v in trimmed.items() if k not in stored} == {
        f"{name}.trim": 70 for name in ("conv1", "conv2", "fc1", "fc2", "fc3")
    }
    assert all(np.array_equal(trimmed[key], stored[key]) for key in stored)


def test_without_tiles_nothing_is_calibrated(tmp_path):
    shutil.copytree(shipped()[LENET], tmp_path / "net")
    network = load_network(str(tmp_path / "net"), tile_rows=None, data="/nonexistent")
    assert network.name == str(tmp_path / "net")


def test_samples_are_spread_over_the_test_set():
    network = load_network(LENET, tile_rows=256)
    images = datasets.mnist().test_images
    chosen = network.samples(3)
    np.testing.assert_array_equal(chosen.inputs[[0, -1]], images[[0, -1]])
    assert len(network.samples(20_000)) == 10_000
    assert network.score(FloatOps(network.model.tensors), network.samples(500)) > 0.95


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(CheckpointError, match="nearest: lenet-mnist"):
        load_network("lenet-mnst", tile_rows=256)


@pytest.mark.parametrize(
    ("stated", "kind"), [(5, CheckpointError), ({"slices": "two"}, ParameterError)]
)
def test_a_mapping_of_the_wrong_type_is_refused(stated, kind, tmp_path):
    place = tmp_path / "net"
    shutil.copytree(shipped()[LENET], place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "mapping": stated}))
    with pytest.raises(kind, match="wanted"):
        load_network(str(place), tile_rows=256)


def test_an_empty_test_set_is_refused(tmp_path):
    head = bytes([0, 0, 8])
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(
            head + b"\x03" + b"".join(n.to_bytes(4, "big") for n in (0, 28, 28))
        )
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(head + b"\x01" + bytes(4))
    network = load_network(LENET, tile_rows=256, data=tmp_path)
    with pytest.raises(DataError, match="the test set is empty"):
        network.samples(5)


def test_a_long_text_is_calibrated_on_all_over_and_a_short_one_whole():
    text = "".join(chr(0x4E00 + i) for i in range(1000))
    parts = excerpts(text, 4, 100)
    assert [text.index(part) for part in parts] == [0, 300, 600, 900]
    assert all(len(part) == 100 for part in parts)
    assert excerpts(text, 4, 250) == [text]

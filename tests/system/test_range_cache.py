"""Measured ranges are kept under what they depend on."""

import dataclasses

import numpy as np
import pytest

from system import measured_ranges, range_cache
from system.calibration import RANGE_CHOICES, TRIM_CHOICES, RangeRecorder
from system.data import datasets
from system.networks import load_network
from system.quantization import Mapping
from system.range_cache import load_ranges, range_key, store_ranges

NAME, OTHER = "llama-austen-float", {"percentile": 99.5}
TENSORS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
INPUTS = np.arange(4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(range_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "ranges"


def refuse(*_):
    raise AssertionError("measured again")


def test_a_network_is_measured_once(folder, monkeypatch):
    first = load_network(NAME, tile_rows=256, overrides=OTHER).ranges
    monkeypatch.setattr(measured_ranges, "calibrate", refuse)
    again = load_network(NAME, tile_rows=256, overrides=OTHER).ranges
    assert first.keys() == again.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(again[key], value)
    with pytest.raises(AssertionError, match="measured again"):
        load_network(NAME, tile_rows=128, overrides=OTHER)
    assert [p.suffix for p in folder.iterdir()] == [".npz"]


def test_a_choice_that_moves_no_range_finds_the_same_file(folder, monkeypatch):
    load_network(NAME, tile_rows=256, overrides={"output_margin": 0.5})
    monkeypatch.setattr(measured_ranges, "calibrate", refuse)
    load_network(NAME, tile_rows=256, overrides={"output_lift": 0.5})


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_file_is_measured_again_with_a_message(damage, folder, caplog):
    store_ranges("key", {"a.x": np.ones(50, np.float32)})
    file = folder / "key.npz"
    image = bytearray(file.read_bytes())
    image[len(image) // 2] ^= 0xFF  # one flipped byte in the data: the checksum tells
    file.write_bytes(bytes(image) if damage is None else damage)
    assert load_ranges("key") is None
    assert "key.npz is damaged" in caplog.text
    assert load_ranges("absent") is None


def test_a_write_that_fails_leaves_nothing_behind(folder):
    with pytest.raises(ValueError, match="Object arrays"):
        store_ranges("key", {"a": np.array([object()])})
    assert list(folder.iterdir()) == []


def test_the_key_follows_weights_inputs_and_choices():
    turned = {"w": TENSORS["w"].T}
    keys = {
        range_key(TENSORS, INPUTS, {"tile_rows": 256}),
        range_key({"w": TENSORS["w"] + 1}, INPUTS, {"tile_rows": 256}),
        range_key(turned, INPUTS, {"tile_rows": 256}),
        range_key({"v": TENSORS["w"]}, INPUTS, {"tile_rows": 256}),
        range_key(TENSORS, INPUTS + 1, {"tile_rows": 256}),
        range_key(TENSORS, INPUTS, {"tile_rows": 128}),
    }
    assert len(keys) == 6
    assert range_key(dict(TENSORS), INPUTS.copy(), {"tile_rows": 256}) in keys


def test_the_key_holds_every_choice_that_the_recorder_reads():
    """A field that is read but not in the key would let an old file serve a new mapping."""
    read, every = set(), Mapping(input_blocks=True, block_norm=0.5, output_trim=True)

    class Noting:
        def of(self, name):
            return self

        def __getattr__(self, key):
            read.add(key)
            return getattr(every, key)

    recorder = RangeRecorder({"l.weight": np.ones((2, 3), np.float32)}, Noting(), 256)
    recorder.linear("l", np.ones((4, 3), np.float32))
    recorder.multiply("p", np.ones((4, 3), np.float32), np.ones((4, 3), np.float32))
    noted = {*RANGE_CHOICES, *TRIM_CHOICES}
    assert read <= noted <= {f.name for f in dataclasses.fields(Mapping)}


def test_the_development_text_is_neither_calibrated_on_nor_scored():
    network = load_network(NAME, tile_rows=None)
    corpus = datasets.austen()
    chosen = network.decode(network.development_samples(1).inputs[0])
    assert chosen[50:150] in corpus.train
    assert chosen[50:150] not in corpus.valid
    seen = network.decode(network.calibration_inputs()[-1])
    assert corpus.train.index(seen[50:150]) < 0.9 * len(corpus.train)
    assert corpus.train.index(chosen[50:150]) >= 0.9 * len(corpus.train)

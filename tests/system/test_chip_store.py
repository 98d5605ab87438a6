"""Kept chips compute the same bits as programmed ones, and are never mistaken for others."""

import dataclasses

import numpy as np
import pytest

from circuits.errors import NldpeError
from system.calibration import RangeRecorder
from system.chip_store import ChipStore
from system.engine import AnalogOps
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.quantization import Mapping
from tests.behavioral.standin import make_library

RNG = np.random.default_rng(5)
TENSORS = {
    "l.weight": RNG.normal(size=(12, 300)).astype(np.float32),
    "l.bias": RNG.normal(size=12).astype(np.float32),
}
X = RNG.normal(size=(40, 300)).astype(np.float32)
FINE = Mapping(output_fine=True, output_copies=2)
LIBRARY = make_library()


def ops(folder, mapping=FINE, chip=None, tensors=TENSORS):
    """Return the arithmetic of a one-layer network; `folder` None keeps nothing."""
    chip = chip or Chip(1)
    recorder = RangeRecorder(tensors, mapping, 256)
    recorder.linear("l", X, "silu")
    made = AnalogOps(tensors, recorder.ranges, Hardware(LIBRARY, mapping), chip)
    if folder is not None:
        made.store = ChipStore(folder, LIBRARY, mapping.to_dict(), chip)
    return made


@pytest.mark.parametrize("noise", ["none", "frozen", "per-read"])
@pytest.mark.parametrize("mapping", [Mapping(), FINE, Mapping(partial_sums="digital")])
def test_a_kept_chip_computes_the_same_bits(tmp_path, monkeypatch, noise, mapping):
    chip = Chip(1, 2, noise)
    wanted = ops(None, mapping, chip).linear("l", X, "silu")
    np.testing.assert_array_equal(ops(tmp_path, mapping, chip).linear("l", X, "silu"), wanted)
    monkeypatch.setattr(AnalogLinear, "__init__", None)  # nothing is programmed again
    np.testing.assert_array_equal(ops(tmp_path, mapping, chip).linear("l", X, "silu"), wanted)


@pytest.mark.parametrize("noise", ["frozen", "per-read"])
def test_a_streamed_chip_computes_the_same_bits(tmp_path, noise):
    """Reads of a layer go on counting when it is mapped again."""
    tensors = {**TENSORS, "m.weight": RNG.normal(size=(8, 12)).astype(np.float32)}
    recorder = RangeRecorder(tensors, FINE, 256)
    recorder.linear("m", recorder.linear("l", X, "silu"))
    found = []
    for stream in (False, True):
        made = AnalogOps(tensors, recorder.ranges, Hardware(LIBRARY, FINE), Chip(1, 0, noise))
        made.store, made.stream = ChipStore(tmp_path, LIBRARY), stream
        found += [[made.linear("m", made.linear("l", X, "silu")) for _ in range(2)]]
        assert len(made.layers) == 2 - stream
    np.testing.assert_array_equal(found[0], found[1])
    assert np.array_equal(found[1][0], found[1][1]) == (noise == "frozen")


def test_what_decides_a_chip_decides_its_file(tmp_path):
    other = {**TENSORS, "l.bias": TENSORS["l.bias"] + 1}
    made = [
        ops(tmp_path),
        ops(tmp_path, chip=Chip(1, 1)),
        ops(tmp_path, Mapping()),
        ops(tmp_path, tensors=other),
    ]
    for one in made:
        one.linear("l", X[:2], "silu")
    made[0].store = ChipStore(tmp_path, dataclasses.replace(LIBRARY, corner="ff"))
    made[0].layers.clear()
    made[0].linear("l", X[:2], "silu")
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_file_is_written_anew(tmp_path):
    wanted = ops(tmp_path).linear("l", X, "silu")
    (place,) = tmp_path.iterdir()
    content = place.read_bytes()
    place.write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(ops(tmp_path).linear("l", X, "silu"), wanted)
    assert place.stat().st_size == len(content)


def test_a_folder_that_cannot_be_used_ends_in_a_message(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(NldpeError, match="cannot keep chips"):
        ops(tmp_path / "file" / "chips")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("behavioral.mapped.replacing", full)
    with pytest.raises(NldpeError, match="No space left"):
        ops(tmp_path / "chips").linear("l", X, "silu")

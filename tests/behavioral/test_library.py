"""The HDF5 library: round trip, identity, refusal of damaged files."""

import dataclasses
import hashlib

import h5py
import numpy as np
import pytest

from behavioral.library import CORNER, Library
from circuits.errors import FormatError, SimulationError
from tests.behavioral.standin import make_library


@pytest.fixture(scope="module")
def library():
    """Build the stand-in once: it is immutable."""
    return make_library()


@pytest.fixture
def path(library, tmp_path):
    library.to_hdf5(tmp_path / "lib.h5")
    return tmp_path / "lib.h5"


def test_everything_survives_the_round_trip(library, path):
    again = Library.from_hdf5(path)
    assert again.device == library.device
    assert again.technology == library.technology
    assert again.errors == library.errors
    for circuit in ("acam", "crossbar", "readout"):
        ours, theirs = getattr(library, circuit), getattr(again, circuit)
        for item in dataclasses.fields(ours):
            a, b = getattr(ours, item.name), getattr(theirs, item.name)
            assert a == b if item.name == "provenance" else np.array_equal(a, b)


def test_two_runs_give_the_same_bytes(path, tmp_path):
    make_library().to_hdf5(tmp_path / "second.h5")
    assert path.read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_sha256_is_that_of_the_file(library, path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert library.sha256 == digest
    assert Library.from_hdf5(path).sha256 == digest


def test_axes_are_dimension_scales_with_units(path):
    with h5py.File(path) as file:
        current = file[f"crossbar/{CORNER}/current"]
        assert [current.dims[k][0].name.rpartition("/")[2] for k in range(3)] == [
            "g",
            "v_row",
            "v_bl",
        ]
        assert (current.attrs["units"], current.fletcher32) == ("A", True)
        assert current.dims[1][0].attrs["units"] == "V"


def test_held_out_errors_are_stored(library):
    """The stand-in's law is smooth, so the cell fit must be far below the 0.1 LSB bar."""
    assert library.errors["cell_current_rms_lsb"] < 0.05
    assert library.errors["acam_lower_max_v"] < 0.02


def test_summary_names_tables_ranges_and_errors(library):
    text = library.summary()
    for word in ("taox", "lp16", "v_row", "25x11x9", "cell_current_max_lsb", library.sha256):
        assert word in text


def test_plot_writes_an_image(library, tmp_path):
    library.plot(tmp_path / "lib.png")
    assert (tmp_path / "lib.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kept", [0, 10, 2000, 0.5, 0.99])
def test_truncated_file_is_refused(path, kept):
    image = path.read_bytes()
    path.write_bytes(image[: int(kept if kept >= 1 else kept * len(image))])
    with pytest.raises(FormatError, match=r"lib\.h5.*nldpe characterize"):
        Library.from_hdf5(path)


def test_flipped_byte_in_a_table_is_refused(library, path):
    image = path.read_bytes()
    at = image.index(library.crossbar.current.tobytes())
    path.write_bytes(image[: at + 5] + bytes([image[at + 5] ^ 1]) + image[at + 6 :])
    with pytest.raises(FormatError, match="corrupted"):
        Library.from_hdf5(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__setitem__("filetype", "other"), "filetype is 'other'"),
        (lambda f: f.attrs.__setitem__("format_version", (2, 0)), r"format version 2\.0"),
        (lambda f: f.__delitem__("acam"), "group acam is missing"),
        (lambda f: f.__delitem__(f"readout/{CORNER}/gain_v_per_a"), "gain_v_per_a is missing"),
        (lambda f: f.attrs.__setitem__("device_toml", "x = 1"), "does not match its SHA-256"),
        (
            lambda f: f[f"crossbar/{CORNER}/current"].__setitem__((0, 0, 0), np.nan),
            "crossbar/current lacks 1 of",
        ),
    ],
)
def test_wrong_file_is_refused_with_the_remedy(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(FormatError, match=f"{message}.*nldpe characterize"):
        Library.from_hdf5(path)


def test_parameters_of_an_older_program_are_refused(path):
    with h5py.File(path, "r+") as file:
        text = file.attrs["device_toml"].replace("g_min_s", "g_lowest_s")
        file.attrs["device_toml"] = text
        file.attrs["device_toml_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(FormatError, match=r"another version.*nldpe characterize"):
        Library.from_hdf5(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match="cannot read library"):
        Library.from_hdf5(tmp_path / "none.h5")


def test_failed_write_leaves_the_old_file(library, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    with pytest.raises(OSError, match="disk"):
        library.to_hdf5(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["lib.h5"]


def test_incomplete_characterisation_is_refused(library, monkeypatch):
    current = library.crossbar.current.copy()
    current[3] = np.nan
    holed = dataclasses.replace(library.crossbar, current=current)
    for name in ("acam", "crossbar", "readout"):
        data = holed if name == "crossbar" else getattr(library, name)
        monkeypatch.setattr(f"circuits.{name}.characterize", lambda *a, data=data, **k: data)
    with pytest.raises(SimulationError, match=r"crossbar/current lacks 99 of.*cache"):
        Library.from_spice(library.device, library.technology)


def _fail(*args):
    raise OSError("disk full")

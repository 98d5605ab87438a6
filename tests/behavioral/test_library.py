"""The HDF5 library: round trip, identity, refusal of damaged files."""

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behavioral.library import HEAD_BYTES, Library, sealed
from behavioral.tables import CORNER, Tables
from circuits.corners import Corner
from circuits.errors import FormatError, ParameterError, SimulationError
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


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_altered_byte_of_the_file_is_refused(path, data):
    """HDF5 itself would crash on some of these: nothing may reach it unverified."""
    image = path.read_bytes()
    head = data.draw(st.booleans())
    at = data.draw(st.integers(0, HEAD_BYTES - 1 if head else len(image) - 1))
    flip = data.draw(st.integers(1, 255))
    bad = path.with_name("bad.h5")
    bad.write_bytes(image[:at] + bytes([image[at] ^ flip]) + image[at + 1 :])
    with pytest.raises(FormatError, match=r"bad\.h5.*nldpe characterize"):
        Library.from_hdf5(bad)


def content_of(path: Path) -> list[tuple[str, str | None]]:
    """Return every dataset, as (its path, None), and every attribute, as (path, name)."""
    found: list[tuple[str, str | None]] = []

    def note(name, item):
        found.extend((name, key) for key in item.attrs if "_LIST" not in key)
        if isinstance(item, h5py.Dataset):
            found.append((name, None))

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return found


def alter(value):
    """Return another value of the same kind: the last letter, or the first number, changes."""
    if isinstance(value, (str, bytes)):
        return value[:-1] + ("!" if isinstance(value, str) else b"!")
    changed = np.array(value)
    changed.flat[0] = 2 if not changed.flat[0] else -changed.flat[0]
    return changed if changed.ndim else changed[()]


def test_any_altered_attribute_text_scalar_or_table_is_refused(path):
    bad = path.with_name("bad.h5")
    for name, attribute in content_of(path):
        shutil.copy(path, bad)
        with h5py.File(bad, "r+") as file:
            item = file[name]
            if attribute is not None:
                item.attrs[attribute] = alter(item.attrs[attribute])
            elif item.size:
                item[()] = alter(item[()])
            else:
                continue
        with pytest.raises(FormatError, match="was altered"):
            Library.from_hdf5(bad)


def reseal(path):
    """Give a changed file a valid digest: what then remains is a file wrongly made."""
    path.write_bytes(sealed(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("acam"), "group acam/nominal is missing"),
        (lambda f: f.__delitem__(f"readout/{CORNER}/gain_v_per_a"), "gain_v_per_a is missing"),
        (lambda f: f.attrs.__setitem__("device_toml", "x = 1"), "another version of this program"),
        (lambda f: f.attrs.__delitem__("versions"), "cannot be read"),
        (
            lambda f: f[f"crossbar/{CORNER}/current"].__setitem__((0, 0, 0), np.nan),
            "crossbar/current lacks 1 of",
        ),
    ],
)
def test_wrongly_made_file_is_refused_with_the_remedy(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    reseal(path)
    with pytest.raises(FormatError, match=f"{message}.*nldpe characterize"):
        Library.from_hdf5(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"nldpe-library 2.2", b"nldpe-library 3.0", r"format version 3\.0, this program reads 2"),
        (b"nldpe-library 2.2", b"nldpe-librarx 2.0", "is no library"),
    ],
)
def test_another_format_is_refused_with_the_remedy(path, old, new, message):
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(FormatError, match=f"{message}.*nldpe characterize"):
        Library.from_hdf5(path)


def test_another_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(FormatError, match="HDF5 file but no library of this format"):
        Library.from_hdf5(tmp_path / "other.h5")


def test_a_larger_minor_version_is_read(library, path):
    image = path.read_bytes().replace(b"nldpe-library 2.2", b"nldpe-library 2.7", 1)
    path.write_bytes(image)
    assert Library.from_hdf5(path).errors == library.errors


@pytest.fixture
def two_corners(library, tmp_path):
    """Return a library file with a fast corner, whose thresholds lie 20 mV lower."""
    fast = Corner.from_name("ff_125c").apply(library.technology)
    acam = dataclasses.replace(library.acam, lower_v=library.acam.lower_v - 0.02)
    corners = {"ff_125c": Tables(fast, acam, library.crossbar, library.readout)}
    parts = {name: getattr(library, name) for name in ("acam", "crossbar", "readout")}
    made = Library.from_tables(library.device, library.technology, corners=corners, **parts)
    made.to_hdf5(tmp_path / "corners.h5")
    return tmp_path / "corners.h5"


def test_a_corner_survives_the_round_trip_beside_the_nominal_tables(library, two_corners):
    again = Library.from_hdf5(two_corners)
    fast = again.at("ff_125c")
    assert (fast.corner, fast.technology.process.corner) == ("ff_125c", "ff")
    assert fast.technology.temperature_c == 125.0
    assert np.array_equal(fast.acam.lower_v, library.acam.lower_v - 0.02)
    assert np.array_equal(again.acam.lower_v, library.acam.lower_v)
    assert again.at("nominal") is again
    assert fast.sha256 == again.sha256  # the file's
    assert "ff_125c" in again.summary()
    assert "process ff, 125 C, 0.9 V" in fast.summary()


def test_unknown_corner_names_those_there_are(two_corners):
    with pytest.raises(ParameterError, match=r"no corner 'ss'; it has: nominal, ff_125c"):
        Library.from_hdf5(two_corners).at("ss")


def test_a_damaged_corner_is_refused(two_corners):
    with h5py.File(two_corners, "r+") as file:
        file["acam/ff_125c/lower_v"][2] = np.nan
    reseal(two_corners)
    with pytest.raises(FormatError, match=r"acam/lower_v lacks 1 of"):
        Library.from_hdf5(two_corners)


def test_a_library_of_format_2_0_is_read(library, path):
    """It has neither corners nor mismatch, and the amplifier's section holds Pelgrom's constant."""
    with h5py.File(path, "r+") as file:
        for name in [n for n in file["acam/nominal"] if n.startswith(("mismatch", "monte"))]:
            del file[f"acam/nominal/{name}"]
        text = re.sub(r"\n\[process\]\n(.+\n)*", "", file.attrs["technology_toml"])
        assert "[amplifier]" in text
        file.attrs["technology_toml"] = text + "pelgrom_v_m = 2e-09\n"
    image = sealed(path.read_bytes()).replace(b"nldpe-library 2.2", b"nldpe-library 2.0", 1)
    path.write_bytes(image)
    older = Library.from_hdf5(path)
    assert older.technology.process.a_vt_v_m == 2e-9
    assert older.errors == library.errors
    assert not older.corners
    assert older.acam.mismatch_g.size == 0


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


@pytest.mark.parametrize(
    ("lost", "message"),
    [(slice(6, None), r"g_max_s = 0.00015 conducts more .* lower it \(below 2.1e-06\)"),
     (slice(0, 2), r"g_min_s = 1e-08 conducts less .* raise it \(above 1.7e-07\)")],
)  # fmt: skip
def test_conductances_without_a_threshold_are_told_from_failed_netlists(
    lost, message, library, monkeypatch
):
    """A bound that no data line reaches: the simulator did its work, the device is the matter."""
    upper = library.acam.upper_v.copy()
    upper[lost] = np.nan
    origin = dataclasses.replace(library.acam.provenance, failed=0)
    holed = dataclasses.replace(library.acam, upper_v=upper, provenance=origin)
    for name in ("acam", "crossbar", "readout"):
        data = holed if name == "acam" else getattr(library, name)
        monkeypatch.setattr(f"circuits.{name}.characterize", lambda *a, data=data, **k: data)
    with pytest.raises(SimulationError, match=message):
        Library.from_spice(library.device, library.technology)


def _fail(*args):
    raise OSError("disk full")

"""The measured amplifier in the library: files without it stay readable, models use it."""

import dataclasses

import h5py
import numpy as np
import pytest

from behavioral.crossbar import CrossbarModel
from behavioral.library import CORNER, Library, sealed
from circuits.amplifier import AmplifierData
from circuits.errors import FormatError
from tests.behavioral.standin import make_library

MEASURED = {
    "amplifier_gain": np.array([600.0, 2400.0]),
    "amplifier_offset_v": np.array([-2e-4, -3e-4]),
    "amplifier_power_w": np.array([1e-3, 8e-4, 8e-5]),
    "noise_v": 2.5e-3,
}


def with_amplifier(library: Library) -> Library:
    """Return the stand-in as if ngspice had measured its amplifiers."""
    readout = dataclasses.replace(library.readout, **MEASURED)
    return dataclasses.replace(library, readout=readout)


def test_a_library_made_before_these_datasets_is_read(tmp_path):
    path = tmp_path / "old.h5"
    make_library().to_hdf5(path)
    with h5py.File(path, "r+") as file:
        for item in dataclasses.fields(AmplifierData):
            del file[f"readout/{CORNER}/{item.name}"]
    path.write_bytes(sealed(path.read_bytes()))
    assert Library.from_hdf5(path).readout.amplifier_power_w.size == 0


def test_the_measured_amplifier_survives_the_round_trip_and_is_shown(tmp_path):
    path = tmp_path / "lib.h5"
    with_amplifier(make_library()).to_hdf5(path)
    again = Library.from_hdf5(path)
    for name, value in MEASURED.items():
        assert np.array_equal(getattr(again.readout, name), value)
    assert "supply at rest" in again.summary()
    with h5py.File(path) as file:
        assert file[f"readout/{CORNER}/amplifier_power_w"].attrs["units"] == "W"


def test_an_amplifier_whose_offset_was_not_measured_is_refused(tmp_path):
    library = with_amplifier(make_library())
    readout = dataclasses.replace(library.readout, amplifier_offset_v=np.full(2, np.nan))
    dataclasses.replace(library, readout=readout).to_hdf5(tmp_path / "lib.h5")
    with pytest.raises(FormatError, match="amplifier_offset_v is not measured"):
        Library.from_hdf5(tmp_path / "lib.h5")


def test_the_summary_says_when_the_amplifier_is_the_model():
    text = make_library().summary()
    assert "amplifier: model" in text
    assert "supply at rest" not in text


def test_the_column_rests_at_the_measured_offset():
    """-0.2 mV over 0.2 V of row swing."""
    library = make_library()
    assert CrossbarModel(with_amplifier(library)).rest == pytest.approx(-1e-3)
    assert CrossbarModel(library).rest != pytest.approx(-1e-3, rel=0.01)

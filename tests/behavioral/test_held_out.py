"""Errors of look-up models at held-out points."""

import dataclasses

import numpy as np
import pytest

from behavioral.held_out import above_bar, errors
from behavioral.library import Library
from tests.behavioral.standin import make_library

G, V = np.geomspace(1e-8, 1.5e-4, 4), np.linspace(0.5, 1.04, 3)


@pytest.fixture(scope="module")
def library():
    """Give a stand-in tables that are linear in ln G and in volts: without interpolation error."""
    made = make_library()
    table = 1e-15 * (20 + np.log(G)[:, None] + V)
    off_g, off_v = np.array([1e-7, 1e-5]), np.array([0.6, 0.9])
    exact = 1e-15 * (20 + np.log(off_g) + off_v)
    acam = dataclasses.replace(
        made.acam, energy_g=G, energy_v_dl=V, energy_lower_j=table, energy_upper_j=2 * table,
        delay_lower_s=1e3 * table, delay_upper_s=1e3 * table, held_out_energy_g=off_g,
        held_out_energy_v_dl=off_v, held_out_energy_lower_j=exact,
        held_out_energy_upper_j=2 * exact + np.array([0.0, 1e-16]),
        held_out_delay_lower_s=np.array([np.inf, 1e3 * exact[1]]),
        held_out_delay_upper_s=np.full(2, np.inf),
    )  # fmt: skip
    parts = 10.0 * G[:, None, None] * np.ones((4, 4, 2))
    crossbar = dataclasses.replace(
        made.crossbar, settle_g=G, settle_s=-1e-10 * np.log(G), settle_energy_j=G,
        held_out_settle_g=off_g, held_out_settle_s=-1e-10 * np.log(off_g) * np.array([1.0, 1.1]),
        held_out_settle_energy_j=off_g, mismatch_g=G, mismatch_parts=parts,
        held_out_mismatch_g=off_g,
        held_out_mismatch_parts=10.0 * off_g[:, None, None] * np.array([1.0, 1.25])[:, None, None]
        * np.ones((2, 4, 2)),
    )  # fmt: skip
    return dataclasses.replace(made, acam=acam, crossbar=crossbar)


def test_tables_that_interpolate_exactly_have_no_error_and_others_theirs(library):
    """The second point of each table is off by a known amount."""
    found = errors(library)
    assert found["acam_energy_lower_max_j"] < 1e-28
    assert found["acam_energy_upper_max_j"] == pytest.approx(1e-16, rel=1e-9)
    assert found["acam_energy_upper_rms_j"] == pytest.approx(1e-16 / np.sqrt(2), rel=1e-9)
    mean = np.mean(library.acam.held_out_energy_upper_j)
    assert found["acam_energy_upper_max_share"] == pytest.approx(1e-16 / mean, rel=1e-9)
    assert found["settle_max_s"] == pytest.approx(1e-11 * -np.log(1e-5), rel=1e-9)
    assert found["cell_mismatch_max_share"] == pytest.approx(1 - 1 / 1.25, rel=1e-9)


def test_what_is_not_finite_does_not_count(library):
    """A delay beyond the search is infinite: one finite point, and none of the upper half."""
    found = errors(library)
    assert found["acam_delay_lower_max_s"] < 1e-24
    assert not any(key.startswith("acam_delay_upper") for key in found)


def test_tables_of_inference_above_the_bar_are_named():
    found = {
        "acam_lower_rms_lsb": 0.2,
        "cell_current_rms_lsb": 0.05,
        "acam_lower_static_rms_lsb": 9,
    }
    assert above_bar(found) == {"acam_lower": 0.2}


def test_data_line_counts_in_codes(library):
    bent = np.array(library.readout.v_dl)
    bent[1, 2] += 2 * (1.04 - 0.5) / 256
    readout = dataclasses.replace(library.readout, v_dl=bent)
    found = errors(dataclasses.replace(library, readout=readout))
    assert found["readout_line_max_lsb"] == pytest.approx(2.0, rel=1e-6)


def test_a_library_without_held_out_points_has_few_errors():
    assert not [key for key in make_library().errors if key.startswith(("settle", "acam_energy"))]


@pytest.mark.ngspice
def test_every_table_of_a_characterised_library_has_an_error(quick_library):
    """Coarse axes of a quick library: within a third of energies and times, 5 % of spreads."""
    found = Library.from_hdf5(quick_library).errors
    assert {key.partition("_rms_")[0] for key in found if "_rms_" in key} >= {
        "acam_lower", "acam_upper", "acam_lower_static", "acam_upper_static", "acam_energy_lower",
        "acam_energy_upper", "cell_current", "cell_mismatch", "column_current", "readout_line",
        "settle", "settle_energy",
    }  # fmt: skip
    assert found["cell_mismatch_max_share"] < 0.05

"""Crossbars whose access transistors differ, against the plain model and against ngspice."""

import dataclasses

import numpy as np
import pytest

from behavioral.cell_mismatch import current_sigma
from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from behavioral.variation import vary
from circuits import cell_mismatch
from circuits.errors import FormatError
from circuits.plan import RunLog
from tests.behavioral.standin import make_library

G = np.geomspace(1e-8, 3.75e-4, 6)
AT_FULL = 0.02  # relative spread at g_max, in proportion to the RRAM conductance


@pytest.fixture(scope="module")
def library():
    """Give a stand-in a spread of which a tenth depends on the row voltage."""
    spread = AT_FULL * (G / 1.5e-4)[:, None] * np.array([0.9, 0.9, 1.0, 1.0])
    parts = np.stack([0.6 * spread, -0.8 * spread], axis=2)
    made = make_library(column__r_wire_ohm_per_cell="0")
    crossbar = dataclasses.replace(made.crossbar, mismatch_g=G, mismatch_parts=parts)
    return dataclasses.replace(made, crossbar=crossbar)


def effective(library, w=1.0, noise="none", seed=4, **options):
    """Return the effective matrix of 64 x 300 equal weights."""
    weights = np.full((64, 300), w, np.float32)
    model = CrossbarModel(library)
    array = model.program(weights, seed=seed, noise=noise, correction="none", **options)
    return array.effective


def test_without_mismatch_it_is_the_plain_array_bit_for_bit(library):
    plain, none = effective(library, noise="frozen"), effective(vary(library), noise="frozen")
    assert np.array_equal(plain, none)


def test_cells_spread_as_the_library_says(library):
    """19,200 cells: a standard deviation is known to 0.5 %; four sigma of that.

    The rms of the four row voltages is 0.951 of that at full swing.
    """
    cell = CrossbarModel(library).cell
    expected = 0.951 * AT_FULL * cell.rram_conductance(1.5e-4) / 1.5e-4
    off = effective(vary(library, "open")) / effective(library) - 1.0
    assert off.std() == pytest.approx(expected, rel=0.02)
    assert abs(off.mean()) < 4 * expected / np.sqrt(off.size)
    assert abs(np.corrcoef(off[:, 0], off[:, 256])[0, 1]) < 0.5  # columns of another group


def test_small_cells_hardly_spread(library):
    """At a tenth of the range the transistor is a tenth of what it is at the whole range."""
    large = effective(vary(library, "open"), slices=1) - effective(library, slices=1)
    small = effective(vary(library, "open"), 0.1, slices=1) - effective(library, 0.1, slices=1)
    assert small.std() < 0.012 * large.std()


def test_trimmed_cells_keep_what_other_voltages_see(library):
    """Write-verify reads at full swing; a tenth is off at two of four voltages: 0.1 / sqrt 2."""
    off = [effective(vary(library, kind)) - effective(library) for kind in ("open", "trimmed")]
    assert off[1].std() / off[0].std() == pytest.approx(0.1 / np.sqrt(2) / 0.951, rel=1e-3)


def test_a_chip_keeps_its_mismatch_whatever_the_noise(library):
    wrong, other = vary(library, "open"), vary(library, "open")
    quiet = effective(wrong) - effective(library)
    noisy = effective(other, noise="frozen") - effective(library, noise="frozen")
    assert np.corrcoef(quiet.ravel(), noisy.ravel())[0, 1] > 0.99
    assert np.array_equal(effective(wrong, seed=(4, 1)), effective(wrong, seed=(4, 1)))
    assert not np.array_equal(effective(wrong, seed=(4, 1)), effective(wrong, seed=(4, 2)))


def test_a_library_without_mismatch_says_what_to_do():
    with pytest.raises(FormatError, match=r"no mismatch of the crossbar cell.*nldpe characterize"):
        CrossbarModel(vary(make_library(), "open"))


@pytest.mark.ngspice
def test_programmed_cells_are_distributed_as_drawn_cells_of_ngspice(quick_library, spice_cache):
    """400 cells at g_max: their standard deviation is known to 3.5 %; three sigma of that."""
    library = Library.from_hdf5(quick_library)
    rram = CrossbarModel(library).cell.rram_conductance(library.device.g_max_s)
    draws = cell_mismatch.draw(library.technology, 400, seed=11)
    spice = cell_mismatch.measure(
        library.device, library.technology, np.full(len(draws), float(rram)), draws,
        log=RunLog(), cache=spice_cache,
    )  # fmt: skip
    spread = np.sqrt(np.mean((spice.std(axis=0) / spice.mean(axis=0)) ** 2))
    ours = effective(vary(library, "open")) / effective(library) - 1.0
    assert ours.std() == pytest.approx(spread, rel=0.11)
    left = current_sigma(library.crossbar, trimmed=True)
    assert (left < 0.1 * current_sigma(library.crossbar)).all()

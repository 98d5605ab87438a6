"""ACAM cells with mismatch and at another corner, against ngspice and against the plain model."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import kstest, norm

from behavioral.acam import AcamModel, Windows
from behavioral.library import Library
from behavioral.variation import acam_model, threshold_sigma, vary
from circuits import mismatch
from circuits.errors import FormatError, ParameterError
from circuits.plan import RunLog
from tests.behavioral.standin import make_library

SIGMA_V = (0.020, 0.030)  # lower, upper


def with_mismatch(library, scale=1.0):
    """Give a stand-in two transistors a half that share its spread as 3 to 4."""
    parts = [np.tile(s * scale * np.array([[0.6, 0.0], [0.0, -0.8]]), (4, 1, 1)) for s in SIGMA_V]
    acam = dataclasses.replace(
        library.acam,
        mismatch_g=np.geomspace(2e-9, 1.65e-4, 4),
        mismatch_lower_parts_v=parts[0],
        mismatch_upper_parts_v=parts[1],
    )
    return dataclasses.replace(library, acam=acam)


@pytest.fixture(scope="module")
def library():
    return with_mismatch(make_library())


def program(model, lo, hi, columns=4000, **options):
    options = {"noise": False, "keep_thresholds": True, "seed": 5} | options
    return model.program([[lo]], [[hi]], [0], 1, columns=columns, **options)


def test_no_variation_is_the_plain_model_bit_for_bit(library):
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), bits=6)
    rows = (*windows.on_data_line(0.0, 1.0), windows.bit, 6)
    units = [
        model.program(*rows, columns=3, seed=2)
        for model in (
            AcamModel.from_library(library),
            acam_model(library),
            acam_model(vary(library)),
        )
    ]
    assert np.array_equal(units[0].table, units[1].table)
    assert np.array_equal(units[0].table, units[2].table)


@pytest.mark.parametrize(("bound", "sigma"), [("lo", SIGMA_V[0]), ("hi", SIGMA_V[1])])
def test_open_cells_spread_by_the_characterised_sigma(bound, sigma, library):
    """4,000 cells know a standard deviation to 1.1 %; four sigma. The line ends 7 sigma away."""
    model = acam_model(vary(library, "open"))
    lo, hi = {"lo": (0.5, np.inf), "hi": (-np.inf, 0.5)}[bound]
    volts = (getattr(program(model, lo, hi), bound)[:, 0] - 0.5) * (model.v_hi - model.v_lo)
    assert volts.std() == pytest.approx(sigma, rel=0.045)
    assert kstest(volts / sigma, norm.cdf).pvalue > 1e-3


def test_the_sense_amplifier_adds_its_spread_over_the_slope_of_the_line(library):
    """15 mV on a line that moves 2 V per volt on the lower, 5 (down) on the upper side."""
    acam = dataclasses.replace(
        library.acam,
        mismatch_sense_parts_v=15e-3 * np.array([[0.6, 0.0], [0.0, -0.8], [0.0, 0.0]]),
        mismatch_lower_slope=np.full(4, 2.0),
        mismatch_upper_slope=np.full(4, -5.0),
    )
    for bound, cell, more in (("lower", SIGMA_V[0], 7.5e-3), ("upper", SIGMA_V[1], 3e-3)):
        found = threshold_sigma(acam, bound, [1e-6])[0]
        assert found == pytest.approx(np.hypot(cell, more), rel=1e-9)
        assert threshold_sigma(library.acam, bound, [1e-6])[0] == pytest.approx(cell, rel=1e-9)


def test_halves_cells_and_copies_have_draws_of_their_own(library):
    model = acam_model(vary(library, "open"))
    one, same, other = (program(model, 0.1, 0.9, seed=s) for s in ((1, 2), (1, 2), (1, 2, 1)))
    assert np.array_equal(one.lo, same.lo)
    halves = np.stack([one.lo[:, 0], one.hi[:, 0], other.lo[:, 0]])
    halves = halves[:, np.isfinite(halves).all(axis=0)]
    assert abs(np.corrcoef(halves) - np.eye(3)).max() < 0.08


def test_open_branches_stay_open(library):
    unit = program(acam_model(vary(library, "open")), -np.inf, np.inf, columns=8)
    assert np.isneginf(unit.lo).all()
    assert np.isposinf(unit.hi).all()


def test_trimming_leaves_what_the_device_cannot_reach(library):
    """In the middle nothing; at an end what g_min or g_max of the cell itself leaves over."""
    model = acam_model(vary(library, "trimmed"))
    middle = program(model, 0.45, 0.55)
    assert middle.lo == pytest.approx(0.45, abs=1e-4)
    assert middle.hi == pytest.approx(0.55, abs=1e-4)
    end = program(model, 0.999, np.inf).lo[:, 0]
    reach = model.threshold(library.device.g_max_s, "lower")
    short = (end < 0.9989).mean()
    margin = (reach - model.voltage(0.999)) / SIGMA_V[0]
    assert short == pytest.approx(norm.cdf(-margin), abs=0.03)


def test_cells_of_another_corner_miss_by_the_difference_of_the_curves(library):
    """Nominal mapping: the conductance of the nominal curve, the threshold of the corner's."""
    acam = dataclasses.replace(library.acam, lower_v=library.acam.lower_v + 0.02)
    corner = dataclasses.replace(library, acam=acam)
    nominal, model = AcamModel.from_library(library), acam_model(vary(corner, "none", library))
    unit = program(model, 0.4, np.inf, columns=1)
    assert (model.v_lo, model.v_hi) == (nominal.v_lo, nominal.v_hi)
    found = model.voltage(unit.lo[0, 0])
    assert found == pytest.approx(nominal.voltage(0.4) + 0.02, abs=2e-4)  # a tenth of an LSB


@pytest.mark.parametrize(
    ("overrides", "message"), [({"acam__match_lines": "1"}, "mismatch needs two match lines")]
)
def test_mismatch_on_a_shared_line_is_refused(overrides, message):
    shared = with_mismatch(make_library(**overrides))
    with pytest.raises(ParameterError, match=message):
        acam_model(vary(shared, "open"))


def test_a_library_without_mismatch_says_what_to_do():
    with pytest.raises(FormatError, match=r"holds no mismatch.*nldpe characterize"):
        acam_model(vary(make_library(), "open"))
    with pytest.raises(ParameterError, match="'trim' is not known; permitted: none, open, trimmed"):
        vary(make_library(), "trim")


@pytest.mark.ngspice
@pytest.mark.parametrize("bound", ["lower", "upper"])
def test_drawn_thresholds_are_distributed_as_in_a_monte_carlo_of_ngspice(
    bound, quick_library, spice_cache
):
    """150 transistor-level cells, every transistor with a draw of its own, at 1.8 uS.

    The cells alone: what senses their lines is drawn in `tests/circuits/test_sense_mismatch.py`.
    Standard deviations: 5.8 % is the sampling error of 150 cells; three sigma of it. Means: a
    twelfth of a sigma is theirs, three of that. Shapes: Kolmogorov-Smirnov at 1 %.
    """
    library, n, k = Library.from_hdf5(quick_library), 150, 4
    acam = dataclasses.replace(library.acam, mismatch_sense_parts_v=np.zeros(0))
    library = dataclasses.replace(library, acam=acam)
    half = bound
    g, threshold = (
        acam.mismatch_g[k],
        np.interp(acam.mismatch_g[k], acam.g, getattr(acam, f"{half}_v")),
    )
    bench = mismatch.MismatchBench(
        library.device, library.technology, {"cache": spice_cache, "workers": 2}, RunLog()
    )
    draws = mismatch.draw(library.technology, half, n, seed=11)
    parts = getattr(acam, f"mismatch_{half}_parts_v")[k]
    spice = mismatch.monte_carlo(bench, half, g, threshold, parts, draws)
    model = acam_model(vary(library, "open"))
    u = (threshold - model.v_lo) / (model.v_hi - model.v_lo)
    lo, hi = (u, np.inf) if half == "lower" else (-np.inf, u)
    unit = program(model, lo, hi, columns=20_000)
    ours = ((unit.lo if half == "lower" else unit.hi)[:, 0] - u) * (model.v_hi - model.v_lo)
    sigma = float(threshold_sigma(acam, half, g))
    assert np.isfinite(spice).all()
    assert ours[np.isfinite(ours)].std() == pytest.approx(spice.std(), rel=0.17)
    assert abs(spice.mean() - np.median(ours)) < 3 * sigma / np.sqrt(n)
    assert kstest(spice, ours[np.isfinite(ours)]).pvalue > 0.01

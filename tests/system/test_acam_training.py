"""The derivative of the error of ACAM units, and windows that mind noise less."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from behavioral.acam import AcamModel
from behavioral.library import Library
from behavioral.log_units import LevelFunction, ProductFunctions
from behavioral.windows import Windows
from system.layer_spec import Placement
from system.training import acam, windows
from system.training.functions import Problem, of_levels

BITS = 4
ONE = np.zeros(1, np.int64)  # the only column
SEED = (7,)


@pytest.fixture(scope="module")
def model(quick_library):
    return AcamModel.from_library(Library.from_hdf5(quick_library))


def silu(z):
    return z / (1 + np.exp(-z))


def placed(bits=BITS) -> Windows:
    return Windows.from_function(silu, (-4.0, 6.0), (-0.28, 6.0), bits=bits)


def problem_of(bits, **choices) -> Problem:
    ends = np.array([-4.0]), np.array([6.0])
    place = Placement("f.acam.0", np.arange(1), placed(bits), *ends)
    return Problem(place.key, (place,), (silu,), **choices)


def shaken(problem, deviation) -> Problem:
    """Move every bound by as many codes."""
    place = problem.placements[0]
    exact, rng = place.windows, np.random.default_rng(5)
    code = 10.0 / (2**exact.bits - 1)
    moves = code * deviation * rng.normal(size=(2, exact.rows))
    found = replace(exact, lo=exact.lo + moves[0], hi=exact.hi + moves[1])
    return replace(problem, placements=(replace(place, windows=found),))


def bounds_of(problem) -> np.ndarray:
    exact = problem.placements[0].windows
    return np.stack([exact.lo, exact.hi])


def mean_square(problem, bounds, model, u) -> float:
    """Return the error of the codes of freshly searched units, all with the same draws."""
    line = np.repeat(problem.ends(ONE), problem.repeat, axis=1)
    exact = problem.placements[0].windows
    lo, hi = (bounds[:, None] - line[0][:, None]) / (line[1] - line[0])[:, None]
    unit = model.program(lo, hi, exact.bit, exact.bits, seed=SEED, columns=problem.repeat)
    codes = model.search(unit, np.repeat(u.T, problem.repeat, axis=1)).mean(axis=1)
    return float(np.mean((codes - problem.codes(problem.ends(ONE), u)[0]) ** 2))


@pytest.mark.parametrize("repeat", [1, 3])
def test_the_derivative_is_that_of_finite_differences(model, repeat):
    """Squared errors of the exact search at 200,000 inputs, bounds a thousandth of the line apart.

    2,000 cells of a look-up and 200 inputs in a step leave a hundredth; now and then two bounds of
    other bits lie within a step, which the difference sees and the derivative does not.
    """
    problem = shaken(problem_of(BITS, repeat=repeat), 0.4)
    bounds, u = bounds_of(problem), (np.arange(200_000) + 0.5)[None] / 200_000
    (found,) = acam.derivative(problem, [bounds], ONE, model, SEED)
    wanted = np.zeros_like(found)
    for place in np.ndindex(found.shape):
        moved = [bounds.copy(), bounds.copy()]
        for sign, one in zip((-1, 1), moved, strict=True):
            one[place] += sign * 0.005
        wanted[place] = np.diff([mean_square(problem, one, model, u) for one in moved])[0] / 0.01
    assert np.abs(wanted).max() > 0.2
    off = np.abs(found - wanted) > 0.02 * np.abs(wanted).max()
    assert off.mean() < 0.1


def test_levels_weigh_as_often_as_they_are_asked(model):
    """All inputs at one level in the lowest tenth or uniform: half the weight on one place."""
    function = LevelFunction("f", np.arange(16)[None], BITS)
    problem = of_levels(function, 1, np.full(50, 3))
    u = np.arange(16)[None] / 15
    density = problem.density(ONE, u)[0]
    assert density.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(density, np.where(np.arange(16) == 3, 8.5, 0.5))
    drawn = problem.inputs(np.random.default_rng(0), ONE, 20_000)
    counts = np.bincount(np.rint(drawn[0] * 15).astype(int), minlength=16) / 20_000
    np.testing.assert_allclose(counts, density / 16, rtol=0, atol=0.01)  # five deviations


def test_slopes_of_programmed_bounds_are_those_of_the_same_draws(model):
    """Against a central difference with another step; bounds are those of inference, float32."""
    found, line = placed(), np.array([[-4.0], [6.0]])
    bounds = np.stack([found.lo, found.hi])
    unit = acam.program(bounds, line, found, model, seed=SEED)
    lo, hi = found.on_data_line(*line)
    options = {"seed": SEED, "columns": 1}
    ends = [model.program(lo + d, hi, found.bit, BITS, **options).lo for d in (-3e-3, 0.0, 3e-3)]
    closed = np.isfinite(ends[1])
    np.testing.assert_allclose(unit.ends[0][closed], ends[1][closed], rtol=0, atol=1e-5)
    slopes = (ends[2] - ends[0])[closed] / 6e-3
    np.testing.assert_allclose(unit.slopes[0][closed], slopes, rtol=0, atol=0.02)


@pytest.mark.parametrize("repeat", [1, 4])
def test_tuning_puts_displaced_windows_right_on_columns_never_seen(model, repeat):
    """Bounds a code and a half off: -34 % of one unit, -49 % of four (taox)."""
    problem = shaken(problem_of(8, repeat=repeat), 1.5)
    (tuned,) = windows.tune(problem, model, steps=50, rate=0.1, seed=(2,)).values()
    assert tuned.error_after < 0.85 * tuned.error_before


def test_windows_that_training_makes_worse_stay_where_they_are(model):
    """Three bits: edges far apart, nothing to gain; two large steps are taken back."""
    (tuned,) = windows.tune(problem_of(3), model, steps=2, rate=20.0).values()
    np.testing.assert_array_equal(tuned.lo, placed(3).lo)
    assert tuned.error_after == tuned.error_before


def test_units_at_staggered_places_are_tuned_together(model):
    """Log units of two places, two at each: less error of their mean on columns never seen."""
    function = ProductFunctions.of(8, 8, 8, log_copies=4, finer=2).log
    problem = of_levels(function, function.repeat, np.arange(255))
    tuned = windows.tune(problem, model, steps=30)
    assert tuned.keys() == {"acam.log.8-8.2x2.0", "acam.log.8-8.2x2.1"}
    errors = {(one.error_before, one.error_after) for one in tuned.values()}
    ((before, after),) = errors
    assert after < 0.98 * before


def test_one_seed_gives_the_same_windows_twice(model):
    runs = [windows.tune(problem_of(8), model, steps=2) for _ in range(2)]
    one, other = (run["f.acam.0"] for run in runs)
    np.testing.assert_array_equal(one.lo, other.lo)

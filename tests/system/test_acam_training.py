"""The differentiable ACAM: its gradients, the exact search, and windows that mind noise less."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from behavioral.acam import AcamModel
from behavioral.library import Library
from behavioral.windows import Windows
from system.layer_spec import Placement
from system.training import acam, windows
from system.training.functions import Problem

BITS = 4


@pytest.fixture(scope="module")
def model(quick_library):
    return AcamModel.from_library(Library.from_hdf5(quick_library))


@pytest.fixture(scope="module")
def silu():
    return lambda z: z / (1 + np.exp(-z))


def placed(f, bits=BITS) -> Windows:
    return Windows.from_function(f, (-4.0, 6.0), (-0.28, 6.0), bits=bits)


def on_line(found: Windows) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds on the whole line, open ones a line's length beyond it; one column."""
    ends = (np.clip(end, *acam.OPEN) for end in found.on_data_line())
    lo, hi = (torch.from_numpy(end.astype(np.float64)) for end in ends)
    return lo, hi


def test_the_gradients_of_the_soft_search_are_those_of_finite_differences(silu):
    """torch.autograd.gradcheck in float64, edges a tenth of the line soft so that all matter."""
    found = placed(silu)
    lo, hi = (end.requires_grad_() for end in on_line(found))
    u = torch.linspace(0.03, 0.97, 9, dtype=torch.float64)[None]

    def codes(lo, hi):
        return acam.decode(acam.soft_bits(u, lo, hi, found.bit, BITS, softness=0.1))

    assert torch.autograd.gradcheck(codes, (lo, hi), eps=1e-7, atol=1e-5)


def test_soft_and_exact_search_agree_away_from_edges(silu, model):
    """The exact codes are those of the inference kernels; soft ones differ by a tenth at most.

    A bit d from an edge is off by s / (d + s), s = 1e-5 of the line; d > 0.005 here, and the code
    is at most 15 times as far off in each of four bits: below 0.1.
    """
    found = placed(silu)
    unit = model.program(*found.on_data_line(), found.bit, BITS, noise=False)
    lo, hi = on_line(found)
    u = np.random.default_rng(1).uniform(0, 1, 4000)
    edges = np.concatenate([lo.numpy().ravel(), hi.numpy().ravel()])
    u = u[np.abs(u[:, None] - edges).min(axis=1) > 0.005][None]
    wanted = model.search(unit, u.T).T
    exact = acam.search(torch.from_numpy(u), lo, hi, found.bit, BITS)
    soft = acam.decode(acam.soft_bits(torch.from_numpy(u), lo, hi, found.bit, BITS, 1e-5))
    assert np.unique(wanted).size == 2**BITS
    np.testing.assert_array_equal(exact.numpy(), wanted)
    np.testing.assert_allclose(soft.numpy(), wanted, rtol=0, atol=0.1)


def test_programmed_bounds_are_those_of_inference_and_slopes_those_of_the_draws(silu, model):
    """Slopes against a central difference of the same draws, another step; float32 bounds."""
    found = placed(silu)
    lo, hi = (t.float().clone().requires_grad_() for t in on_line(found))
    options = {"seed": (3, 4), "columns": 1}
    unit = model.program(lo.detach(), hi.detach(), found.bit, BITS, **options)
    low, high = acam.program(lo, hi, found.bit, model, seed=(3, 4))
    closed = np.isfinite(unit.lo)
    np.testing.assert_array_equal(low.detach().numpy()[closed], unit.lo[closed])
    low.sum().backward()
    ends = [
        model.program(lo.detach() + d, hi.detach(), found.bit, BITS, **options).lo
        for d in (-3e-3, 3e-3)
    ]
    slopes = (ends[1] - ends[0])[closed] / 6e-3
    np.testing.assert_allclose(lo.grad.numpy()[closed], slopes, rtol=0, atol=0.02)
    assert not hi.grad.any() if hi.grad is not None else high.requires_grad


def test_the_search_has_the_slope_of_the_mean_squared_error(silu):
    """Moving one bound: the mean of many inputs against the exact error of both sides."""
    found = placed(silu)
    lo, hi = on_line(found)
    u = torch.linspace(0, 1, 40_001, dtype=torch.float64)[None]
    wanted = acam.search(u, lo, hi, found.bit, BITS) + 0.3
    row = int(np.flatnonzero((found.bit == 1) & np.isfinite(found.lo))[0])

    def loss(lo):
        return torch.mean((acam.search(u, lo, hi, found.bit, BITS, 1e-3) - wanted) ** 2)

    leaf = lo.clone().requires_grad_()
    loss(leaf).backward()
    step = torch.zeros_like(lo)
    step[0, row] = 5e-3
    slope = float(loss(lo + step) - loss(lo - step)) / 1e-2
    below = float(loss(lo) - loss(lo - step)) / 5e-3
    above = float(loss(lo + step) - loss(lo)) / 5e-3
    assert min(below, above) < float(leaf.grad[0, row]) < max(below, above)
    assert float(leaf.grad[0, row]) == pytest.approx(slope, rel=0.1)


def problem_of(f, bits) -> Problem:
    ends = np.array([-4.0]), np.array([6.0])
    place = Placement("f.acam.0", np.arange(1), placed(f, bits), *ends)
    return Problem(place.key, (place,), (f,))


def test_tuning_puts_displaced_windows_right_on_columns_never_seen(silu, model):
    """Bounds a code off, as a tree of few samples puts them; -29 % in 50 steps with two seeds."""
    problem = problem_of(silu, 8)
    found = problem.placements[0].windows
    moves = np.random.default_rng(5).normal(0, 0.06, (2, found.rows))
    shaken = replace(found, lo=found.lo + moves[0], hi=found.hi + moves[1])
    problem = replace(problem, placements=(replace(problem.placements[0], windows=shaken),))
    (tuned,) = windows.tune(problem, model, steps=30, rate=0.1, seed=(2,)).values()
    assert tuned.error_after < 0.85 * tuned.error_before


def test_windows_that_training_makes_worse_stay_where_they_are(silu, model):
    """Three bits: edges far apart, nothing to gain; two large steps are taken back."""
    (tuned,) = windows.tune(problem_of(silu, 3), model, steps=2, rate=0.5).values()
    np.testing.assert_array_equal(tuned.lo, placed(silu, 3).lo)
    assert tuned.error_after == tuned.error_before


def test_one_seed_gives_the_same_windows_twice(silu, model):
    runs = [windows.tune(problem_of(silu, 8), model, steps=2) for _ in range(2)]
    one, other = (run["f.acam.0"] for run in runs)
    np.testing.assert_array_equal(one.lo, other.lo)

"""Training from nothing, in full: minutes, so only `make test-retrain` runs it."""

import pytest

from behavioral.library import Library
from system.inference import evaluate
from system.networks import load_network
from system.training.pipeline import finetune
from system.training.recipes import Plan


@pytest.mark.retrain
@pytest.mark.parametrize("seed", [1, 2])
def test_lenet_trained_from_nothing_is_as_good_as_the_committed_one(seed, quick_library, tmp_path):
    """All 10,000 digits, exact arithmetic: 0.08 points of deviation each, 0.35 is three of both."""
    plan = Plan(tmp_path, Library.from_hdf5(quick_library), seed, samples=10)
    (place,) = finetune("lenet-mnist", ["float"], plan)
    found, committed = (
        evaluate(load_network(name, tile_rows=None), None, mode="float", samples=10_000).mean
        for name in (str(place), "lenet-mnist-float")
    )
    assert found == pytest.approx(committed, abs=0.0035)

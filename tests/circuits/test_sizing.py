"""Sizing of the ACAM cell: target, bounds, fit, optimiser."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import sizing
from circuits.errors import ParameterError
from circuits.parameters import load_parameters
from circuits.sizing import Design, Target

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")


def test_published_law_has_its_published_values():
    """NL-DPE's released code: 0.6859 V at 0.01 uS, 0.7070 V at 1 uS, 0.9709 V at 150 uS."""
    volts = Target().threshold(np.array([1e-8, 1e-6, 150e-6]))
    np.testing.assert_allclose(volts, [0.6859, 0.7070, 0.9709], atol=5e-5)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0, 1)] * len(sizing.SHARES)))
def test_places_between_the_bounds_come_back(place):
    """1 nm of 48 nm and 1 mV of 400 mV are the roundings."""
    sized = sizing._sized(TECHNOLOGY, np.array(place))
    np.testing.assert_allclose(sizing._to_unit(sized), place, atol=0.035)
    for key, (low, high) in sizing.bounds(TECHNOLOGY).items():
        assert low * 0.999 <= getattr(sized.acam, key) <= high * 1.001


def test_ekv_fit_finds_its_own_law():
    g = np.geomspace(1e-8, 150e-6, 15)
    volts = 0.74 + 2 * 0.037 * np.log(np.expm1(np.sqrt(g / 16e-6)))
    found, residual = sizing.fit_ekv(g, volts)
    np.testing.assert_allclose(found, [0.74, 0.037, 16e-6], rtol=1e-4)
    assert residual < 1e-6


def test_cost_counts_lost_thresholds_and_energy():
    target = Target(energy_weight=0.1)
    volts = np.tile(target.threshold(target.g), (2, 1))
    exact = Design(TECHNOLOGY, volts, np.zeros(1), np.array([0.44e-15]), np.zeros((2, 1)), 0)
    assert exact.cost(target) == 0.0
    hungry = replace(exact, energy_j=np.array([0.44e-15 * np.e]))
    assert hungry.cost(target) == pytest.approx(0.1)
    lost = replace(exact, threshold_v=np.full_like(volts, np.nan))
    assert lost.cost(target) == pytest.approx(0.5)


@pytest.mark.ngspice
def test_sizing_comes_closer_than_the_start_and_is_repeated_from_the_cache(spice_cache):
    target = Target(g=np.array([5e-6, 60e-6]))
    start = sizing.evaluate(DEVICE, TECHNOLOGY, target, cache=spice_cache).cost(target)
    options = {"evaluations": 20, "seed": 1, "cache": spice_cache}
    first = sizing.size_cell(DEVICE, TECHNOLOGY, target, **options)
    again = sizing.size_cell(DEVICE, TECHNOLOGY, target, **options)
    assert first.cost(target) <= start
    assert again.technology == first.technology


def test_too_few_evaluations_are_refused():
    with pytest.raises(ParameterError, match="20 or more"):
        sizing.size_cell(DEVICE, TECHNOLOGY, Target(), evaluations=3)

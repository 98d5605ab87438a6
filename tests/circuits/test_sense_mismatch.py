"""Mismatch of sense amplifiers against decisions of drawn ones."""

import numpy as np
import pytest

from circuits import acam, sense_mismatch
from circuits.mismatch import MismatchBench, measure_parts
from circuits.parameters import load_parameters
from circuits.plan import RunLog
from circuits.sense import SenseBench

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
G = np.array([12e-6])


@pytest.fixture(scope="module")
def line(spice_cache):
    """Return bench, line on its lower bound, the reference that turns over, slope, and parts."""
    options = {"cache": spice_cache}
    bound = acam.Thresholds(acam.SearchBench(DEVICE, TECHNOLOGY, options)).at("lower", G)[1]
    bench = SenseBench(DEVICE, TECHNOLOGY, options)
    point = ("lower", float(G[0]), float(bound[0]))
    reference = float(bench.references([point], 0.0)[0])
    cells = MismatchBench(DEVICE, TECHNOLOGY, options, RunLog())
    slope = measure_parts(cells, "lower", G, bound)[1][0]
    return bench, point, reference, slope, sense_mismatch.measure_parts(bench, point, reference)


def test_amplifiers_are_drawn_as_pelgrom_says():
    """Over 4,000 a standard deviation is known to 1.1 %; four sigma of that."""
    draws = sense_mismatch.draw(TECHNOLOGY, 4000)
    unit = TECHNOLOGY.unit
    area = np.repeat([unit.w_pair_m, unit.w_cross_p_m, unit.w_cross_n_m], 2) * unit.l_m
    assert draws[:, :, 0].std(axis=0) == pytest.approx(1.25e-9 / np.sqrt(area), rel=0.045)
    assert draws[:, :, 1].std(axis=0) == pytest.approx(3.44e-9 / np.sqrt(area), rel=0.045)


@pytest.mark.ngspice
def test_a_threshold_of_the_input_pair_moves_the_reference_one_to_one(line):
    """By hand; 20 %: crossed devices share the pair's current, and add to its gain."""
    sigma = sense_mismatch.standard_deviations(TECHNOLOGY)[0, 0] * np.sqrt(2)
    assert np.abs(line[4][0, 0]) == pytest.approx(sigma, rel=0.2)
    assert np.abs(line[4][0, 0]) == np.abs(line[4]).max()


@pytest.mark.ngspice
def test_first_order_predicts_drawn_amplifiers_and_thresholds_on_the_data_line(line):
    """Ten with draws for all six devices: rms within an eighth of theirs, one of them at 3 sigma.

    With the matched reference each decides where its offset over the line's slope says, within
    16 % and 0.2 mV: beyond these the decision is that of the side. The offset depends on the level.
    """
    bench, (half, g, v), reference, slope, parts = line
    draws = sense_mismatch.draw(TECHNOLOGY, 10)
    shift = sense_mismatch.monte_carlo(bench, line[1], reference, parts, draws)
    apart = (draws[:, ::2] - draws[:, 1::2]) / np.sqrt(2)
    told = np.tensordot(apart, parts / sense_mismatch.standard_deviations(TECHNOLOGY), axes=2)
    assert np.mean((shift - told) ** 2) < np.mean(told**2) / 8**2
    cells = [
        bench.cell((half, g, v + x + side * (0.16 * abs(x) + 2e-4)), reference, tail)
        for x, tail in zip(-shift / slope, map(sense_mismatch.tail, draws), strict=True)
        for side in (-1, 1)
    ]
    apart = bench.decide(cells, "drawn", bench.drawn)[0].reshape(-1, 2)
    assert (apart[:, 0] < 0).all()
    assert (apart[:, 1] > 0).all()


@pytest.mark.ngspice
def test_without_sizes_for_an_amplifier_there_is_no_spread(spice_cache):
    other = load_parameters("taox", "cmos180")[1]
    v, log = np.array([0.7]), RunLog()
    assert not sense_mismatch.characterize(DEVICE, other, G, v, log=log, cache=spice_cache)
    assert log.jobs == 0

"""Axes that are refined where interpolation errs."""

import numpy as np
import pytest

from circuits import acam, crossbar
from circuits.errors import ParameterError
from circuits.parameters import load_parameters
from circuits.refine import pchip, refine
from system.commands.main import main

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")


def bend(x):
    """Return two curves, one of them with a bend at 0.68 that a uniform axis must resolve."""
    return np.stack([x, np.tanh((x - 0.68) / 0.02)], axis=1)


def missed(x, y):
    fine = np.linspace(0, 1, 5001)
    return np.abs(pchip(x, y)(fine) - bend(fine)).max()


def test_points_gather_at_the_bend_and_the_bar_holds():
    x, y = refine(np.linspace(0, 1, 6), bend, 0.01, most=1000)
    np.testing.assert_array_equal(y, bend(x))
    assert missed(x, y) < 0.01
    assert np.diff(x)[(x[:-1] > 0.65) & (x[1:] < 0.71)].max() < 0.02
    assert np.diff(x)[x[1:] < 0.5].min() >= 0.05
    uniform = np.linspace(0, 1, 2 * len(x))
    assert missed(uniform, bend(uniform)) > missed(x, y)  # twice as many points, and worse


def test_a_straight_line_needs_one_round():
    calls = []

    def measure(x):
        calls.append(len(x))
        return x[:, None]

    assert len(refine(np.linspace(0, 1, 5), measure, 1e-9, most=100)[0]) == 9
    assert calls == [5, 4]


def test_failed_points_and_values_that_do_not_matter_are_not_refined():
    def broken(x):
        y = bend(x)
        y[np.abs(x - 0.7) < 0.1] = np.nan
        return y

    assert len(refine(np.linspace(0, 1, 6), broken, 0.01, most=1000)[0]) < 30
    low = refine(np.linspace(0, 1, 6), bend, 0.01, most=1000, within=(-2.0, -1.5))
    assert len(low[0]) == 11


def test_refinement_ends_at_the_most_points():
    assert len(refine(np.linspace(0, 1, 6), bend, 1e-9, most=40)[0]) <= 40


def test_each_conductance_is_simulated_once(monkeypatch):
    seen = []

    class Bench:
        technology = TECHNOLOGY

        def static(self, half, g, around=None):
            seen.extend((half, x, around is None) for x in g)
            return np.zeros(len(g)), np.zeros(len(g), np.int8)

    def curve(bench, half, g, static):
        return 0.7 + 0.3 * np.tanh(np.log(g / 1e-6)), np.zeros(len(g), np.int8)

    monkeypatch.setattr(acam, "_sense_thresholds", curve)
    known = acam.Thresholds(Bench())
    g = known.axis(DEVICE, 0.1)
    known.at("lower", g)
    assert len(seen) == len(set(seen)) == 4 * len(g)  # two sweeps, the second around the first
    span = np.log(g[[0, -1]] / [0.2 * DEVICE.g_min_s, 1.1 * DEVICE.g_max_s])
    assert np.abs(span).max() < 1e-12


@pytest.mark.ngspice
def test_adaptive_cell_table_interpolates_within_the_bar(spice_cache):
    bench = crossbar._Bench(DEVICE, TECHNOLOGY, {"cache": spice_cache})
    v_read = TECHNOLOGY.column.v_read_v
    axes = np.linspace(-v_read, v_read, 5), np.linspace(-v_read, v_read, 3)
    ends = np.array([0.2 * DEVICE.g_min_s, 2.5 * DEVICE.g_max_s])
    g, current, status = bench.adaptive_cells(ends, *axes, 0.1)
    assert (status == 0).all()
    middle = np.sqrt(g[1:] * g[:-1])
    from circuits.refine import spline

    told = spline(np.log(g), (current / g[:, None, None]).reshape(len(g), -1))(np.log(middle))
    found = bench.cell_table(middle, *axes)[0].reshape(len(middle), -1)
    error = np.abs(told * middle[:, None] - found).max() / np.abs(current).max() * 256
    assert error < 0.1


def test_a_bar_of_zero_is_refused(capsys, tmp_path):
    out = str(tmp_path / "x.h5")
    assert main(["characterize", "--adaptive", "0", "--out", out, "--quick"]) == 1
    assert "permitted: more than 0" in capsys.readouterr().err
    with pytest.raises(ParameterError, match="more than 0"):
        refine(np.arange(5.0), bend, -1.0, most=9)

"""Mismatch of the 1T1R cell: the draws, their effect to first order, and drawn cells."""

import re

import numpy as np
import pytest

from circuits import batch, cell_mismatch, crossbar
from circuits.netlist import cards_text
from circuits.parameters import apply_overrides, load_parameters
from circuits.plan import RunLog

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
G = np.array([1e-6, 3e-5, 1.7e-4])


@pytest.fixture(scope="module")
def parts(spice_cache):
    return cell_mismatch.measure_parts(DEVICE, TECHNOLOGY, G, log=RunLog(), cache=spice_cache)


@pytest.fixture(scope="module")
def drawn(spice_cache):
    """Return 60 draws, the matched one first, and the currents of these cells, (60, 3, 4)."""
    draws = cell_mismatch.draw(TECHNOLOGY, 60, seed=3)
    draws[0] = 0.0
    at, every = np.tile(G, len(draws)), np.repeat(draws, len(G), axis=0)
    found = cell_mismatch.measure(DEVICE, TECHNOLOGY, at, every, log=RunLog(), cache=spice_cache)
    return draws, found.reshape(len(draws), len(G), -1)


def test_draws_spread_as_pelgrom_says():
    """Over 4,000 cells a standard deviation is known to 1.1 %; four sigma of that."""
    draws = cell_mismatch.draw(TECHNOLOGY, 4000, seed=1)
    expected = np.array([1.25e-9, 3.44e-9]) / np.sqrt(300e-9 * 16e-9)
    assert draws.std(axis=0) == pytest.approx(expected, rel=0.045)
    assert np.array_equal(draws, cell_mismatch.draw(TECHNOLOGY, 4000, seed=1))
    assert not np.array_equal(draws, cell_mismatch.draw(TECHNOLOGY, 4000, seed=2))


@pytest.mark.ngspice
def test_the_matched_cell_is_that_of_the_table(drawn):
    """The draws are nothing but parameters of the transistor: 1e-6, rounding of ngspice."""
    bench = crossbar._Bench(DEVICE, TECHNOLOGY, {})
    table, _ = bench.cell_table(G, np.linspace(-0.2, 0.2, 5), np.array([-0.1, 0.0, 0.1]))
    assert drawn[1][0] == pytest.approx(table[:, [0, 1, 3, 4], 1], rel=1e-6)


@pytest.mark.ngspice
def test_first_order_predicts_every_drawn_cell(parts, drawn):
    """Residual below a sixth of the spread: R_on goes with the reciprocal of the overdrive."""
    draws, current = drawn
    change = current[1:] / current[0] - 1.0
    normals = draws[1:] / cell_mismatch.standard_deviations(TECHNOLOGY)
    predicted = np.einsum("gvk,nk->ngv", parts, normals)
    residual = np.sqrt(np.mean((change - predicted) ** 2, axis=0))
    assert (residual < change.std(axis=0) / 6).all()


@pytest.mark.ngspice
def test_the_transistor_matters_as_its_share_of_the_series_resistance(parts):
    """At 1 uS it is a thousandth of the cell, at 170 uS a seventh; both parts have their sign."""
    assert (parts[..., 0] < 0).all()
    assert (parts[..., 1] > 0).all()
    spread = np.sqrt((parts**2).sum(axis=2))
    assert spread[0] == pytest.approx(spread[2] * G[0] / G[2], rel=0.25)
    assert 0.003 < spread[2].min() < spread[2].max() < 0.01


@pytest.mark.ngspice
def test_a_drawn_cell_agrees_with_a_netlist_written_by_hand(drawn):
    """A card of its own for the transistor; 1e-4 of the current, a hundredth of the spread."""
    draws, current = drawn
    for k in (5, 11):
        card = re.search(r"\.model n16lp .*\n(\+.*\n)*", cards_text(TECHNOLOGY) + "\n")[0]
        vth, beta = draws[k]
        card = re.sub(r"vth0=(\S+)", lambda m, d=vth: f"vth0={float(float(m[1]) + d)!r}", card)
        scale = re.search(r"(?<!m)u0=([\d.]+)(m?)", card)
        u0 = float(scale[1]) * (1e-3 if scale[2] else 1) * np.exp(beta)
        card = re.sub(r"(?<!m)u0=\S+", f"u0={float(u0)!r}", card)
        netlist = f"""by hand
{card}
vr row 0 0.5
vb bl 0 0.3
vw wl 0 1.8
b1 row d i={float(G[2])!r}*0.4*sinh((v(row)-v(d))/0.4)
m1 d wl bl 0 n16lp w=300n l=16n
.options gmin=1e-15 reltol=1e-6
.op
.end
"""
        by_hand = batch.simulate(netlist, ["i(vb)"])["i(vb)"][-1]
        assert current[k, 2, -1] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.ngspice
@pytest.mark.parametrize(("key", "column"), [("a_vt_v_m", 0), ("a_beta_m", 1)])
def test_both_constants_scale_their_part_of_the_spread(key, column, parts, spice_cache):
    """Not quite twice: a step of one sigma each way is not the derivative."""
    changed = 2 * getattr(TECHNOLOGY.process, key)
    _, other = apply_overrides(DEVICE, TECHNOLOGY, [f"{key}={changed!r}"])
    twice = cell_mismatch.measure_parts(DEVICE, other, G, log=RunLog(), cache=spice_cache)
    assert twice[..., column] == pytest.approx(2 * parts[..., column], rel=0.02)
    assert twice[..., 1 - column] == pytest.approx(parts[..., 1 - column], rel=1e-6)


@pytest.mark.ngspice
def test_the_monte_carlo_is_stored_when_asked_for(spice_cache):
    log = RunLog()
    found = cell_mismatch.characterize(DEVICE, TECHNOLOGY, samples=7, log=log, cache=spice_cache)
    assert found["monte_carlo_change"].shape == (3, 7, 4)
    assert np.isfinite(found["monte_carlo_change"]).all()
    assert np.isin(found["monte_carlo_g"], found["mismatch_g"]).all()
    assert log.provenance().failed == 0

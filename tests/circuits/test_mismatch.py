"""Mismatch of the ACAM cell: the draws, their effect to first order, and the Monte-Carlo."""

import re

import numpy as np
import pytest

from circuits import acam, batch, mismatch
from circuits.netlist import cards_text
from circuits.parameters import apply_overrides, load_parameters
from circuits.plan import RunLog

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
G = 5  # of the quick axis: 0.2 uS
HALVES = ("lower", "upper")


def sigma(parts):
    return np.sqrt((parts**2).sum(axis=(-2, -1)))


@pytest.fixture(scope="module")
def data(spice_cache):
    return acam.characterize(DEVICE, TECHNOLOGY, quick=True, cache=spice_cache)


@pytest.fixture(scope="module")
def bench(spice_cache):
    return mismatch.MismatchBench(DEVICE, TECHNOLOGY, {"cache": spice_cache}, RunLog())


@pytest.fixture(scope="module")
def cells(data, bench):
    """Return, for both halves, first-order parts, draws and thresholds of 40 drawn cells."""
    found = {}
    for half in HALVES:
        threshold = getattr(data, f"{half}_v")[G : G + 1]
        parts = mismatch.measure_parts(bench, half, data.g[G : G + 1], threshold)[0][0]
        draws = mismatch.draw(TECHNOLOGY, half, 40, seed=3)
        shift = mismatch.monte_carlo(bench, half, data.g[G], threshold[0], parts, draws)
        found[half] = parts, draws, shift
    return found


def test_draws_spread_as_pelgrom_says():
    """Over 4,000 cells a standard deviation is known to 1.1 %; four sigma of that."""
    draws = mismatch.draw(TECHNOLOGY, "upper", 4000, seed=1)
    area = [1600e-18, 6144e-18, 2048e-18, 2048e-18]  # M3, M4, M5, M6
    assert draws[:, :, 0].std(axis=0) == pytest.approx(1.25e-9 / np.sqrt(area), rel=0.045)
    assert draws[:, :, 1].std(axis=0) == pytest.approx(3.44e-9 / np.sqrt(area), rel=0.045)
    assert abs(np.corrcoef(draws.reshape(4000, -1).T) - np.eye(8)).max() < 0.08


def test_a_seed_names_its_draws():
    one, same, other = (mismatch.draw(TECHNOLOGY, "lower", 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.ngspice
def test_a_cell_without_deviations_is_the_matched_one(data, bench, cells):
    """0.05 mV: a fortieth of an LSB, the step of the coarser search of drawn cells."""
    for half in HALVES:
        none = np.zeros((1, *cells[half][0].shape))
        threshold = getattr(data, f"{half}_v")[G]
        shift = mismatch.monte_carlo(bench, half, data.g[G], threshold, cells[half][0], none)
        assert abs(shift[0]) < 5e-5


@pytest.mark.ngspice
def test_the_data_line_transistor_moves_the_threshold_one_to_one(data):
    """M1 and M3 take the data line at their gates; body effect and mobility add up to 15 %."""
    per_volt = 1.25e-9 / np.sqrt(1600e-18)
    for half in HALVES:
        part = getattr(data, f"mismatch_{half}_parts_v")[:4, 0, 0]
        assert part == pytest.approx(per_volt, rel=0.15)


@pytest.mark.ngspice
def test_first_order_predicts_every_drawn_cell(cells):
    """Residual below 1.2 mV rms, half an LSB, of a spread of 35 mV: the law is nearly linear."""
    for parts, draws, shift in cells.values():
        scale = parts / mismatch.standard_deviations(TECHNOLOGY, HALVES[len(parts) == 4])
        predicted = np.tensordot(draws, scale, axes=2)
        assert np.isfinite(shift).all()
        assert np.sqrt(np.mean((shift - predicted) ** 2)) < 1.2e-3


def by_hand(half, g, v_dl, draw):
    """Return the match line of one drawn cell: every transistor has a card of its own."""
    cards, first = cards_text(TECHNOLOGY), {"lower": 1, "upper": 3}[half]
    texts = []
    for k, (vth, beta) in enumerate(draw, start=first):
        kind = "p16lp" if k == 4 else "n16lp"
        card = re.search(rf"\.model {kind} .*\n(\+.*\n)*", cards + "\n")[0]
        card = re.sub(r"vth0=(\S+)", lambda m, d=vth: f"vth0={float(float(m[1]) + d)!r}", card)
        scale = re.search(r"u0=([\d.]+)(m?)", card)
        u0 = float(scale[1]) * (1e-3 if scale[2] else 1) * np.exp(beta)
        texts.append(re.sub(r"(?<!m)u0=\S+", f"u0={float(u0)!r}", card).replace(kind, f"card{k}"))
    lower = "m1 n dl lo 0 card1 w=100n l=16n\nm2 ml n 0 0 card2 w=128n l=16n"
    upper = """m3 n dl lo 0 card3 w=100n l=16n
m4 inv n vdd vdd card4 w=384n l=16n
m5 inv n 0 0 card5 w=128n l=16n
m6 ml inv 0 0 card6 w=128n l=16n"""
    netlist = f"""by hand
{cards}
{"".join(texts)}
vdd vdd 0 0.9
vhi hi 0 0.8
vlo lo 0 0.1
vdl dl 0 {float(v_dl)!r}
b1 hi n i={float(g)!r}*0.4*sinh((v(hi)-v(n))/0.4)
{lower if half == "lower" else upper}
cn n 0 0.05f
cml ml 0 0.7f
mp ml pcb vdd vdd p16lp w=128n l=16n
vpcb pcb 0 pulse(0 0.9 35p 10p 10p 1 2)
.options reltol=1e-4 gmin=1e-15 method=trap
.tran 0.5p 340p 0 0.5p
.end
"""
    return batch.simulate(netlist, ["v(ml)"])["v(ml)"][-1]


@pytest.mark.ngspice
@pytest.mark.parametrize("half", HALVES)
def test_a_drawn_cell_agrees_with_a_netlist_written_by_hand(data, cells, half):
    """0.3 mV to either side the hand-made match line stands on the two sides of 0.45 V."""
    _, draws, shift = cells[half]
    for k in (0, 7, 19):
        v = getattr(data, f"{half}_v")[G] + shift[k]
        sides = [by_hand(half, data.g[G], v + dv, draws[k]) - 0.45 for dv in (-3e-4, 3e-4)]
        assert (sides[0] < 0 < sides[1]) if half == "lower" else (sides[0] > 0 > sides[1])


@pytest.mark.ngspice
@pytest.mark.parametrize("key", ["a_vt_v_m", "a_beta_m"])
def test_both_constants_scale_their_part_of_the_spread(key, data, spice_cache):
    column = {"a_vt_v_m": 0, "a_beta_m": 1}[key]
    changed = 2 * getattr(TECHNOLOGY.process, key)
    _, other = apply_overrides(DEVICE, TECHNOLOGY, [f"{key}={changed!r}"])
    twice = acam.characterize(DEVICE, other, quick=True, cache=spice_cache)
    for half in HALVES:
        ratio = getattr(twice, f"mismatch_{half}_parts_v") / getattr(
            data, f"mismatch_{half}_parts_v"
        )
        assert ratio[..., column] == pytest.approx(2.0)
        assert ratio[..., 1 - column] == pytest.approx(1.0)


@pytest.mark.ngspice
def test_the_monte_carlo_is_stored_when_asked_for(spice_cache):
    found = acam.characterize(DEVICE, TECHNOLOGY, quick=True, samples=5, cache=spice_cache)
    assert found.monte_carlo_lower_v.shape == found.monte_carlo_upper_v.shape == (3, 5)
    assert np.isfinite(found.monte_carlo_lower_v).all()
    assert np.isin(found.monte_carlo_g, found.mismatch_g).all()

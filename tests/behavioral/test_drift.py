"""Drift of a chip after programming, against its law."""

import dataclasses

import numpy as np
import pytest

from behavioral.acam import AcamModel
from behavioral.crossbar import CrossbarModel
from behavioral.drift import Drift
from tests.behavioral.standin import make_library

SILENT = {"write_noise_log_scale": "-inf", "read_noise_log_scale": "-inf"}
LAW = {"drift_shift_s": "-0.1u", "drift_spread_s": "0.4u", "drift_spread_growth_s": "50n"}


def aged(seconds, **keys):
    """Return a library whose cells do nothing but drift."""
    library = make_library()
    device = library.device.override({**SILENT, **LAW, "drift_time_s": repr(seconds), **keys})
    return dataclasses.replace(library, device=device)


def devices(library, **options):
    """Return main+ conductances of 40,000 cells, all of one weight."""
    model = CrossbarModel(library)
    w = np.full((200, 200), 0.5, np.float32)
    array = model.program(w, seed=3, slices=1, correction="none", keep_devices=True, **options)
    return array.devices[0].astype(float)


def test_the_law_is_linear_in_the_logarithm_of_the_time():
    law = Drift.of(aged(np.e**4).device)
    assert (law.shift, law.spread) == (pytest.approx(-4e-7), pytest.approx(6e-7))
    assert Drift.of(aged(0.9).device) == Drift(0.0, 0.0)


@pytest.mark.parametrize("read_noise", ["frozen", "per-read"])
def test_crossbars_drift_by_mean_and_spread(read_noise):
    """40,000 draws: five standard errors of mean and standard deviation."""
    before, after = (devices(aged(t), noise=read_noise) for t in (0.0, np.e**4))
    moved = after - before
    assert moved.mean() == pytest.approx(-4e-7, abs=5 * 6e-7 / 200)
    assert moved.std() == pytest.approx(6e-7, rel=5 / 283)


def test_stuck_cells_do_not_drift():
    before, after = (devices(aged(t, stuck_off_rate="0.5")) for t in (0.0, 1e6))
    stuck = before == before.min()
    assert 0.4 < stuck.mean() < 0.6
    np.testing.assert_array_equal(after[stuck], before[stuck])
    assert (after != before)[~stuck].all()


def test_thresholds_of_acam_cells_drift():
    """The stand-in's upper threshold is 0.51 V + 0.04 V sqrt(G / 1 uS): G by hand, from u."""
    models = [AcamModel.from_library(aged(t)) for t in (0.0, np.e**4)]
    hi = np.full(200, 0.6)
    units = [m.program(np.zeros(200), hi, np.zeros(200, int), 1, columns=50) for m in models]
    g = [((m.voltage(u.hi) - 0.51) / 0.04) ** 2 for m, u in zip(models, units, strict=True)]
    moved = 1e-6 * (g[1] - g[0])
    assert moved.mean() == pytest.approx(-4e-7, abs=5 * 6e-7 / 100)
    assert moved.std() == pytest.approx(6e-7, rel=0.05)


def test_an_ideal_chip_does_not_age():
    x = np.eye(8, dtype=np.float32)
    found = []
    for library in (aged(0.0), aged(1e9)):
        model = CrossbarModel(library)
        found.append(model.multiply(model.program(x / 2, noise="none"), x))
    np.testing.assert_array_equal(*found)

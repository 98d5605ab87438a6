"""Noise laws against the paper's table; streams against their own promises."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from behavioral.acam import AcamModel
from behavioral.crossbar import CrossbarModel
from behavioral.noise import NoiseLaw, generator, normal, stream_key
from circuits.errors import ParameterError
from circuits.parameters import Device
from system.sweep.points import AT_PROGRAMMING
from tests.behavioral.standin import make_library

DRIFT = ("drift_shift_s", "drift_spread_s", "drift_spread_growth_s")
# NL-DPE released code, constants 0.95/-1.86/2 uS and 0.98/-3.1/10 uS: G, write, read [uS]
TABLE = [
    (0.01, 0.0020, 0.0005),
    (0.1, 0.0175, 0.0047),
    (1, 0.1557, 0.0450),
    (2, 0.3007, 0.0889),
    (5, 0.3007, 0.2181),
    (10, 0.3007, 0.4302),
    (50, 0.3007, 0.4302),
    (150, 0.3007, 0.4302),
]


@pytest.mark.parametrize(("g", "write", "read"), TABLE)
def test_noise_of_taox_is_that_of_the_released_code(g, write, read):
    """Four decimals are printed in the source: atol is half of the last one."""
    device = Device.from_toml("taox")
    assert NoiseLaw.write(device).sigma(g * 1e-6) * 1e6 == pytest.approx(write, abs=5.1e-5)
    assert NoiseLaw.read(device).sigma(g * 1e-6) * 1e6 == pytest.approx(read, abs=5.1e-5)


def test_look_up_over_sqrt_follows_the_law():
    law = NoiseLaw.read(Device.from_toml("taox"))
    step, table = law.over_sqrt(150e-6)
    g = np.geomspace(1e-8, 150e-6, 500)
    got = np.interp(np.sqrt(g), step * np.arange(table.size), table)
    np.testing.assert_allclose(got, law.sigma(g), atol=2e-3 * table.max(), rtol=0)


def test_minus_infinite_log_scale_means_no_noise():
    law = NoiseLaw(0.9, -np.inf, 1e-15, 1e-6)
    assert law.sigma([1e-6, 1e-4]).tolist() == [0.0, 0.0]


def test_scaling_multiplies_sigma():
    law = NoiseLaw.write(Device.from_toml("taox"))
    assert law.scaled(2.0).sigma(1e-6) == pytest.approx(2 * law.sigma(1e-6), rel=1e-12)
    assert law.scaled(0.0).sigma(1e-6) == 0.0
    with pytest.raises(ParameterError, match="noise scale"):
        law.scaled(-1.0)


def test_normals_are_normal():
    """Kolmogorov-Smirnov at 2e5 draws of a fixed stream; p is uniform, 1e-3 is a fair floor."""
    count = 2000 if _without_jit() else 200_000
    draws = normal(stream_key(1, "test"), count)
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    assert abs(draws.mean()) < 4 / np.sqrt(count)
    assert abs(draws.var() - 1) < 4 * np.sqrt(2 / count)


def test_neighbouring_counters_and_streams_are_uncorrelated():
    count = 2000 if _without_jit() else 100_000
    a, b = normal(stream_key((1, 2), "x"), count), normal(stream_key((1, 3), "x"), count)
    limit = 4 / np.sqrt(count)
    assert abs(np.corrcoef(a, b)[0, 1]) < limit
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < limit


def test_draws_depend_on_the_counter_alone():
    key = stream_key((5, 1, 2), "read")
    whole = normal(key, 300)
    parts = np.concatenate([normal(key, 100), normal(key, 200, start=100)])
    assert np.array_equal(whole, parts)


def test_streams_differ_by_path_length_and_purpose():
    keys = {
        int(stream_key(*name))
        for name in [(1, "a"), ((1, 0), "a"), ((1, 0, 0), "a"), (1, "b"), (2, "a"), ((0, 1), "a")]
    }
    assert len(keys) == 6


def test_generator_repeats_itself():
    first = generator((3, 1), "inputs").normal(size=5)
    assert np.array_equal(first, generator((3, 1), "inputs").normal(size=5))


@pytest.mark.parametrize("seed", [-1, (), (1, -2), (0.5,)])
def test_bad_seed_is_refused(seed):
    with pytest.raises(ParameterError, match="seed"):
        stream_key(seed, "x")


def _without_jit():
    import numba

    return bool(numba.config.DISABLE_JIT)


@pytest.mark.parametrize("key", AT_PROGRAMMING)
def test_every_noise_key_moves_crossbars_and_acam_units(key):
    """No netlist knows them; together with tests/test_every_parameter.py: no dead key."""
    library = make_library()
    old = library.device.override(dict.fromkeys(DRIFT, "1e-8") | {"drift_time_s": "10"})
    value = {"noise_floor_s": 1e-6, "stuck_off_rate": 0.05}.get(key, 0.9 * getattr(old, key))
    devices = old, old.override({key: repr(value)})
    libraries = [dataclasses.replace(library, device=device) for device in devices]
    w = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    before, after = (CrossbarModel(one).program(w, seed=1).effective for one in libraries)
    assert not np.array_equal(before, after)
    hi, bit = np.geomspace(1e-3, 0.9, 64), np.arange(64) // 8  # the lowest below 1 uS
    models = [AcamModel.from_library(one) for one in libraries]
    units = [m.program(hi / 2, hi, bit, 8, seed=1, keep_thresholds=True) for m in models]
    assert not np.array_equal(units[0].hi, units[1].hi)

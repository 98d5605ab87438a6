"""The column against ngspice runs written by hand, and against the ohmic solution."""

import numpy as np
import pytest

from circuits import batch, crossbar
from circuits.errors import ParameterError
from circuits.netlist import cards_text
from circuits.parameters import load_parameters

pytestmark = pytest.mark.ngspice

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")


@pytest.fixture(scope="module")
def data(spice_cache):
    return crossbar.characterize(DEVICE, TECHNOLOGY, quick=True, cache=spice_cache)


def column_by_hand(g, v):
    """Return the read-out current of one column and one input from a netlist of its own."""
    lines = ["by hand", cards_text(TECHNOLOGY), "vwl wl 0 1.8", "vcm cm 0 0.3"]
    for r, (conductance, volts) in enumerate(zip(g, v, strict=True)):
        lines += [
            f"v{r} r{r} 0 {0.3 + float(volts)!r}",
            f"b{r} r{r} d{r} i={float(conductance)!r}*0.4*sinh(v(r{r},d{r})/0.4)",
            f"m{r} d{r} wl l{r} 0 n16lp w=300n l=16n",
            f"rw{r} l{r} l{r + 1} 0.5",
        ]
    lines += [f"vs l{len(g)} in 0", "rf in out 500", "ea o 0 cm in 1000", "ro o out 50"]
    lines += [".options reltol=1e-6 gmin=1e-15", ".op", ".end", ""]
    return batch.simulate("\n".join(lines), ["i(vs)"])["i(vs)"][0]


def test_replay_agrees_with_columns_written_by_hand(data):
    """Three inputs of each kind of column; 1e-4 relative of full scale is 0.02 LSB of 8 bits."""
    for sample in (0, 1, 4):
        for column in (0, 1):
            mine = data.column_current[sample, column]
            other = column_by_hand(data.column_g[column], data.column_v[sample])
            assert mine == pytest.approx(other, abs=1e-4 * np.abs(data.column_current).max())


def test_replay_of_short_columns_and_many_samples(spice_cache):
    """More samples than fit a netlist, three rows: every sample equals its own run by hand."""
    rng = np.random.default_rng(3)
    g, v = rng.uniform(1e-6, 150e-6, (5, 3)), rng.uniform(-0.2, 0.2, (70, 3))
    current = crossbar.replay(DEVICE, TECHNOLOGY, g, v, cache=spice_cache)
    assert current.shape == (70, 5)
    for sample, column in ((0, 0), (63, 1), (64, 4), (69, 2)):
        assert current[sample, column] == pytest.approx(
            column_by_hand(g[column], v[sample]), rel=1e-4
        )


def test_single_sample_is_a_replay_too(spice_cache):
    g, v = np.full((1, 4), 50e-6), np.full((1, 4), 0.1)
    current = crossbar.replay(DEVICE, TECHNOLOGY, g, v, cache=spice_cache)
    assert current[0, 0] == pytest.approx(column_by_hand(g[0], v[0]), rel=1e-4)


def test_linear_column_with_strong_transistors_is_ohms_law(spice_cache):
    """Ideal device, no wire, high gain, huge access device: I = sum G V, but for 0.5 %."""
    device, technology = load_parameters(
        "ideal", "lp16", ["r_wire_ohm_per_cell=0", "opamp_gain=1e6", "w_access_m=30u", "rows=8"]
    )
    rng = np.random.default_rng(4)
    g, v = rng.uniform(1e-6, 20e-6, (2, 8)), rng.uniform(-0.2, 0.2, (3, 8))
    current = crossbar.replay(device, technology, g, v, cache=spice_cache)
    np.testing.assert_allclose(current, v @ g.T, atol=0.005 * np.abs(v @ g.T).max())


def test_a_wire_of_no_resistance_settles_like_a_thin_one(spice_cache):
    """It took minutes: a microvolt of error drove an ampere through 1 uohm. Now a short."""
    found = []
    for ohm in (0, 0.001):
        device, technology = load_parameters(
            "taox", "lp16", [f"r_wire_ohm_per_cell={ohm}", "rows=64"]
        )
        found.append(crossbar.characterize(device, technology, quick=True, cache=spice_cache))
    np.testing.assert_allclose(found[0].settle_s, found[1].settle_s, rtol=0.01)
    np.testing.assert_allclose(found[0].column_current, found[1].column_current, rtol=2e-3)


def test_cell_current_rises_with_every_voltage_and_conductance(data):
    middle = len(data.v_bl) // 2
    assert (np.diff(data.current, axis=1) > 0).all()
    assert (np.diff(data.current, axis=2) < 0).all()
    assert (np.diff(data.current[:, -1, middle]) > 0).all()


def test_cell_approaches_the_device_law_at_low_conductance(data):
    """Reference: I = G v_sinh sinh(V / v_sinh); at 2 nS the transistor costs less than 1e-4."""
    middle = len(data.v_bl) // 2
    law = data.g[0] * 0.4 * np.sinh(data.v_row / 0.4)
    np.testing.assert_allclose(data.current[0, :, middle], law, rtol=1e-3, atol=1e-15)


def test_held_out_cells_lie_between_their_neighbours_on_the_grid(data):
    for g, row, line, current in zip(
        data.held_out_g, data.held_out_v_row, data.held_out_v_bl, data.held_out_current, strict=True
    ):
        a, b = np.searchsorted(data.g, g) - 1, np.searchsorted(data.g, g)
        i, j = np.searchsorted(data.v_row, row) - 1, np.searchsorted(data.v_bl, line) - 1
        box = data.current[a : b + 1, i : i + 2, j : j + 2]
        assert box.min() <= current <= box.max()


def test_settling_and_its_energy_grow_with_the_load(data):
    assert np.isfinite(data.settle_s).all()
    assert (data.settle_energy_j > 0).all()
    assert data.settle_energy_j[-1] > data.settle_energy_j[0]
    assert 1e-11 < data.settle_s.max() < 1e-8


@pytest.mark.parametrize(
    ("g", "v"),
    [
        (np.ones((1, 3)), np.ones((1, 4))),
        (np.ones((1, 300)), np.ones((1, 300))),
        (np.zeros((1, 3)), np.ones((1, 3))),
    ],
)
def test_replay_refuses_shapes_and_values_that_do_not_fit(g, v):
    with pytest.raises(ParameterError):
        crossbar.replay(DEVICE, TECHNOLOGY, g, v)


def test_settling_energy_is_the_integral_taken_by_the_simulator(spice_cache):
    """Reference: four rows at g_max by hand, a capacitor charged by the rows' power; 1 %."""
    device, technology = load_parameters("taox", "lp16", ["column.rows=4"])
    data = crossbar.characterize(device, technology, quick=True, checks=False, cache=spice_cache)
    readout, column = technology.readout, technology.column
    pole = readout.opamp_gain / (2 * np.pi * readout.opamp_gbw_hz * 1e3)
    lines = ["energy by hand", cards_text(technology), "vwl wl 0 1.8", "vcm cm 0 0.3"]
    lines.append("vin row cm pulse(0 0.2 0.1n 10p 10p 1 2)")
    for r in range(4):
        lines += [
            f"b{r} row d{r} i=1.5e-4*0.4*sinh(v(row,d{r})/0.4)",
            f"m{r} d{r} wl l{r} 0 n16lp w=300n l=16n",
            f"rw{r} l{r} l{r + 1} {column.r_wire_ohm_per_cell}",
            f"cw{r} l{r} 0 {column.c_wire_f_per_cell}",
        ]
    lines += ["rf l4 out 500", f"g1 0 p cm l4 {readout.opamp_gain / 1e3}", "r1 p 0 1k"]
    lines += [f"c1 p 0 {pole}", "e1 o 0 p 0 1", "ro o out 50"]
    lines += ["bq 0 q i=-v(row,cm)*i(vin)*1e6", "cq q 0 1n ic=0", "rq q 0 1e15"]
    lines += [".options reltol=1e-5 gmin=1e-15", f".tran 1p {data.settle_s[-1] + 2e-10} 0 1p"]
    found = batch.simulate("\n".join([*lines, ".end", ""]), ["time", "v(q)"])
    end = np.interp(1e-10 + data.settle_s[-1], found["time"], found["v(q)"])
    joules = (end - np.interp(1e-10, found["time"], found["v(q)"])) * 1e-9 / 1e6
    assert data.settle_energy_j[-1] == pytest.approx(joules, rel=0.01)
    assert (data.settle_energy_j > 0).all()

"""What `--over KEY=VALUES` means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits import acam, crossbar, readout
from circuits.errors import ParameterError
from circuits.parameters import load_parameters
from system.sweep.axes import ALIASES, Axis, find_key, read_axes
from system.sweep.points import AT_PROGRAMMING, Conditions, Point, grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("bits=6,7,8", ("6", "7", "8")),
        ("bits=4..6", ("4", "5", "6")),
        ("rows=64..512", ("64", "128", "256", "512")),
        ("noise-scale=0.5..2:4", ("0.5", "1", "1.5", "2")),
        ("noise-scale=0.5..2", ("0.5", "1", "1.5", "2")),
        ("stuck=0..0.05", ("0", "0.01", "0.02", "0.03", "0.04", "0.05")),
        ("wire-ohm=0..2.5", ("0", "0.5", "1", "1.5", "2", "2.5")),
        ("temperature=-40,25,125", ("-40", "25", "125")),
        ("stuck=0,0.01..0.03:3", ("0", "0.01", "0.02", "0.03")),
        ("g-max=50u,1.5e-4", ("5e-05", "0.00015")),
        ("map.predistort=true,false", ("true", "false")),
        ("cards.section=tt,ff", ("tt", "ff")),
    ],
)
def test_lists_and_ranges(text, values):
    assert Axis.from_text(text).values == values


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 40))
def test_a_range_is_evenly_spaced(low, width, count):
    """Twelve digits are kept of each value: 1e-9 of 2,000 is far above their rounding."""
    found = Axis.from_text(f"column.v_cm_v={low!r}..{low + width!r}:{count}").numbers
    np.testing.assert_allclose(found, np.linspace(low, low + width, count), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bit=6", "nearest: bits"),
        ("wire-om=1", "nearest: wire-ohm"),
        ("map.slice=1", "nearest: map.slices"),
        ("r_wire_ohm=1", "nearest: wire-ohm"),
        ("name=a", "ambiguous: device.name, technology.name"),
        ("bits", "write KEY=VALUES"),
        ("bits=6,,7", "a value is missing"),
        ("bits=6,6", "stands there twice"),
        ("noise-scale=0.5..1.63", "how many values"),
        ("rows=64..1000", "how many values"),
        ("bits=9..4", "to a larger one"),
        ("bits=4..9:1", "permitted: 2 to 1000"),
        ("bits=a..b", "is not a number"),
    ],
)
def test_what_cannot_be_swept_is_said(text, message):
    with pytest.raises(ParameterError, match=message):
        Axis.from_text(text)


def test_two_axes_do_not_set_the_same_thing():
    for pair in (["bits=6", "map.input_bits=7"], ["wire-ohm=1", "r_wire_ohm_per_cell=2"]):
        with pytest.raises(ParameterError, match="keep one of them"):
            read_axes(pair)
    with pytest.raises(ParameterError, match="keep one of them"):
        read_axes(["bits=6", "bits=7"])


def test_every_short_key_sets_something_that_exists():
    """`noise`, `stuck` and `mode` are the settings that are no key of a card or a mapping."""
    for alias in ALIASES.values():
        for target in alias.targets:
            if target.split(".")[0] not in ("noise", "stuck", "mode"):
                assert find_key(target).targets == (target,)


def test_an_axis_may_be_a_choice_of_some_layers():
    (point,) = grid(["a"], read_axes(["map.*.down_proj.input_bits=10"]))
    assert point.mapping(Conditions()) == {"*.down_proj.input_bits": 10}
    with pytest.raises(ParameterError, match="unknown key"):
        find_key("map.layers")


def test_a_grid_has_every_combination_and_the_last_axis_runs_fastest():
    points = grid(["a", "b"], read_axes(["bits=6,8", "rows=64,128"]))
    assert [(p.model, *p.values) for p in points][:3] == [
        ("a", "6", "64"),
        ("a", "6", "128"),
        ("a", "8", "64"),
    ]
    assert len(points) == 8
    assert points[0].mapping(Conditions()) == {"input_bits": 6, "output_bits": 6, "weight_bits": 6}


def _netlists(device, technology):
    jobs = []
    for circuit in (acam, crossbar, readout):
        circuit.characterize(device, technology, quick=True, record=jobs)
    return [job.netlist for job in jobs]


def test_what_acts_at_programming_is_in_no_netlist():
    """Twice the noise and 1 % of stuck devices leave every netlist; g_max does not."""
    device, technology = load_parameters("taox", "lp16")
    before = _netlists(device, technology)
    changed = {key: str(getattr(device, key) * 1.01 + 0.01) for key in AT_PROGRAMMING}
    changed["noise_floor_s"] = "1e-14"
    assert _netlists(device.override(changed), technology) == before
    assert _netlists(device.override({"g_max_s": "100u"}), technology) != before


def test_noise_and_stuck_devices_are_those_of_one_part_or_both():
    device, technology = load_parameters("taox", "lp16")
    settings = {"noise.crossbar": "2", "stuck.acam": "0.05", "device.noise_floor_s": "1e-14"}
    point = Point("m", (), tuple(settings.items()))
    assert point.cards(device, technology) == (device, technology)
    first, second = point.programmed(device)
    shift = first.write_noise_log_scale - device.write_noise_log_scale
    assert shift == pytest.approx(np.log(2), abs=1e-12)
    assert (first.stuck_off_rate, second.stuck_off_rate) == (0.0, 0.05)
    assert second.write_noise_log_scale == device.write_noise_log_scale
    assert first.noise_floor_s == second.noise_floor_s == 1e-14

"""No dead parameters: every key that a shipped file states moves an output.

A netlist counts without the ``.param`` lines that nothing in it refers to. Where a key is in no
netlist, what is computed from it counts; only two keys of a technology need a simulation.
"""

import dataclasses
import re
import tomllib
from functools import cache
from importlib import resources

import numpy as np
import pytest

from behavioral.crossbar import CrossbarModel
from behavioral.decision import line_noise
from circuits import acam, acam_unit, crossbar, programming, readout, row_driver, row_transfer
from circuits.netlist import acam_models, column_models, program_models, readout_models
from circuits.parameters import Device, Technology, apply_overrides, parameter_keys, shipped_names
from circuits.search import SearchBench
from tests.behavioral.standin import make_library

LABELS = ("name", "description", "source")  # printed, and part of a library's text
MEASURED = ("acam.v_sense_v", "acam.i_trip_a")  # below, in ngspice
DEVICES = {name: Device.from_toml(name) for name in shipped_names("devices")}
TECHNOLOGIES = {name: Technology.from_toml(name) for name in shipped_names("technologies")}
LIBRARY = make_library()
DEVICE, TECHNOLOGY = DEVICES["taox"], TECHNOLOGIES["lp16"]

# Values where 3 % more is no value or no change.
VALUES = {
    "process.corner": "ff",
    "acam.cell": "10t2m",
    "acam.match_lines": "1",
    "acam.cells_per_row": "2",
    "acam.decision_noise_v": "1e-3",
    "unit.rows_per_or_line": "1",
    "driver.circuit": "pulses",
    "driver.buffers": "2",
    "driver.cells": "128",
    "column.rows": "128",
    "column.r_row_wire_ohm_per_cell": "1",
    "readout.amplifier": "two-stage",
    "v_sinh_v": "0.3",
    "write_noise_log_scale": "-2",
    "read_noise_log_scale": "-2",
    "write_noise_exponent": "0.5",
    "read_noise_exponent": "0.5",
    "stuck_off_rate": "0.3",
    "g_temperature_per_k": "1e-3",
    "drift_shift_s": "1e-7",
    "drift_spread_s": "1e-7",
    "drift_spread_growth_s": "1e-7",
    "drift_time_s": "1e3",
    "vteam.w_on_m": "1e-10",
    "stanford.tfilament_max_m": "4.8e-9",
    "programming.most_pulses": "3",
    "programming.tolerance": "0.3",
}
# Settings without which a key has no effect.
NOISY = ("write_noise_log_scale=-3", "read_noise_log_scale=-3")
SLOPED = (*NOISY, "write_noise_exponent=0.9", "read_noise_exponent=0.9")
SHOWN = {
    "amplifier.": ("readout.amplifier=two-stage",),
    "_shift_n": ("process.corner=ff",),
    "_shift_p": ("process.corner=ff",),
    "g_temperature": ("temperature_c=85",),
    "noise_exponent": NOISY,
    "noise_clip": SLOPED,
    "noise_floor": SLOPED,
    "drift_s": ("drift_time_s=1e3",),
    "drift_time": ("drift_shift_s=1e-7",),
}


def stated(kind, name):
    """Return the keys of a shipped file that are no labels."""
    path = resources.files("netlists").joinpath(kind, f"{name}.toml")
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    keys = []
    for key, value in content.items():
        keys += [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
    return [key for key in keys if key not in LABELS]


def effective(text):
    """Return a netlist without comments and without parameters that nothing refers to."""
    lines = [line for line in text.splitlines() if not line.startswith("*")]
    rest = [line.partition("=")[2] if line.startswith(".param") else line for line in lines]
    words = set(re.findall(r"[a-z]\w*", "\n".join(rest)))
    return [t for t in lines if not t.startswith(".param") or t.split()[1].split("=")[0] in words]


@cache
def models(device, technology):
    texts = (
        column_models(device, technology),
        readout_models(technology),
        acam_models(device, technology, 1.0, 1.0),
    )
    return [effective(text) for text in texts]


@cache
def unit(device, technology):
    """Return the netlist of a whole ACAM unit of two rows; its sizes belong to lp16."""
    if technology.name != "lp16":
        return None
    jobs, g = [], np.full(2, 1e-6)
    rows = acam_unit.Rows(g, 2 * g, np.zeros(2, np.int64), bits=2)
    acam_unit.convert(device, technology, rows, 0.7, record=jobs)
    return [effective(job.netlist) for job in jobs]


@cache
def driver(device, technology):
    """Return the netlists of both row drivers, of the one that inference takes; spread of taps."""
    bench, jobs = row_driver.DriverBench(technology, {}), []
    if technology.driver.circuit != "ideal":
        row_transfer.characterize(device, technology, quick=True, record=jobs)
    jobs += bench.sweep(1e-3), bench.step(0, 1), bench.pulses()
    spread = row_driver.string_mismatch(technology.driver.r_unit_sigma, strings=3)
    return [effective(job.netlist) for job in jobs], spread.tolist()


@cache
def programmed(device, technology):
    """Return a small array of a stand-in library in the range of the device, and a line's noise."""
    made, scale = LIBRARY, device.g_max_s / DEVICE.g_max_s
    cells = {key: scale * getattr(made.crossbar, key) for key in ("g", "current")}
    crossbar = dataclasses.replace(made.crossbar, **cells)
    library = dataclasses.replace(made, device=device, technology=technology, crossbar=crossbar)
    weights = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(8, 8)
    array = CrossbarModel(library).program(weights, correction="none")
    return array.effective.tolist(), line_noise(library)


@cache
def experiment(device, technology):
    """Return netlists of pulses, and what write-verify does to cells that follow a simple law."""
    if device.programming is None:
        return None
    bench, settings = programming.Bench(device, technology), device.programming
    height = np.array([0.0, 0.0, settings.v_set_v, settings.v_most_v])
    v = programming.next_pulse(height, np.array([1.0, -1.0, 1.0, 1.0]), settings)
    pulses = programming.Pulses(np.maximum(v, 0.0), np.maximum(-v, 0.0), np.ones(4))
    text = bench._pulse_job(np.ones(4), pulses, slice(0, 4)).netlist

    class Follows(programming.Bench):
        def apply(self, states, pulses):
            change = 0.4 * np.tanh(10 * (pulses.v_set - pulses.v_reset)) * pulses.rate_factor
            g = self.model.conductance(states) * np.exp(change)
            state = self.model.state(np.clip(g, device.g_min_s, device.g_max_s))
            return state, self.model.conductance(state)

    targets = np.geomspace(device.g_min_s, device.g_max_s, 7)[1:-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programming, "Bench", Follows)
        found = programming.program(device, technology, targets)
    written = found.g_s.tolist(), found.pulses.tolist(), found.v_last_v.tolist()
    return effective(text), effective(program_models(device, technology)), written


@cache
def plans(device, technology):
    """Return all netlists of a library's first round."""
    jobs = []
    for module in (acam, crossbar, readout):
        module.characterize(device, technology, quick=True, record=jobs)
    return [effective(job.netlist) for job in jobs]


OUTPUTS = (models, programmed, unit, driver, experiment, plans)  # cheap ones first


def changed(parameters, key):
    """Return another value of a key."""
    value = parameters
    for part in key.split("."):
        value = getattr(value, part)
    if key == "noise_floor_s":
        return repr(0.5 * min(parameters.write_noise_clip_s, parameters.read_noise_clip_s))
    if key.endswith("noise_clip_s"):
        return repr(0.1 * value)
    return VALUES.get(key) or repr(value * 1.03)


def is_alive(device, technology, key, value, shown=()):
    before = apply_overrides(device, technology, shown)
    after = apply_overrides(*before, [f"{key}={value}"])
    return any(output(*before) != output(*after) for output in OUTPUTS)


def shown(key):
    return [text for part, settings in SHOWN.items() if part in key for text in settings]


def test_every_key_is_stated_in_a_shipped_file():
    known = {key.partition(".")[2] for key in parameter_keys()} - set(LABELS)
    files = [("devices", name) for name in DEVICES] + [("technologies", n) for n in TECHNOLOGIES]
    assert known == {key for file in files for key in stated(*file)}


def test_a_parameter_that_nothing_refers_to_is_no_output():
    text = ".param a=1\n.param b={2*a}\n.param c=3\n* c\nr1 x 0 {b}"
    assert effective(text) == [".param a=1", ".param b={2*a}", "r1 x 0 {b}"]


@pytest.mark.parametrize("name", DEVICES)
def test_every_key_of_a_device_moves_an_output(name):
    device = DEVICES[name]
    dead = [
        key
        for key in stated("devices", name)
        if not is_alive(device, TECHNOLOGY, f"device.{key}", changed(device, key), shown(key))
    ]
    assert not dead


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_every_key_of_a_technology_moves_an_output(name):
    technology = TECHNOLOGIES[name]
    dead = [
        key
        for key in stated("technologies", name)
        if key not in MEASURED
        and not key.startswith("cards.")
        and not is_alive(
            DEVICE, technology, f"technology.{key}", changed(technology, key), shown(key)
        )
    ]
    assert not dead


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_every_key_of_the_cards_moves_an_output(name, tmp_path):
    """The two models change places, the file is another one, a section another of its kind."""
    technology = TECHNOLOGIES[name]
    cards, text = technology.cards, technology.cards_path().read_text()
    other, library = tmp_path / "other.lib", tmp_path / "corners.lib"
    other.write_text(text.replace("u0=", "u0=1.01*", 1))
    library.write_text("".join(f".lib {name}\n{text}\n.endl {name}\n" for name in "AB"))
    assert is_alive(DEVICE, technology, "cards.nmos", cards.pmos)
    assert is_alive(DEVICE, technology, "cards.pmos", cards.nmos)
    assert is_alive(DEVICE, technology, "cards.file", other)
    for key in ("section", *(f"section_{corner}" for corner in ("ff", "ss", "fs", "sf"))):
        corner = key.partition("_")[2] or "tt"
        with_sections = [f"cards.file={library}", f"process.corner={corner}", f"cards.{key}=A"]
        assert is_alive(DEVICE, technology, f"cards.{key}", "B", with_sections), key


@pytest.mark.ngspice
@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_both_sense_levels_move_what_is_measured(name, spice_cache):
    """One static sweep and one search each; the delay by more than 1 %."""
    technology, g = TECHNOLOGIES[name], np.array([1e-6])
    _, higher = apply_overrides(
        DEVICE,
        technology,
        [
            f"v_sense_v={0.9 * technology.acam.v_sense_v}",
            f"i_trip_a={1.1 * technology.acam.i_trip_a}",
        ],
    )
    benches = [SearchBench(DEVICE, x, {"cache": spice_cache}) for x in (technology, higher)]
    trips = [bench.static("lower", g)[0][0] for bench in benches]
    delays = [bench.energy("lower", g, np.array([trips[0] - 0.1]))[2][0] for bench in benches]
    assert abs(trips[1] - trips[0]) > 1e-4
    assert delays[1] > 1.01 * delays[0]

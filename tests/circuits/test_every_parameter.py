"""No dead parameters: each TOML key changes a netlist or a result."""

import numpy as np
import pytest

from circuits import acam, acam_unit, crossbar, readout, row_transfer
from circuits.parameters import Technology, apply_overrides, load_parameters, parameter_keys
from circuits.row_driver import DriverBench

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")
WITH_WIRE = Technology.from_toml("lp45")
LABELS = ("name", "description", "source")
# Used by the behavioural models, whose tests cover them; the circuits know no noise.
NOISE = ("noise", "stuck", "drift")
# Used by the behavioural models too: tests/behavioral/test_row_wires.py.
ROW_WIRES = ("r_row_wire_ohm_per_cell",)
# Used when results are read, not in a netlist.
RESULTS = ("v_sense_v", "i_trip_a", "r_unit_sigma")
# Used once thresholds are known: tests/circuits/test_mismatch.py.
MISMATCH = ("a_beta_m",)
VALUES = {
    "technology.cards.file": None,
    "technology.cards.section": None,
    **{f"technology.cards.section_{corner}": None for corner in ("ff", "ss", "fs", "sf")},
    "technology.process.corner": "ff",
    "device.g_temperature_per_k": "1e-3",
    "technology.cards.nmos": "p16lp",
    "technology.cards.pmos": "n16lp",
    "technology.acam.match_lines": "1",
    "technology.acam.cells_per_row": "2",
    "technology.acam.cell": "10t2m",
    "technology.unit.rows_per_or_line": "1",
    "technology.driver.circuit": "pulses",
    "technology.driver.buffers": "2",
    "technology.driver.cells": "128",
    "technology.column.rows": "128",
    "technology.readout.amplifier": "two-stage",
}
# Used by experiments of their own: tests/circuits/test_dynamics.py, test_programming.py.
EXPERIMENTS = ("device.stanford.", "device.vteam.", "device.programming.")
# Settings without which a key has no effect.
SHOWN = {
    ".amplifier.": "readout.amplifier=two-stage",
    "a_vt_v_m": "readout.amplifier=two-stage",
    "_shift_": "process.corner=ff",
    "g_temperature": "temperature_c=85",
}
KEYS = [
    key
    for key in parameter_keys()
    if key.rpartition(".")[2] not in (*LABELS, *ROW_WIRES, *RESULTS, *MISMATCH)
    and not any(word in key for word in NOISE)
    and not key.startswith(EXPERIMENTS)
    and VALUES.get(key, "") is not None
]


def texts(device, technology):
    """Return all netlists of a plan whose every job fails; nothing is simulated."""
    jobs = []
    for module in (acam, crossbar, readout):
        module.characterize(device, technology, quick=True, record=jobs)
    return [job.netlist for job in jobs]


def unit_texts(device, technology):
    """Return the netlist of a whole ACAM unit of two rows."""
    jobs, g = [], np.full(2, 1e-6)
    rows = acam_unit.Rows(g, 2 * g, np.zeros(2, np.int64), bits=2)
    acam_unit.convert(device, technology, rows, 0.7, record=jobs)
    return [job.netlist for job in jobs]


def driver_texts(device, technology):
    """Return the netlists of both row drivers, and of the one that inference takes."""
    bench, jobs = DriverBench(technology, {}), []
    if technology.driver.circuit != "ideal":
        row_transfer.characterize(device, technology, quick=True, record=jobs)
    jobs += bench.sweep(1e-3), bench.step(0, 1), bench.pulses()
    return [job.netlist for job in jobs]


def technology_with(key):
    """Return a technology that has the section of a key."""
    return WITH_WIRE if ".wire." in key else TECHNOLOGY


def value(key):
    part = {"device": DEVICE, "technology": technology_with(key)}[key.partition(".")[0]]
    for name in key.split(".")[1:]:
        part = getattr(part, name)
    return part


@pytest.mark.parametrize("key", KEYS)
def test_parameter_moves_a_netlist(key):
    changed = VALUES.get(key) or repr(value(key) * 1.03)
    shown = [setting for part, setting in SHOWN.items() if part in key]
    before = apply_overrides(DEVICE, technology_with(key), shown)
    after = apply_overrides(*before, [f"{key}={changed}"])
    parts = {".unit.": unit_texts, ".driver.": driver_texts}
    written = next((found for part, found in parts.items() if part in key), texts)
    assert written(*before) != written(*after)


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("key", "array"), [("v_sense_v", "lower_v"), ("i_trip_a", "lower_static_v")]
)
def test_sense_parameter_moves_a_threshold(key, array, spice_cache):
    changed = getattr(TECHNOLOGY.acam, key) * 1.1
    device, other = apply_overrides(DEVICE, TECHNOLOGY, [f"{key}={changed!r}"])
    before = acam.characterize(DEVICE, TECHNOLOGY, quick=True, cache=spice_cache)
    after = acam.characterize(device, other, quick=True, cache=spice_cache)
    assert np.abs(getattr(before, array) - getattr(after, array)).min() > 1e-4

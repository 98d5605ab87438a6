"""Power and area of the read-out amplifiers."""

import dataclasses
import re
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

from system.cost.chip import Chip
from system.cost.components import Components
from system.cost.model import NlDpe
from system.cost.spice import amplifier_power, has_measured_amplifier
from tests.behavioral.standin import make_library

POWER_W = np.array([1e-3, 8e-4, 8e-5])  # stage, summing stage, bias generator


def machine(power):
    library = make_library()
    readout = dataclasses.replace(library.readout, amplifier_power_w=power)
    library = dataclasses.replace(library, readout=readout)
    chip = SimpleNamespace(components=Components.from_toml())
    return NlDpe(chip=chip, library=library, figures=None)


def test_measured_power_counts_a_bias_generator_for_four_stages():
    found = machine(POWER_W)
    assert found.amplifier_power(4, 1) == pytest.approx(4e-3 + 8e-4 + 8e-5)
    assert found.origin["amplifier"] == "SPICE"


def test_without_a_measurement_the_estimate_is_used_and_called_so():
    """Transconductances of 1 / 50 ohm and 2 pi 5 GHz 60 fF, at 15 per V and 0.9 V."""
    found = machine(np.zeros(0))
    one = 0.9 * (1 / 50 + 2 * np.pi * 5e9 * 60e-15) / 15
    assert found.amplifier_power(4, 1) == pytest.approx(5 * one)
    assert found.origin["amplifier"] == "estimate"


def test_a_failed_measurement_is_not_used():
    library = machine(np.full(3, np.nan)).library
    assert not has_measured_amplifier(library)
    assert np.isfinite(amplifier_power(library, 15.0)).all()


def gates_of_the_netlist(sizes):
    """Add up w times l of every transistor: before the sub-circuit (bias generator), and in it."""
    text = (files("netlists") / "amplifier_two_stage.cir").read_text()
    parts = []
    for part in text.split(".subckt amplifier"):
        found = re.findall(r"^m\w+ .* w={(\w+)} l={(\w+)}", part, re.M)
        parts.append(sum(getattr(sizes, f"{w}_m") * getattr(sizes, f"{l}_m") for w, l in found))
    return parts


def test_gate_areas_are_those_of_the_netlist():
    sizes = make_library().technology.amplifier
    bias, amplifier = gates_of_the_netlist(sizes)
    assert sizes.gate_areas_m2() == pytest.approx((amplifier, bias), rel=1e-12)
    assert 5e-12 < amplifier < 20e-12


def test_a_core_has_four_stages_and_a_sum_a_column():
    """225 fF and 45 fF of capacitors at 2 fF per um2, beside the gates."""
    library = make_library()
    bias, amplifier = gates_of_the_netlist(library.technology.amplifier)
    chip = Chip.from_components(Components.from_toml(), library)
    column = 5 * amplifier + bias + (4 * 225e-15 + 45e-15) / 2e-3
    assert chip.core_areas()["amplifier"] == pytest.approx(256 * column, rel=1e-9)

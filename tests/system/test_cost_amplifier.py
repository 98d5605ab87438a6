"""Power of the read-out amplifiers: measured where the library has it, else the estimate."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

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

"""Soft decisions: noise on the data lines at every read."""

import dataclasses

import numpy as np
import pytest
from scipy.special import ndtr

from behavioral.decision import line_noise
from system.calibration import RangeRecorder
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.quantization import Mapping
from tests.behavioral.standin import make_library

RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(20, 40)).astype(np.float32)
X = RNG.normal(size=(30, 40)).astype(np.float32)
SOFT_V = 0.004
RANGED = Mapping(output_fine=1.0, output_copies=2)


def layer(noise="per-read", soft_v=SOFT_V, mapping=None, library=None):
    mapping = mapping or Mapping()
    recorder = RangeRecorder({"l.weight": WEIGHT}, mapping, 256)
    recorder.linear("l", X)
    library = library or make_library(acam__decision_noise_v=str(soft_v))
    hardware = Hardware(library, mapping)
    return AnalogLinear("l", WEIGHT, None, None, recorder.ranges, hardware, Chip(3, 0, noise))


def test_a_code_near_an_edge_has_the_probability_of_the_normal_law():
    soft, reads, column = layer(), 40_000, 7
    sure, conversion = layer(soft_v=0.0), soft._conversions[0]
    line = np.linspace(0.4, 0.6, 4001, dtype=np.float32) * conversion.span[column]
    y = np.repeat((line + conversion.line[0][column] / conversion.gain[column])[:, None], 20, 1)
    values = y.copy()
    sure._convert(sure._conversions[0], values, slice(0, 20), 0)
    sigma = SOFT_V / np.ptp([soft.hardware.acam.v_lo, soft.hardware.acam.v_hi])
    for place in (700, 2000, 3100):  # of the line, anywhere among its edges
        drawn = np.repeat(y[place : place + 1], reads, axis=0)
        soft._convert(conversion, drawn, slice(0, 20), 0)
        weight = np.diff(ndtr(5e-5 * (np.arange(4002) - 0.5 - place) / sigma))
        for code in np.unique(values[:, column]):
            wanted = weight[values[:, column] == code].sum()
            found = np.mean(drawn[:, column] == code)
            # four standard errors, and edges off by half a step: 2.5e-5 of the line of sigma's 5e-3
            assert abs(found - wanted) < 4 * np.sqrt(wanted / reads) + 0.005


@pytest.mark.parametrize("mapping", [Mapping(), RANGED, Mapping(partial_sums="digital")])
def test_draws_do_not_depend_on_how_samples_are_split(mapping):
    whole, parts = layer(mapping=mapping).forward(X), layer(mapping=mapping)
    split = np.concatenate([parts.forward(X[:7]), parts.forward(X[7:])])
    np.testing.assert_array_equal(split, whole)
    assert np.any(whole != layer(mapping=mapping, soft_v=0.0).forward(X))
    assert np.any(whole != parts.forward(X))  # later reads, other draws


def test_frozen_noise_has_hard_decisions():
    np.testing.assert_array_equal(layer("frozen").forward(X), layer("frozen", 0.0).forward(X))


@pytest.mark.parametrize("mapping", [Mapping(), RANGED])
def test_torch_draws_the_same(mapping):
    """One code in a thousand may be the next one: sums differ by float32 rounding."""
    torch_linear = pytest.importorskip("system.torch_linear")
    own = layer(mapping=mapping)
    moved = torch_linear.mover("cpu")(own)
    moved.reads = list(own.reads)
    found, wanted = moved.forward(3 * X), own.forward(3 * X)
    assert np.mean(found != wanted) < 5e-3


def test_noise_of_a_measured_read_out_adds_up_with_that_of_decisions():
    library = make_library(acam__decision_noise_v="0.003")
    measured = dataclasses.replace(library.readout, noise_v=0.004)
    assert line_noise(library) == pytest.approx(0.003)
    assert line_noise(dataclasses.replace(library, readout=measured)) == pytest.approx(0.005)

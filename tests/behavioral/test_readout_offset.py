"""Random offsets of read-out amplifiers, against the read-out's own netlist, and in layers."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from behavioral.crossbar import CrossbarModel
from behavioral.noise import normal, stream_key
from behavioral.readout_offset import ReadoutOffset
from behavioral.variation import vary
from circuits import batch
from circuits.netlist import readout_models
from system.calibration import RangeRecorder
from system.hardware import Chip, Hardware
from system.linear import AnalogLinear
from system.quantization import Mapping
from tests.behavioral.standin import make_library
from tests.behavioral.test_variation import with_mismatch

SIGMA_V = 4.8e-3
G = np.geomspace(1e-8, 3.75e-4, 6)


@pytest.fixture(scope="module")
def library():
    """Give a stand-in amplifiers with offsets, and cells without mismatch."""
    made = with_mismatch(make_library(), scale=0.0)
    readout = dataclasses.replace(made.readout, amplifier_offset_sigma_v=SIGMA_V)
    crossbar = dataclasses.replace(made.crossbar, mismatch_g=G, mismatch_parts=np.zeros((6, 4, 2)))
    return dataclasses.replace(made, readout=readout, crossbar=crossbar)


def data_line(technology, g, offsets, offset_sum):
    """Return the data line [V] in ngspice: one cell of 0.1 V on either line, error pair at rest.

    An offset moves a stage's reference. That of the summing stage stands at its input, where the
    reference of the whole stage reaches it through a divider.
    """
    readout, v_cm = technology.readout, technology.column.v_cm_v
    span = readout.v_dl_hi_v - readout.v_dl_lo_v
    gain = span / (readout.i_full_scale_a * readout.r_feedback_ohm)
    divider = gain * (1 + 1 / readout.error_scale + 1 / gain)
    reference = (readout.v_dl_lo_v + readout.v_dl_hi_v) / 2 + divider * offset_sum
    text = f"""data line
{readout_models(technology)}
vrow row 0 {v_cm + 0.1!r}
vcm cm 0 {v_cm!r}
vrp rp 0 {float(v_cm + offsets[0])!r}
vrn rn 0 {float(v_cm + offsets[1])!r}
vref ref 0 {float(reference)!r}
r1 row p {float(1 / g[0])!r}
r2 row n {float(1 / g[1])!r}
xp p op rp tia
xn n on rn tia
xs op on cm cm dl ref summing
.options gmin=1e-15 reltol=1e-6
.op
.end
"""
    return batch.simulate(text, ["v(dl)"])["v(dl)"][-1]


@pytest.mark.ngspice
def test_a_column_is_off_by_what_ngspice_says():
    """Amplifiers have a gain of 1,000: 1 %; the error pair's 1/64 of a sum is left out: 2 %."""
    technology = make_library().technology
    v_read, span = 0.2, 150e-6
    readout = technology.readout
    offset = ReadoutOffset(SIGMA_V / v_read, v_read, 1 / (readout.r_feedback_ohm * span))
    g = np.array([3e-3, 1e-3])
    pair = [np.full((1, 1), x / span, np.float32) for x in g]
    group = SimpleNamespace(effective=pair[0], pair=pair)
    ohmic = SimpleNamespace(transfer=np.ones_like)
    y = offset.of_stages(group, ohmic, np.float32(1), (5,), 0)[0]
    draws = SIGMA_V * normal(stream_key((5, 0), "offset/stage"), (2, 1))[:, 0]
    v_line = readout.v_dl_hi_v - readout.v_dl_lo_v
    per_y = v_line / readout.i_full_scale_a * v_read * span  # of the stage as it is sized
    still = data_line(technology, g, (0, 0), 0)
    assert data_line(technology, g, draws, 0) - still == pytest.approx(y * per_y, rel=0.01)
    total = offset.of_sums(np.full(1, v_line / per_y), v_line, (5,))[0]
    one = SIGMA_V * normal(stream_key((5,), "offset/sum"), 1)[0]
    assert data_line(technology, g, (0, 0), one) - still == pytest.approx(total * per_y, rel=0.02)


def test_only_the_open_case_of_real_amplifiers_draws(library):
    assert CrossbarModel(vary(library, "open")).readout_offset is not None
    for other in (library, vary(library), vary(library, "trimmed")):
        assert CrossbarModel(other).readout_offset is None
    model = dataclasses.replace(library.readout, amplifier_offset_sigma_v=np.nan)
    assert (
        CrossbarModel(vary(dataclasses.replace(library, readout=model), "open")).readout_offset
        is None
    )


def test_columns_draw_their_own_and_heavy_ones_more(library):
    """Lines of 200 cells at 30 uS against empty ones: 6 mS beside 2 mS of the feedback."""
    model, found = CrossbarModel(vary(library, "open")), []
    for w in (0.2, 0.0):
        weights = np.full((200, 1200), w, np.float32)
        weights[:, 1::2] *= -1.0
        array = model.program(weights, seed=3, noise="none", slices=1, correction="none")
        found.append(array.offset)
    sigma = SIGMA_V / 0.2 * 2e-3 / model.span
    assert found[1].std() == pytest.approx(np.sqrt(2) * sigma, rel=0.1)
    assert 2 < found[0].std() / found[1].std() < 4
    assert np.unique(found[1]).size > 1150
    assert np.array_equal(array.offset, found[1])


RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(20, 300)).astype(np.float32)
X = RNG.normal(size=(30, 300)).astype(np.float32)


def layer(library, mapping):
    recorder = RangeRecorder({"l.weight": WEIGHT}, mapping, 256)
    recorder.linear("l", X)
    hardware = Hardware(library, mapping)
    return AnalogLinear("l", WEIGHT, None, None, recorder.ranges, hardware, Chip(3, 0, "none"))


@pytest.mark.parametrize(
    "mapping", [Mapping(), Mapping(partial_sums="digital"), Mapping(output_fine=1.0)]
)
def test_outputs_of_a_layer_are_off_by_a_constant_per_column(mapping, library):
    """Each column's mean error is far above what rounding of codes (1/256) leaves around it."""
    exact = X @ WEIGHT.T
    plain = layer(library, mapping).forward(X) - exact
    wrong = layer(vary(library, "open"), mapping)
    off = wrong.forward(X) - exact - plain
    assert np.abs(np.median(off, axis=0)).mean() > 3 * np.abs(np.median(plain, axis=0)).mean()
    again = AnalogLinear.from_state(wrong.state(), wrong.hardware, wrong.chip)
    assert np.array_equal(again.forward(X), wrong.forward(X))


def test_a_layer_that_is_trimmed_by_measurement_has_none(library):
    mapping = Mapping(output_trim=True)
    assert np.array_equal(
        layer(library, mapping).forward(X), layer(vary(library, "open"), mapping).forward(X)
    )

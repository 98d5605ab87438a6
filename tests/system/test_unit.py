"""A whole ACAM unit in ngspice against the behavioural model; `nldpe acam` and `nldpe size`."""

import numpy as np
import pytest

from behavioral.acam import AcamModel
from behavioral.library import Library
from circuits import sizing
from circuits.errors import ParameterError
from circuits.parameters import Technology
from system.commands.main import main
from system.commands.size import line_range
from system.validation import unit


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.mark.ngspice
def test_unit_of_three_bits_gives_the_models_codes(library, spice_cache):
    """Inputs further than 0.6 LSB of 1/256 from an edge, where the sense amplifier has no say."""
    report = unit.check_unit(library, bits=3, inputs=6, seed=3, cache=spice_cache)
    far = report.edge_lsb > unit.NEAR_LSB
    assert far.sum() >= 5
    np.testing.assert_array_equal(report.spice[far], report.model[far])
    assert len(set(report.model)) >= 5
    # each part within 5 % of the whole; 3 % together: rows near their bounds discharge half
    whole = report.energy_j.sum(axis=1).mean()
    told, found = (x.mean(axis=0) for x in (report.predicted_j, report.energy_j))
    np.testing.assert_allclose(told, found, rtol=0, atol=0.05 * whole)
    assert told.sum() == pytest.approx(whole, rel=0.03)
    assert len(report.table().splitlines()) == 7
    assert "codes equal to the model's" in report.text()


@pytest.mark.ngspice
def test_noisy_unit_of_a_bent_function_gives_the_models_codes(library, spice_cache):
    report = unit.check_unit(
        library, function="tanh", bits=2, inputs=4, seed=1, noise=True, cache=spice_cache
    )
    far = report.edge_lsb > unit.NEAR_LSB
    np.testing.assert_array_equal(report.spice[far], report.model[far])


def test_edges_of_the_identity_lie_between_its_codes(library):
    """Three bits: edges at (k + 1/2) / 7; the float32 bounds of noise-free cells err by 1e-4."""
    programmed = unit.program(AcamModel.from_library(library), "identity", 3)
    at = (np.arange(7) + 0.5) / 7
    np.testing.assert_allclose(unit.edge_distance(programmed, at), 0, atol=1e-4)
    np.testing.assert_allclose(
        unit.edge_distance(programmed, np.array([0.5 + 1 / 14])), 1 / 14, 2e-3
    )


@pytest.mark.parametrize(("function", "bits"), [("sinus", 8), ("relu", 9)])
def test_unknown_function_and_too_many_bits_are_refused(library, function, bits):
    with pytest.raises(ParameterError, match=r"is not known|1 to 8 bits"):
        unit.program(AcamModel.from_library(library), function, bits)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["acam", "unit", "--library", "none.h5"], "there is no library"),
        (["size", "acam", "--target", "1,2"], "give published, or three numbers"),
        (["size", "acam", "--target", "1,2,x"], "--target"),
        (["size", "acam", "--g-range", "1u,1n"], "lower first"),
        (["size", "acam", "--energy-j", "0"], "more than 0 J"),
        (["size", "acam", "--evaluations", "5"], "20 or more"),
        (["size", "acam", "--out", "no/such/cell.toml"], "does not exist"),
        (["size", "acam", "--technology", "lp61"], "lp16"),
    ],
)
def test_bad_input_ends_in_a_message(arguments, told, capsys):
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


def test_bounds_without_a_common_voltage_are_refused():
    assert line_range(np.array([[0.5, 1.0], [0.6, 1.1]])) == (0.6, 1.0)
    with pytest.raises(ParameterError, match="share no data-line voltage"):
        line_range(np.array([[0.5, 0.6], [0.7, 0.8]]))


@pytest.mark.ngspice
def test_size_writes_a_technology_that_can_be_read(tmp_path, monkeypatch, capsys, spice_cache):
    """With the first candidate in place of the optimiser, which has tests of its own."""

    def first(device, technology, target, **_):
        return sizing.evaluate(device, technology, target, cache=spice_cache)

    monkeypatch.setattr(sizing, "size_cell", first)
    out = tmp_path / "mine.toml"
    assert main(["size", "acam", "--g-range", "5u,150u", "--out", str(out)]) == 0
    sized = Technology.from_toml(out)
    assert sized.name == "mine"
    assert sized.readout.v_dl_lo_v < sized.readout.v_dl_hi_v
    assert "mV rms" in capsys.readouterr().out

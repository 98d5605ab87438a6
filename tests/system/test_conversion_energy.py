"""Energy of whole ACAM conversions against loops over rows and lines; figures are made up."""

from dataclasses import replace

import numpy as np
import pytest

from behavioral.variation import acam_model
from behavioral.windows import Windows
from circuits.errors import SimulationError
from circuits.unit_energy import UnitEnergy
from system.cost import report, study
from system.cost.chip import Chip
from system.cost.components import Components
from system.cost.conversion import ConversionEnergy
from system.quantization import Mapping
from tests.behavioral.standin import make_library
from tests.system.test_cost_model import WORKLOADS, made_up_figures

UNIT = UnitEnergy(
    match_line_j=np.array([0.0, 4.0, 6.0]),
    sense_j=np.array([3.0, 2.0, 1.0]),
    clock_j=np.array([20.0, 10.0]),
    or_line_j=np.array([[1.0, 0.1], [5.0, 0.2]]),
    gate_j=7.0,
    cycle_s=1e-9,
    rows_per_or_line=16,
)


@pytest.fixture(scope="module")
def library():
    """One joule for each cell and search, whatever it holds."""
    library = make_library()
    ones = np.ones((2, 2))
    acam = replace(
        library.acam, energy_g=np.array([1e-9, 2e-4]), energy_v_dl=np.array([0.4, 1.2]),
        energy_lower_j=ones, energy_upper_j=ones, energy_match_line_j=np.array([0.5, 2.0]),
    )  # fmt: skip
    return replace(library, acam=acam)


def identity(library, spare_rows=0, bits=8):
    model = acam_model(library, spare_rows)
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), (0.0, 1.0), bits=bits)
    lo, hi = windows.on_data_line()
    return model, model.program(lo, hi, windows.bit, bits, keep_conductances=True)


def by_hand(unit, u):
    """Add up all rows and OR lines of an 8-bit identity."""
    lines, sense, logic, clocks = 0.0, 0.0, 7 * UNIT.gate_j, len(unit.bit) * UNIT.clock_j[1]
    state = [
        1 if a >= u else 2 if b <= u else 0 for a, b in zip(unit.lo[0], unit.hi[0], strict=True)
    ]
    for k in state:
        lines += UNIT.match_line_j[k]
        sense += UNIT.sense_j[k]
    for bit in range(8):
        rows = [k == 0 for k, b in zip(state, unit.bit, strict=True) if b == bit]
        parts = [rows[i : i + 16] for i in range(0, len(rows), 16)]
        if len(parts) > 1:
            parts.append([any(p) for p in parts])
        for part in parts:
            constant, slope = UNIT.or_line_j[int(any(part))]
            logic += constant + slope * len(part)
            clocks += UNIT.clock_j[0]
    # two halves a row, and 1 ns where a search takes 500 ps
    return 2 * 2 * len(unit.bit), lines, sense, logic, clocks


@pytest.mark.parametrize("u", [0.0, 0.2503, 0.61, 1.0])
def test_a_conversion_is_the_sum_of_its_rows_lines_and_gates(library, u):
    """Bit 0 has 64 rows: four OR lines and one that joins them."""
    model, unit = identity(library)
    found = ConversionEnergy(library, model, UNIT)
    assert found.parts(unit, 0, np.array([u]))[0] == pytest.approx(by_hand(unit, u), rel=1e-12)
    assert found.column(unit, 0, np.array([u]))[0] == pytest.approx(sum(by_hand(unit, u)))


def test_without_the_unit_cells_and_match_lines_are_counted_alone(library):
    model, unit = identity(library)
    found = ConversionEnergy(library, model).parts(unit, 0, np.array([0.3]))[0]
    rows, lines = len(unit.bit), 2 * len(unit.bit)
    fallen = rows - np.sum((unit.lo[0] < 0.3) & (unit.hi[0] > 0.3))
    assert found == pytest.approx([2 * rows, 2.0 * fallen + 0.5 * (lines - fallen), 0, 0, 0])


def test_spare_rows_take_energy_and_area(library):
    """Two rows for each of 8 bits: their cells, fallen lines, amplifiers, clocks."""
    u = np.array([0.2503])
    (model, unit), (spared, same) = identity(library), identity(library, 2)
    plain = ConversionEnergy(library, model, UNIT).parts(unit, 0, u)[0]
    more = ConversionEnergy(library, spared, UNIT).parts(same, 0, u)[0]
    assert (more - plain)[[0, 1, 2]] == pytest.approx([16 * 2 * 2, 16 * 6.0, 16 * 1.0])
    # 2, 4, 8, 16, 32 and 64 rows of a bit make lines of 16: the last three bits need one more each
    assert (more - plain)[4] == pytest.approx(16 * 10.0 + (1 + 1 + 2) * 20.0)
    areas = [
        Chip.from_components(Components.from_toml(), library, Mapping(spare_rows=n)).core_areas()
        for n in (0, 2)
    ]
    assert areas[1].pop("acam") == pytest.approx(areas[0].pop("acam") * (130 + 16) / 130)
    assert areas[0] == areas[1]


def test_units_that_do_more_take_more_time_and_no_decoder_of_the_table(library):
    components, figures = Components.from_toml(), made_up_figures()
    bare, whole = (
        study.assemble("made up", library, components, f, WORKLOADS)
        for f in (figures, replace(figures, unit=UNIT))
    )
    assert bare.machine.conversion_time == pytest.approx(500e-12)
    assert whole.machine.conversion_time == UNIT.cycle_s
    assert whole.ours[0].energies["gray decoder"] == 0.0 < bare.ours[0].energies["gray decoder"]
    assert whole.ours[0].time_s > bare.ours[0].time_s
    told = [" ".join(report.not_counted(x)) for x in (bare, whole)]
    assert "sense amplifiers" in told[0]
    assert "sense amplifiers" not in told[1]


def test_a_unit_that_cannot_be_simulated_is_left_out_with_the_reason(library, monkeypatch):
    def missing(*_, **__):
        raise SimulationError("ngspice is not installed")

    monkeypatch.setattr("circuits.unit_energy.measure", missing)
    assert study.whole_unit(library) == (None, "ngspice is not installed")
    longer = replace(library.technology, unit=replace(library.technology.unit, l_m=1e-9))
    monkeypatch.undo()
    unit, reason = study.whole_unit(replace(library, technology=longer))
    assert unit is None
    assert "section [unit]" in reason
    found = study.assemble(
        "made up", library, Components.from_toml(), made_up_figures(), WORKLOADS,
        unit_missing=reason,
    )  # fmt: skip
    assert reason in report.to_text(found)

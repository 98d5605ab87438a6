"""A user's own library: sections, includes, and messages when they are wrong."""

from dataclasses import replace

import pytest

from circuits import crossbar
from circuits.errors import ParameterError
from circuits.netlist import cards_text
from circuits.parameters import load_parameters

DEVICE, TECHNOLOGY = load_parameters("taox", "lp16", ["rows=2"])


@pytest.fixture
def library(tmp_path):
    text = TECHNOLOGY.cards_path().read_text()
    (tmp_path / "models.inc").write_text(text)
    path = tmp_path / "own.lib"
    path.write_text("* corners\n.lib tt\n.include models.inc\n.endl tt\n.lib ss\n.endl ss\n")
    return path


def with_cards(**changes):
    return replace(TECHNOLOGY, cards=replace(TECHNOLOGY.cards, **changes))


@pytest.mark.ngspice
def test_section_of_a_library_gives_the_same_currents_as_the_inlined_cards(library, spice_cache):
    own = with_cards(file=str(library), section="tt")
    a, b = (
        crossbar.replay(DEVICE, t, [[1e-5, 1e-4]], [[0.1, 0.2]], cache=spice_cache)
        for t in (TECHNOLOGY, own)
    )
    assert a[0, 0] == b[0, 0] > 0


def test_an_edited_include_changes_the_netlist(library):
    own = with_cards(file=str(library), section="tt")
    before = cards_text(own)
    with (library.parent / "models.inc").open("a") as file:
        file.write("* edited\n")
    assert cards_text(own) != before


def test_unknown_section_names_the_ones_there_are(library):
    with pytest.raises(ParameterError, match="no section 'ff'; it has: tt, ss"):
        cards_text(with_cards(file=str(library), section="ff"))


def test_unknown_model_names_the_ones_there_are():
    with pytest.raises(ParameterError, match=r"cards.nmos = 'nch' is not a model.*n16lp, p16lp"):
        cards_text(with_cards(nmos="nch"))


@pytest.mark.ngspice
def test_temperature_reaches_the_transistors(spice_cache):
    """Hot transistors lose mobility: less current through a cell that they limit."""
    currents = [
        crossbar.replay(
            DEVICE,
            replace(TECHNOLOGY, temperature_c=t),
            [[1.5e-4] * 2],
            [[0.2] * 2],
            cache=spice_cache,
        )[0, 0]
        for t in (27.0, 85.0)
    ]
    assert currents[1] < currents[0] * 0.999

"""Malformed lines that ngspice 39 accepts without a word, and well-formed ones that must pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits import batch
from circuits.session import LoadError
from circuits.syntax import find_faults, logical_lines

SUBCIRCUIT = ".subckt cell a b g=1u k=2\nr1 a b {1 / g}\n.ends\n"
SILENT = {
    "r1 a": "two nodes and a value",
    "r1 a 1k": "two nodes and a value",
    "r1 a 0": "two nodes and a value are needed, for example r1 a b 1k",
    "c1 a 0": "two nodes and a value",
    "l1 a 0": "two nodes and a value",
    "i1 a 0": "for example i1 a b 0",
    "v2 b 0": "for example v2 a b 0",
    "r1 a 0 1k 2k": "two values, 1k and 2k",
    "x1 a 0 cell gg=2u": "cell has no parameter gg; nearest: g",
    ".param q": "name=value",
}
WELL_FORMED = [
    "r1 a 0 1k",
    "r1 a 0 r={1 / 3}",
    "R1 a 0 rmod w = 1u l=2u",
    "c1 a 0 {c_wire} ic=0",
    "v1 a 0 pwl(0 0 1n 1)",
    "v1 a 0 dc 1 ac 1",
    "x1 a 0 cell g = {2 * 1u} m=3",
    "x1 a 0 cell",
    "x1 a 0 elsewhere anything=3",
    ".param q=3 r = {q + 1}",
    "b1 a 0 i={1u} * v(a)",
]


@pytest.mark.parametrize("line", SILENT)
def test_what_ngspice_would_silently_replace_is_named(line):
    (fault,) = find_faults(f"title\n{SUBCIRCUIT}{line}\n.op\n.end\n")
    assert fault.startswith(repr(line))
    assert SILENT[line] in fault


@pytest.mark.parametrize("line", WELL_FORMED)
def test_well_formed_lines_pass(line):
    assert find_faults(f"title\n{SUBCIRCUIT}{line} $ r1 a\n.op\n.end\n") == []


def test_comments_control_blocks_and_what_follows_the_end_are_no_lines():
    text = "r1 a\n* c\nr1 a\n+ 0\n\n+ 1k ; r2\n.control\nr3 a\n.endc\n.end\nr4 a\n"
    assert [line.split() for line in logical_lines(text)] == [["r1", "a", "0", "1k"]]


@given(st.text(alphabet="rcvixm.subcktp ={}'+*$;\n01a(", max_size=120))
def test_any_text_is_judged_without_an_exception(text):
    assert all(isinstance(fault, str) for fault in find_faults(text))


@pytest.mark.ngspice
def test_both_simulators_refuse_before_ngspice_guesses():
    """Left alone, ngspice 39 takes 1 mohm for the missing value and prints v(b) = 1."""
    with pytest.raises(LoadError, match="two nodes and a value"):
        batch.simulate("t\nv1 a 0 1\nr1 a b\nr2 b 0 1k\n.op\n.end\n", ["v(b)"])

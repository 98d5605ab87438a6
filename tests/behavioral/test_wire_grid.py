"""Arrays with wires in both directions against badcrossbar, ngspice and one another."""

import subprocess
import warnings

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavioral.kernels import ladder
from behavioral.wire_grid import WireGrid, effective_matrix, node_resistance
from circuits.errors import ParameterError
from tests import naive

NO_JIT = bool(numba.config.DISABLE_JIT)
# README of badcrossbar 1.1.0 (Joksas and Mehonic, SoftwareX 12, 2020): volts, ohms
VOLTS = np.array([[1.5, 4.1, 2.6, 2.1], [2.3, 4.5, 1.1, 0.8], [1.7, 4.0, 3.3, 1.1]]).T
OHMS = np.array(
    [[345, 903, 755, 257, 646], [652, 401, 508, 166, 454], [442, 874, 190, 244, 635]], float
)


def cells(rows, cols, seed=0):
    """Conductances between 1 and 150 uS [S]."""
    return np.random.default_rng(seed).uniform(1e-6, 1.5e-4, (rows, cols))


def test_published_example_of_badcrossbar():
    """Its README: 0.00986 A through the device of row 0, column 3 at the third set of voltages."""
    found = WireGrid(1 / OHMS, 0.5, 0.5, 0.5).solve(VOLTS)
    current = (found.row - found.line)[2, 0, 3] / OHMS[0, 3]
    assert current == pytest.approx(0.00986, abs=5e-6)


@pytest.mark.parametrize(
    ("shape", "r_row", "r"), [((3, 5), 0.5, 0.5), ((32, 24), 1.0, 3.0), ((8, 6), 0.0, 1.0)]
)
def test_exact_solution_equals_badcrossbar(shape, r_row, r):
    """Output currents to 1e-9; it closes a bit line with one more segment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it cannot draw without cairo
        import badcrossbar

        g, v = cells(*shape), np.random.default_rng(1).uniform(-0.2, 0.2, (4, shape[0]))
        theirs = badcrossbar.compute(v.T, 1 / g, r_i_word_line=r_row, r_i_bit_line=r)
    ours = WireGrid(g, r_row, r, r).solve(v)
    np.testing.assert_allclose(ours.output, theirs.currents.output, rtol=1e-9)
    np.testing.assert_allclose(ours.row.transpose(1, 2, 0), theirs.voltages.word_line, rtol=1e-9)
    np.testing.assert_allclose(v @ effective_matrix(g, r_row, r, r), ours.output, rtol=1e-9)


@pytest.mark.ngspice
def test_exact_solution_equals_ngspice(tmp_path):
    """Five digits are printed beside the exponent: rtol 1e-5."""
    g, v, (r_row, r, r_end) = cells(4, 3), [0.1, -0.2, 0.05, 0.2], (20.0, 30.0, 45.0)
    lines = ["two dimensions", *(f"v{i} r{i}_0 0 {x}" for i, x in enumerate(v))]
    for i, c in np.ndindex(4, 3):
        below = f"b{i + 1}_{c}" if i < 3 else f"s{c}"
        lines += [
            f"rr{i}_{c} r{i}_{c} r{i}_{c + 1} {r_row}",
            f"rc{i}_{c} r{i}_{c + 1} b{i}_{c} {float(1 / g[i, c])!r}",
            f"rb{i}_{c} b{i}_{c} {below} {r if i < 3 else r_end}",
        ]
    outputs = [f"vs{c} s{c} 0 0" for c in range(3)]
    prints = [f"print i(vs{c})" for c in range(3)]
    lines += [*outputs, ".control", "op", *prints, "quit", ".endc", ".end"]
    netlist = tmp_path / "grid.cir"
    netlist.write_text("\n".join(lines) + "\n")
    run = subprocess.run(["ngspice", "-b", netlist], capture_output=True, text=True)
    found = [float(x.split("=")[1]) for x in run.stdout.splitlines() if x.startswith("i(vs")]
    exact = WireGrid(g, r_row, r, r_end).solve(v).output[0]
    np.testing.assert_allclose(found, exact, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    wires=st.tuples(*[st.sampled_from([0.0, 1e-3, 1.0, 500.0])] * 3),
    seed=st.integers(0, 1000),
)
def test_effective_matrix_equals_the_exact_solution(rows, cols, wires, seed):
    g = cells(rows, cols, seed)
    exact = WireGrid(g, *wires).solve(np.eye(rows)).output
    np.testing.assert_allclose(effective_matrix(g, *wires), exact, rtol=1e-9, atol=1e-15)


@pytest.mark.slow
@pytest.mark.skipif(NO_JIT, reason="some seconds; no kernel takes part")
def test_effective_matrix_at_full_size():
    """256 x 256, 1 ohm a cell both ways, one input: equal to the sparse solution to 1e-10."""
    g, x = cells(256, 256), np.random.default_rng(2).uniform(-1, 1, (1, 256))
    exact = WireGrid(g, 1.0, 1.0, 1.5).solve(x).output
    error = x @ effective_matrix(g, 1.0, 1.0, 1.5) - exact
    assert np.abs(error).max() < 1e-10 * np.abs(exact).max()


def test_without_row_resistance_it_is_a_ladder():
    """The kernel of the columns is float32: rtol 1e-6."""
    g = cells(40, 7).astype(np.float32) / np.float32(1.5e-4)
    z = np.empty_like(g)
    ladder.transfer_profile(g, 1e-3, 2e-3, z)
    np.testing.assert_allclose(effective_matrix(g, 0.0, 1e-3, 2e-3), g * z, rtol=1e-6)


def test_resistance_of_a_node_is_that_of_the_dense_network():
    """Diagonal of the inverse of ladder and cells together; both are float64."""
    g = cells(9, 2) / 1.5e-4
    found = node_resistance(g, 0.01, 0.03)
    for c in range(2):
        inverse = np.linalg.inv(
            np.linalg.inv(naive.ladder_matrix(9, 0.01, 0.03)) + np.diag(g[:, c])
        )
        np.testing.assert_allclose(found[:, c], np.diag(inverse), rtol=1e-9)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_arrays_are_accepted(shape):
    assert effective_matrix(np.zeros(shape), 1.0, 1.0, 1.0).shape == shape
    assert WireGrid(np.zeros(shape), 1.0, 1.0, 1.0).solve(np.zeros((2, shape[0]))).output.shape == (
        2,
        shape[1],
    )


@pytest.mark.parametrize(
    ("g", "wires"),
    [(-cells(2, 2), (1, 1, 1)), (cells(2, 2) * np.nan, (1, 1, 1)), (cells(2, 2), (-1, 1, 1))],
)
def test_impossible_arrays_are_refused(g, wires):
    with pytest.raises(ParameterError, match="must be finite and not negative"):
        WireGrid(g, *wires)


def test_inputs_of_another_height_are_refused():
    with pytest.raises(ParameterError, match=r"must be \(samples, 2\)"):
        WireGrid(cells(2, 2), 1, 1, 1).solve(np.zeros((1, 3)))

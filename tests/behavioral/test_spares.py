"""Spare rows: windows move from rows with a stuck device to intact rows of the same bit."""

from dataclasses import replace

import numpy as np
import pytest

from behavioral.spares import UNUSED, add_spares, take_over
from behavioral.variation import acam_model
from behavioral.windows import Windows
from tests.behavioral.standin import make_library


def identity(columns: int, spares: int):
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), (0.0, 1.0))
    lo, hi = windows.on_data_line()
    return add_spares(lo, hi, windows.bit, 8, spares, columns)


def test_a_stuck_row_moves_to_a_spare_of_its_bit():
    lo, hi, bit = identity(1, 1)
    row = int(np.flatnonzero(bit == 3)[0])
    wanted = lo[0, row], hi[0, row]
    stuck = np.zeros((1, bit.size, 2), bool)
    stuck[0, row, 0] = True
    assert take_over(lo, hi, bit, stuck) == 0
    spare = int(np.flatnonzero(bit == 3)[-1])
    assert (lo[0, spare], hi[0, spare]) == wanted
    assert (lo[0, row], hi[0, row]) == UNUSED


def test_an_open_branch_needs_no_device():
    lo, hi, bit = identity(1, 1)
    top = int(np.flatnonzero(bit == 7)[0])  # open above
    stuck = np.zeros((1, bit.size, 2), bool)
    stuck[0, top, 1] = True
    before = lo.copy()
    assert take_over(lo, hi, bit, stuck) == 0
    np.testing.assert_array_equal(lo, before)


@pytest.mark.parametrize("spares", [1, 2])
def test_the_dead_rows_that_are_left_are_counted(spares):
    """The slow twin counts, for each bit, stuck rows beyond the intact spares."""
    lo, hi, bit = identity(50, spares)
    stuck = np.random.default_rng(3).random((50, bit.size, 2)) < 0.02
    needs = np.stack([(lo > 0) & (lo < 1), (hi < 1) & (lo < 1)], axis=-1)
    lost = (stuck & needs).any(axis=2)
    free = (lo >= 1) & ~stuck.any(axis=2)  # a spare with one stuck device may still serve an end
    most = sum(
        np.maximum(lost[:, bit == b].sum(1) - free[:, bit == b].sum(1), 0).sum() for b in range(8)
    )
    least = sum(np.maximum(lost[:, bit == b].sum(1) - spares, 0).sum() for b in range(8))
    assert least <= take_over(lo, hi, bit, stuck) <= most


def test_spares_win_back_what_stuck_devices_cost():
    """Ideal but for 1 % of stuck devices: the root mean square error of codes, in LSB."""
    library = make_library()
    stuck = replace(library, device=replace(library.device, stuck_off_rate=0.01))
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), (0.0, 1.0))
    lo, hi = windows.on_data_line()
    u = np.linspace(0.01, 0.99, 200, dtype=np.float32)[:, None].repeat(300, 1)
    errors = []
    for spares in (0, 2):
        model = acam_model(stuck, spares)
        unit = model.program(lo, hi, windows.bit, 8, columns=300, noise=1e-6)
        codes = model.convert(unit, u)[0].astype(float)
        errors.append(np.sqrt(np.mean((codes - np.floor(255 * u + 0.5)) ** 2)))
    assert errors[1] < 0.1 * errors[0]

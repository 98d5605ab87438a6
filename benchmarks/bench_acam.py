"""ACAM conversions of noisy units against two plain ways to evaluate the same windows."""

import numpy as np
import pytest

from behavioral.acam import AcamModel, Windows

COLUMNS, BATCH = 64, 512


@pytest.fixture(scope="module")
def unit_and_inputs(library):
    """Return a noisy identity unit per column, all of 128 rows, and positions on its line."""
    model = AcamModel.from_library(library)
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), (0.0, 1.0), bits=8)
    lo, hi = windows.on_data_line()
    unit = model.program(lo, hi, windows.bit, 8, columns=COLUMNS)
    u = np.random.default_rng(0).uniform(0, 1, (BATCH, COLUMNS)).astype(np.float32)
    return model, unit, u


def row_by_row(unit, u):
    """Compare with every row, OR the rows of each bit, decode the Gray word."""
    word = np.zeros(u.shape, np.uint8)
    for row, bit in enumerate(unit.bit):
        match = (u > unit.lo[:, row]) & (u < unit.hi[:, row])
        word |= match.astype(np.uint8) << np.uint8(bit)
    for shift in (1, 2, 4):
        word ^= word >> np.uint8(shift)
    return word


def merged(unit):
    """Return each column's merged thresholds and the code between them."""
    tables = []
    for lo, hi in zip(unit.lo, unit.hi, strict=True):
        edges = np.unique(np.concatenate([lo, hi]))
        edges = edges[(edges > 0) & (edges < 1)]
        middles = (np.concatenate([[0], edges]) + np.concatenate([edges, [1]])) / 2
        one = type(unit)(
            columns=1, bits=8, gray=True, table=unit.table, bit=unit.bit, lo=lo[None], hi=hi[None]
        )
        tables.append((edges, row_by_row(one, middles[:, None].astype(np.float32))[:, 0]))
    return tables


def test_acam_against_row_by_row(compare, unit_and_inputs):
    """Convert a batch of all columns."""
    model, unit, u = unit_and_inputs
    equal = (model.convert(unit, u)[0] == row_by_row(unit, u)).mean()
    assert equal > 0.999  # where four edges fall into one cell, one goes
    compare(
        "ACAM 8 bit, own noise per column; 128 rows in numpy",
        lambda: model.convert(unit, u), lambda: row_by_row(unit, u), u.size, u.size, "conversions",
    )  # fmt: skip


def test_acam_against_searchsorted(compare, unit_and_inputs):
    """Convert a batch of all columns."""
    model, unit, u = unit_and_inputs
    tables = merged(unit)
    columns = np.ascontiguousarray(u.T)

    def sorted_search():
        return [
            code[np.searchsorted(edges, column)]
            for (edges, code), column in zip(tables, columns, strict=True)
        ]

    assert np.array_equal(np.array(sorted_search()).T, row_by_row(unit, u))
    compare(
        "ACAM 8 bit, own noise per column; numpy searchsorted",
        lambda: model.convert(unit, u), sorted_search, u.size, u.size, "conversions",
    )  # fmt: skip

"""Log and exp units of the cost model against rows counted by hand; cell energies are made up."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from behavioral.variation import acam_model
from system.cost.conversion import ConversionEnergy
from system.cost.products import measure_products
from system.quantization import Mapping
from tests.behavioral.standin import make_library


@pytest.fixture(scope="module")
def library():
    """Half a joule for each half of a cell and search, nothing for match lines."""
    library = make_library()
    halves = np.full((2, 2), 0.5)
    acam = replace(
        library.acam, energy_g=np.array([1e-9, 2e-4]), energy_v_dl=np.array([0.4, 1.2]),
        energy_lower_j=halves, energy_upper_j=halves, energy_match_line_j=np.zeros(2),
    )  # fmt: skip
    return replace(library, acam=acam)


def rows_by_hand(copies: int) -> float:
    """Runs of ones in each bit of the Gray words of 8-bit exp codes, 31 log steps an octave."""
    last = math.ceil(math.log(2 * copies * 255) / (math.log(2) / 31) + 1)
    rows = 0
    for i in range(copies):
        words = []
        for a in range(last + 1):
            code = math.floor(255 * 2 ** (-a / 31) + (i + 0.5) / copies)
            words.append(code ^ (code >> 1))
        for bit in range(8):
            line = [0, *((word >> bit) & 1 for word in words)]
            rows += sum(1 for a, b in itertools.pairwise(line) if b > a)
    return rows / copies


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_staggered_exp_units_are_counted_with_rows_of_their_own(library, copies):
    """A row of two halves takes a joule; the mean over units in parallel."""
    acam = acam_model(library, 0)
    rng = np.random.default_rng(2)
    operands = tuple(rng.normal(size=(20, 8)).astype(np.float32) for _ in "ab")
    found = measure_products(
        operands, (np.full(1, 4.0, np.float32),) * 2, Mapping(product_copies=copies),
        acam, ConversionEnergy(library, acam), seed=(3,),
    )  # fmt: skip
    assert found.exp_rows == rows_by_hand(copies)
    assert found.exp_j == pytest.approx(found.exp_rows, rel=1e-12)
    assert found.log_j == pytest.approx(found.log_rows, rel=1e-12)

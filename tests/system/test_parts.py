"""Parts of the analog model one at a time: off is exact, all on is the engine itself."""

import numpy as np
import pytest
from scipy.special import softmax

from behavioral.library import Library
from behavioral.products import ProductModel
from circuits.errors import ParameterError
from system.hardware import Chip
from system.inference import arithmetic
from system.models.ops import FloatOps
from system.parts import EVERYTHING, LINEAR, PARTS, ExactSoftmax, PartOps, Parts
from tests.system.tiny_llama import tiny_network

# A second range, input scales and smoothing, as SmolLM2 has them.
CHOICES = {
    "input_blocks": True, "smoothing": 0.65, "output_fine": 2.5, "line_start": 0.4,
    "ground_trim": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.fixture(scope="module")
def network(library):
    return tiny_network(library.technology.column.rows, **CHOICES)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(1).integers(0, 48, size=(1, 20))


def logits(network, ops, tokens):
    return network.model.forward(tokens, ops)[0]


@pytest.mark.ngspice
def test_everything_on_is_the_engine(network, library, tokens):
    """The engine adds row tiles in one product; sums differ by rounding of float32."""
    ops = PartOps(network, library, Chip(3))
    ops.switch.parts = EVERYTHING
    wanted = logits(network, arithmetic(network, library, "noisy", Chip(3)), tokens)
    np.testing.assert_allclose(logits(network, ops, tokens), wanted, rtol=0, atol=2e-5)


@pytest.mark.ngspice
def test_everything_off_is_float_bit_for_bit(network, library, tokens):
    wanted = logits(network, FloatOps(network.model.tensors), tokens)
    np.testing.assert_array_equal(
        logits(network, PartOps(network, library, Chip()), tokens), wanted
    )


@pytest.mark.ngspice
def test_every_part_moves_the_logits_a_little(network, library, tokens):
    """A part that is forgotten moves nothing; one that is wired wrongly moves them by much."""
    exact = logits(network, FloatOps(network.model.tensors), tokens)
    ops = PartOps(network, library, Chip(0, 0))
    for part in PARTS:
        ops.switch.parts = Parts.of([part])
        off = np.std(logits(network, ops, tokens) - exact) / np.std(exact)
        assert 1e-4 < off < 0.3, part


@pytest.mark.ngspice
def test_a_kind_leaves_other_layers_exact(network, library):
    ops = PartOps(network, library, Chip())
    ops.switch.parts = Parts.of(LINEAR, kind="down_proj")
    x = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    exact = FloatOps(network.model.tensors)
    name = "model.layers.0.self_attn.q_proj"
    np.testing.assert_array_equal(ops.linear(name, x), exact.linear(name, x))
    assert not ops.layers


@pytest.mark.parametrize("finer", [1, 4])
def test_an_exact_softmax_is_rounded_to_log_codes(finer):
    """Half a step of ln 2 / 31 at most: 1.12 %; scipy has the exact one."""
    units = ExactSoftmax.beside(ProductModel.program(None, copies=finer, finer=finer))
    scores = np.random.default_rng(1).normal(size=(2, 4, 9)).astype(np.float32)
    limit = np.array([1, 5, 9, 9])
    masked = np.where(np.arange(9) < limit[:, None], scores, -np.inf)
    found = units.decode(units.softmax(scores, limit=limit))
    np.testing.assert_allclose(found, softmax(masked, axis=-1), rtol=0.0113 / finer)


def test_an_unknown_part_is_refused():
    with pytest.raises(ParameterError, match="no part is called 'wires'; known: codes, crossbars"):
        Parts.of(["wires"])

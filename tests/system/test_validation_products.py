"""Log and exp units of products in ngspice, as an inference programmed and used them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from behavioral.library import Library
from behavioral.log_units import attenuations, signed
from circuits.errors import ParameterError
from system.hardware import Chip
from system.networks import Network, Samples
from system.quantization import Mapping
from system.validation.agreement import LayerReport, to_table, totals
from system.validation.injection import InjectedOps
from system.validation.point import reproduce
from system.validation.products import KINDS, recorded_levels, replay_products, units_of
from system.validation.sampling import Sampling, hardware_of, record
from tests.system.replayed import code_errors
from tests.system.tiny_llama import tiny_network

pytestmark = pytest.mark.ngspice
BLOCKS = "model.layers.0.self_attn", "model.layers.0.mlp.product"


class Tiny(Network):
    """The tiny network on tokens of its own vocabulary."""

    def samples(self, count):
        """Return windows of random tokens."""
        return Samples(np.random.default_rng(5).integers(0, 48, (count, 21)), None)


@pytest.fixture(scope="module")
def tiny(quick_library):
    network = tiny_network(256, product_copies=2, output_range="column")
    return Tiny(**vars(network)), Library.from_hdf5(quick_library)


@pytest.fixture(scope="module")
def ops(tiny):
    return record(*tiny, 1, Chip(0, 0, "frozen"), list(BLOCKS))


@pytest.mark.parametrize("name", BLOCKS)
def test_units_are_recorded_as_the_block_uses_them(name, ops):
    """The tables of the copies, added, are those of the products, entry for entry."""
    model = ops.product_model(name)
    tables = {
        k: [u.table.astype(np.int64) for i, _, u in units_of(ops, name) if i == k] for k in KINDS
    }
    logs = attenuations((sum(tables["log"]) + 1) // 2, 255, model.zero)
    np.testing.assert_array_equal(logs, model.logs)
    exps = signed(sum(tables["exp"])[:, ::-1], model.section, model.zero)
    np.testing.assert_array_equal(exps, model.exps)
    for kind, levels in recorded_levels(ops, name).items():
        assert levels.min() >= 0
        assert levels.max() < tables[kind][0].shape[1]


def test_log_units_are_told_from_exp_units_where_there_are_more_of_them():
    mapping = Mapping(product_copies=2, product_log_copies=3)
    ops = SimpleNamespace(product_units={"x": "abcde"}, hardware=SimpleNamespace(mapping=mapping))
    logs, exps = [("log", k, u) for k, u in enumerate("abc")], [("exp", 0, "d"), ("exp", 1, "e")]
    assert units_of(ops, "x") == logs + exps


def test_codes_of_log_and_exp_units_agree_with_ngspice(ops):
    """One search for each of four units, at recorded levels: windows lie midway between them."""
    found = replay_products(ops, BLOCKS[0], Sampling(searches=4), np.random.default_rng(1))
    assert [(c.unit, c.copy) for c in found] == [("log", 0), ("log", 1), ("exp", 0), ("exp", 1)]
    assert max(np.abs(c.differences).max() for c in found) <= 1
    assert all(np.array_equal(c.ours, c.searched) for c in found)


def test_a_wrong_exp_unit_is_found(ops):
    """All lower bounds of the second exp unit are programmed as the least conductance."""

    def replayed():
        return replay_products(ops, BLOCKS[1], Sampling(searches=4), np.random.default_rng(1))

    unit, right = units_of(ops, BLOCKS[1])[3][2], replayed()
    before = unit.g_lo.copy()
    try:
        unit.g_lo[unit.g_lo > 0] = ops.hardware.library.device.g_min_s
        wrong = replayed()
    finally:
        unit.g_lo[...] = before
    assert np.abs(wrong[3].differences).max() > 10
    for one, other in zip(right[:3], wrong[:3], strict=True):
        np.testing.assert_array_equal(one.spice, other.spice)


def test_a_conversion_of_a_product_replays_alone(tiny, ops, tmp_path):
    [*_, report] = replay_products(ops, BLOCKS[1], Sampling(searches=4), np.random.default_rng(1))
    at = {"column": int(report.chosen.column[0]), "stimulus": int(report.chosen.stimulus[0])}
    common = {"samples": 1, "layer": BLOCKS[1], **at, "copy": 1}
    alone = reproduce(*tiny, tmp_path, **common, unit="exp")
    assert (alone.point.ours, alone.point.spice) == (report.ours[0], report.spice[0])
    assert alone.point.options.endswith("--unit exp --copy 1")
    assert [p.suffix for p in alone.netlists] == [".cir"] * len(alone.netlists) != []
    with pytest.raises(ParameterError, match="give --unit log or exp"):
        reproduce(*tiny, tmp_path, **common)


def products_report(logs, exps):
    """Return a report of the attention block with given differences of both kinds of units."""
    found = zip(KINDS, (logs, exps), strict=True)
    codes = [
        dataclasses.replace(code_errors(d, [1.0] * len(d), ["natural"] * len(d), 0.0), unit=kind)
        for kind, d in found
    ]
    return LayerReport(BLOCKS[0], [], codes)


def injected(tiny, report, **choices):
    network, library = tiny
    network = dataclasses.replace(network, mapping=network.mapping.changed(choices))
    hardware = hardware_of(network, library)
    return InjectedOps(network.model.tensors, network.ranges, hardware, Chip(), reports=[report])


@pytest.mark.parametrize("logs", [0, 3])
def test_wrong_codes_of_exp_units_enter_their_tables(logs, tiny):
    """One of four codes of each copy is 3 too high: binomial, six sigma of 30,000 entries."""
    ops = injected(tiny, products_report([0], [3, 0, 0, 0]), product_log_copies=logs)
    plain = ops._units(BLOCKS[0])
    ops.start(0)
    wrong = ops._units(BLOCKS[0])
    np.testing.assert_array_equal(wrong.logs, plain.logs)
    used = plain.exps[:, : plain.section] > 6  # smaller codes end at 0
    change = (wrong.exps - plain.exps)[:, : plain.section][used]
    assert set(change.tolist()) == {0, -3, -6}
    assert np.mean(change) == pytest.approx(-1.5, abs=0.07)
    ops.start(None)
    np.testing.assert_array_equal(ops._units(BLOCKS[0]).exps, plain.exps)


def test_wrong_log_units_change_what_the_network_says_and_right_ones_do_not(tiny):
    network, _ = tiny
    tokens, found = network.samples(2).inputs, []
    for logs in ([0], [0], [40, -40]):
        ops = injected(tiny, products_report(logs, [0]))
        found.append(network.model.forward(tokens, ops))
        ops.start(0)
        found.append(network.model.forward(tokens, ops))
    for same in found[1:5]:
        np.testing.assert_array_equal(same, found[0])
    assert np.abs(found[5] - found[0]).max() > 1e-3


def test_a_block_of_products_has_codes_and_no_columns():
    codes = code_errors([0, 2, 0, 0], [0.4] * 4, ["natural"] * 4, 0.0)
    report = LayerReport("products", [], [codes])
    assert report.code_equal == 0.75
    assert totals([report])["column_max_lsb"] == 0.0
    assert to_table([report]).splitlines()[1].split()[1:6] == ["-", "-", "-", "-", "0.750"]

"""Tuned windows of all functions that a language model puts into ACAM units."""

import json

import numpy as np
import pytest

from behavioral.windows import Windows
from system.chip_store import ChipStore
from system.commands.main import main
from system.engine import make_ops
from system.hardware import Chip
from system.layer_spec import FUNCTIONS
from system.networks import Network, load_network
from system.training import published as published_networks
from system.training import windows
from system.training.functions import problems
from system.weights.acam_windows import TunedWindows, is_windows, place_one_of, write_windows
from system.weights.adapter import save_adapter
from system.weights.checkpoint import save_checkpoint
from tests.behavioral.standin import make_library
from tests.system.tiny_llama import CONFIG, tiny_network

ROWS = 256
MAPPING = {
    "output_range": "column", "output_fine": 2.5, "output_copies": 2, "product_copies": 2,
    "layers": {"*.self_attn": {"input_bits": 10, "product_log_copies": 4, "product_finer": 2}},
}  # fmt: skip
LOGS = {"acam.log.8-8.1x2", "acam.log.10-8.2x2"}
EXPS = {"acam.exp.31-8.2x1", "acam.exp.50-8.2x1"}
ATTENTION, GATE = "model.layers.0.self_attn", "model.layers.0.mlp.gate_proj"
NOISELESS = Chip(noise="none")


@pytest.fixture
def network(monkeypatch):
    tokens = np.random.default_rng(4).integers(0, CONFIG.vocab_size, (1, 24))
    monkeypatch.setattr(Network, "calibration_inputs", lambda self: tokens)
    return tiny_network(ROWS, **MAPPING)


def higher(problem, *_, **__) -> dict[str, TunedWindows]:
    """Return the windows of a problem, a twentieth of their range higher, in place of tuned."""
    found = {}
    for place in problem.placements:
        one = place.windows
        rows = (end + 0.05 * np.ptp(one.x_range) for end in (one.lo, one.hi))
        found[place.key] = TunedWindows(*rows, one.bit, one.x_range, one.y_range, 2.0, 1.0)
    return found


def shifted(network, wanted) -> dict:
    """Return the ranges of a network with windows that are higher where they are wanted."""
    ranges = dict(network.ranges)
    for problem in problems(network, ROWS):
        for key, tuned in higher(problem).items() if wanted(problem.name) else ():
            ranges |= tuned.to_ranges(key)
    return ranges


def test_every_function_is_tuned_and_those_that_are_equal_once(network):
    found = [problem.name for problem in problems(network, ROWS)]
    assert len(set(found)) == len(found)
    gates = {name for name in found if "gate_proj" in name}
    assert any(".acam.fine." in name for name in gates)
    assert any(".acam.fine." not in name for name in gates)
    assert set(found) - gates == {"acam.identity.8x2", *LOGS, *EXPS}


def test_the_codes_of_a_problem_are_those_of_its_units_without_noise(network):
    """Means over units in parallel that round at different places; all DAC levels."""
    library, rng = make_library(), np.random.default_rng(1)
    units = make_ops(network, library, "ideal-analog", NOISELESS)._units(ATTENTION)
    problem = next(p for p in problems(network, ROWS) if p.name == "acam.log.10-8.2x2")
    chosen = problem.columns(rng, 2)
    u = problem.inputs(rng, chosen, 100)
    level = np.rint(u * 1023).astype(int)
    wanted = units.logs[0][1023 - level]  # the line is inverted
    seen = wanted != units.zero
    assert seen.mean() > 0.8
    # attenuations in half codes, the mean of four units rounded to them
    found = 2 * (255 - problem.codes(problem.ends(chosen), u))
    np.testing.assert_allclose(found[seen], wanted[seen], rtol=0, atol=0.51)


@pytest.mark.parametrize("kind", ["log", "exp"])
def test_log_and_exp_units_are_programmed_with_their_own_windows(network, kind):
    """Five hundredths of the line: 51 of 1023 levels for logs; exps fall as far."""
    library = make_library()
    before = make_ops(network, library, "ideal-analog", NOISELESS)._units(ATTENTION)
    network.ranges.update(shifted(network, lambda name: name.startswith(f"acam.{kind}")))
    after = make_ops(network, library, "ideal-analog", NOISELESS)._units(ATTENTION)
    if kind == "log":  # thresholds higher on an inverted line: smaller magnitudes reach a code
        np.testing.assert_allclose(after.logs[0, 300:900], before.logs[0, 351:951], atol=2)
        np.testing.assert_array_equal(after.exps, before.exps)
    else:
        count = np.count_nonzero(before.exps[0, : before.zero])
        np.testing.assert_array_equal(after.logs, before.logs)
        assert after.exps[0, : count // 2].sum() < 0.9 * before.exps[0, : count // 2].sum()


def test_units_of_the_second_range_are_programmed_with_their_own_windows(network):
    library, layers = make_library(), []
    for ranges in (network.ranges, shifted(network, lambda name: ".acam.fine." in name)):
        network.ranges.update(ranges)
        layers.append(make_ops(network, library, "noisy", Chip()).layer(GATE, "silu"))
    np.testing.assert_array_equal(layers[0].units[0].table, layers[1].units[0].table)
    assert layers[1].fine_unit.table.mean() < layers[0].fine_unit.table.mean() - 2


def test_windows_follow_ranges_that_another_processor_rounds_in_another_way(network):
    """Columns change sets, and sets their numbers: bounds move as those of equal values did."""
    rng, library = np.random.default_rng(6), make_library()
    for key in (f"{GATE}.{part}" for part in ("y", "mean", "std")):
        changed = 1 + 1e-3 * rng.standard_normal(network.ranges[key].shape)
        network.ranges[key] = (network.ranges[key] * changed).astype(np.float32)
    exact = make_ops(network, library, "noisy", Chip()).layer(GATE, "silu")
    again = tiny_network(ROWS, **MAPPING)
    tuned = {k: v for k, v in shifted(again, lambda name: "gate" in name).items() if is_windows(k)}
    network.ranges.update(tuned)
    layer = make_ops(network, library, "noisy", Chip()).layer(GATE, "silu")
    assert any(
        place.windows.rows != tuned[place.key].shape[1]
        for spec in (layer.spec, layer.spec.fine) for place in spec.placements(8)
        if place.key in tuned
    )  # fmt: skip
    for before, after in ((exact.units[0], layer.units[0]), (exact.fine_unit, layer.fine_unit)):
        assert after.table.mean() < before.table.mean() - 2


def test_a_bound_that_is_new_or_of_other_values_stays_exact(caplog):
    """The old set ends at 0.5 on the right, at -5 on the left; every bound was moved by 0.01."""
    function = FUNCTIONS["gelu"]
    old, wide = (Windows.from_function(function, x, (-0.17, 0.7)) for x in ((-5, 0.5), (-6, 0.8)))
    ends = old.x_range, old.y_range, 2.0, 1.0
    kept = TunedWindows(old.lo + 0.01, old.hi + 0.01, old.bit, *ends).to_ranges("gate.acam.3")
    found = place_one_of(kept, "gate.acam.4", wide, function)
    for own, moved in ((wide.lo, found.lo), (wide.hi, found.hi)):
        inner = np.isfinite(own)
        np.testing.assert_allclose(moved[inner & (own < 0.45)], own[inner & (own < 0.45)] + 0.01)
        np.testing.assert_array_equal(moved[own > 0.55], own[own > 0.55])
    other = Windows.from_function(function, (-5, 0.5), (-0.17, 0.5))
    assert place_one_of(kept, "gate.acam.4", other, function) is other
    assert "has no windows for its values" in caplog.text


@pytest.mark.parametrize(("layer", "activation"), [(f"{ATTENTION}.q_proj", None), (GATE, "silu")])
def test_a_layer_with_tuned_windows_is_kept_under_another_name(
    network, tmp_path, layer, activation
):
    library = make_library()
    ops = make_ops(network, library, "noisy", Chip())
    ops.store = ChipStore(tmp_path)
    ops.layer(layer, activation)
    assert ChipStore(tmp_path).keeps(f"{layer}.{activation}", ops.decisive(layer))
    network.ranges.update(shifted(network, lambda name: True))
    tuned = make_ops(network, library, "noisy", Chip())
    assert not ChipStore(tmp_path).keeps(f"{layer}.{activation}", tuned.decisive(layer))


@pytest.fixture
def published(network, tmp_path):
    """A directory of weights without ranges, as others publish them."""
    config = {**CONFIG.to_dict(), "mapping": network.mapping.to_dict()}
    tensors = {name: network.model.tensors[name] for name in CONFIG.shapes()}
    save_checkpoint(tmp_path / "tiny", config, tensors)
    return tmp_path / "tiny"


@pytest.fixture
def tuned(published, quick_library, monkeypatch):
    """Its windows, all a twentieth of their range higher in place of tuned."""
    monkeypatch.setattr(windows, "tune", higher)
    command = ["finetune", str(published), "--steps", "acam", "--library", str(quick_library)]
    assert main([*command, "--out", str(published.parent)]) == 0
    return published.with_name("tiny-acam")


@pytest.mark.ngspice
def test_windows_of_published_weights_stand_beside_them(published, tuned):
    assert {p.name for p in tuned.iterdir()} == {"config.json", "acam.h5", "provenance.json"}
    assert json.loads((tuned / "config.json").read_text())["base"] == str(published)
    assert not tuned.with_name("tiny-acam.acam.training").exists()
    base, network = (load_network(str(place), tile_rows=ROWS) for place in (published, tuned))
    wanted = {p.key for problem in problems(base, ROWS) for p in problem.placements}
    assert {key for key in network.ranges if is_windows(key)} == {
        key + end for key in wanted for end in ("", ".range")
    }
    library = make_library()
    one, other = (make_ops(n, library, "ideal-analog", NOISELESS) for n in (base, network))
    tokens = np.arange(12)[None]
    assert np.abs(base.model.forward(tokens, one) - network.model.forward(tokens, other)).max() > 0


@pytest.mark.ngspice
def test_windows_for_other_ranges_are_left_out_and_it_is_said(tuned, monkeypatch, caplog):
    tokens = np.random.default_rng(5).integers(0, CONFIG.vocab_size, (1, 24))
    monkeypatch.setattr(Network, "calibration_inputs", lambda self: tokens)
    network = load_network(str(tuned), tile_rows=ROWS)
    assert not [key for key in network.ranges if is_windows(key)]
    assert "other ranges; not used" in caplog.text


@pytest.mark.ngspice
def test_an_adapter_and_its_windows_stand_in_one_directory(
    published, tuned, quick_library, monkeypatch, capsys
):
    place, layer = published.with_name("tiny-naf"), "model.layers.0.mlp.up_proj"
    config = {"model_type": "llama", "base": str(published), "adapter": {"rank": 2}}

    def train(*_, **__):
        pair = np.full((2, 32), 0.1, np.float32), np.full((64, 2), 0.1, np.float32)
        save_adapter(place, config, {layer: pair}, {})
        return place

    monkeypatch.setattr(published_networks, "train_adapter", train)
    command = ["finetune", str(published), "--steps", "naf,acam", "--library", str(quick_library)]
    assert main([*command, "--out", str(published.parent)]) == 0
    assert capsys.readouterr().out.strip() == f"{place}: written"
    assert json.loads((place / "config.json").read_text()) == config
    network = load_network(str(place), tile_rows=ROWS)
    assert any(map(is_windows, network.ranges))
    plain = load_network(str(published), tile_rows=None).model.tensors
    assert (network.model.tensors[f"{layer}.weight"] != plain[f"{layer}.weight"]).all()


@pytest.mark.parametrize("base", ["bert-tiny-rt-float", "llama-austen-float"])
def test_a_directory_of_windows_alone_is_its_base(base, tmp_path):
    kind = load_network(base, tile_rows=None).checkpoint.config["model_type"]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "base": base}))
    write_windows(tmp_path / "acam.h5", {}, {"step": "acam"})
    one, other = (load_network(name, tile_rows=ROWS) for name in (base, str(tmp_path)))
    assert one.ranges.keys() == other.ranges.keys()
    for name, tensor in one.model.tensors.items():
        np.testing.assert_array_equal(other.model.tensors[name], tensor)

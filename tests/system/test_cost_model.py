"""The cost model: sums, pipeline, components, baselines. No simulator: figures are made up."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.errors import ParameterError
from system.cost import report
from system.cost.baselines import IsaacLike, adc_area, adc_energy
from system.cost.chip import Chip, Placement, balanced_copies
from system.cost.components import Components
from system.cost.measure import Figures, LayerFigures, StimulusOps
from system.cost.products import ProductFigures
from system.cost.study import assemble
from system.cost.workload import Attention, classifier, lenet, llama, shaped
from system.models.lenet import SHAPES, Lenet
from system.models.llama import Llama, LlamaConfig
from system.models.patches import Convolution
from system.quantization import Mapping
from tests.behavioral.standin import make_library

CONFIG = LlamaConfig(
    vocab_size=600, hidden_size=64, intermediate_size=700, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16,
)  # fmt: skip
WORKLOADS = (lenet(), llama(CONFIG, "token", 50), llama(CONFIG, "prompt", 50))


@pytest.fixture(scope="module")
def library():
    return make_library()


@pytest.fixture(scope="module")
def components():
    return Components.from_toml()


def made_up_figures(mapping: Mapping | None = None) -> Figures:
    layers, products = {}, {}
    for k, layer in enumerate(x for w in WORKLOADS for x in w.layers):
        if layer.kind == "linear":
            fine = (9e-13, 120.0) if mapping is not None and mapping.output_fine else (0.0, 0.0)
            layers[layer.name] = LayerFigures(3e-8 + k * 1e-9, 8e-13, 1e-9, 128.0, 1, 8, 4, *fine)
        elif layer.kind == "products":
            products[layer.name] = ProductFigures(1.4e-12, 7e-13, 80, 96)
    return Figures("made up", layers, products, mapping or Mapping())


def study(library, components, mapping=None, **options):
    figures = made_up_figures(mapping)
    return assemble("made up", library, components, figures, WORKLOADS, **options)


def test_components_and_layers_add_up_to_the_total(library, components):
    """Sums of the same addends in another order: 1e-12."""
    found = study(library, components, batch=3)
    for cost in itertools.chain(found.ours, *found.others):
        by_layer = 3 * sum(layer.total_j for layer in cost.layers)
        assert sum(cost.energies.values()) == pytest.approx(cost.energy_j, rel=1e-12)
        assert by_layer == pytest.approx(cost.energy_j, rel=1e-12)
        assert sum(x.total_j for x in report.grouped(cost)) * 3 == pytest.approx(cost.energy_j)


def test_twice_the_batch_takes_twice_the_energy_and_less_than_twice_the_time(library, components):
    one, two = (study(library, components, batch=n) for n in (4, 8))
    for a, b in zip(itertools.chain(one.ours, *one.others), itertools.chain(two.ours, *two.others),
                    strict=True):  # fmt: skip
        assert b.energy_j == pytest.approx(2 * a.energy_j, rel=1e-12)
        assert a.time_s < b.time_s < 2 * a.time_s
        assert b.tops_per_w == pytest.approx(a.tops_per_w)


@pytest.mark.parametrize("batch", [1, 7])
def test_the_pipeline_is_as_fast_as_its_slowest_stage(library, components, batch):
    """Simulated item by item: a stage starts when it is free and the item has arrived."""
    for cost in study(library, components, batch=batch).ours:
        groups = itertools.groupby(cost.layers, key=lambda x: x.stage)
        stages = [max(x.stage_s for x in group) / cost.items for _, group in groups]
        free = np.zeros(len(stages))
        for _ in range(batch * cost.items):
            at = 0.0
            for k, seconds in enumerate(stages):
                at = max(at, free[k]) + seconds
                free[k] = at
        assert cost.time_s == pytest.approx(at, rel=1e-9)
        assert cost.time_s >= batch * cost.items * max(stages) * (1 - 1e-12)


def test_copies_of_a_layer_shorten_its_stage_and_leave_its_energy(library, components):
    one, four = (study(library, components, replicate=n).ours[0] for n in (1, 4))
    first = {x.name: x for x in one.layers}["conv1"]
    faster = {x.name: x for x in four.layers}["conv1"]
    assert faster.cores == 4 * first.cores
    assert faster.stage_s < first.stage_s
    assert four.energy_j == pytest.approx(one.energy_j)
    assert four.area_m2 >= one.area_m2


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9), st.integers(1, 50))
def test_no_layer_has_more_copies_than_it_can_use(vectors, replicate):
    copies = balanced_copies(vectors, replicate)
    assert all(1 <= c <= max(1, replicate) for c in copies)
    assert copies[int(np.argmax(vectors))] == (replicate if max(vectors) else 1)


def test_a_placement_fills_chips_in_order(library, components):
    chip = dataclasses.replace(Chip.from_components(components, library), tiles=1)
    layers = [x for x in WORKLOADS[1].layers if x.kind == "linear"]
    place = Placement.in_order(chip, layers, [1] * len(layers))
    assert place.cores == sum(chip.layer_cores(x) for x in layers)
    assert place.chips == -(-place.cores // 8)
    assert list(place.first) == sorted(place.first)
    assert all(a <= b for a, b in zip(place.first, place.last, strict=True))
    assert place.last[-1] == place.chips - 1


def numbers(tree, skip=("components",)) -> list[float]:
    """Return every number of a JSON tree, in order."""
    if isinstance(tree, dict):
        return [x for key, part in tree.items() if key not in skip for x in numbers(part)]
    if isinstance(tree, list):
        return [x for part in tree for x in numbers(part)]
    return [float(tree)] if isinstance(tree, (int, float)) else []


@pytest.mark.parametrize(("name", "key"), list(Components.from_toml().keys()))
def test_every_key_of_the_component_table_moves_some_output(library, components, name, key):
    """On a chip of one tile, so that links carry something; zero becomes a small number."""
    base = components.override("chip", "tiles", 1)
    value = base[name][key]
    changed = base.override(name, key, 2 * value if value else 1e-9)
    before, after = (report.to_dict(study(library, c)) for c in (base, changed))
    claims = [[c["ours"] for c in tree.pop("claims")] for tree in (before, after)]
    assert numbers(before) != numbers(after) or claims[0] != claims[1]


def test_every_component_names_its_source_and_a_node_or_why_there_is_none(components):
    said = re.compile(r"\d nm|^none: |not stated")
    for name, entry in components.entries.items():
        assert len(entry.source) > 10, name
        assert said.search(entry.technology), f"{name}: {entry.technology}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[acam\n", "not valid TOML"),
        (
            '[acamm]\nsource = "x"\ntechnology = "y"\ncells = 3',
            r"unknown component \[acamm\].*acam",
        ),
        (
            '[acam]\nsource = "x"\ntechnology = "y"\ncell = 3',
            "unknown key acam.cell; nearest: cells",
        ),
        ("[acam]\ncells = 3", r"\[acam\] needs source"),
        ('[acam]\nsource = "x"\ntechnology = "y"\ncells = 0', "acam.cells = 0 is out of range"),
        ('[dac]\nsource = "x"\ntechnology = "y"\nenergy_j = -1', "permitted: 0 or more"),
        ('[dac]\nsource = "x"\ntechnology = "y"\nenergy_j = true', "must be a number"),
        ("cells = 3", "stands outside an entry"),
    ],
)
def test_a_bad_component_table_is_refused_with_the_reason(text, message, tmp_path):
    place = tmp_path / "mine.toml"
    place.write_text(text)
    with pytest.raises(ParameterError, match=message):
        Components.from_toml(place)


def test_a_component_table_of_the_user_replaces_only_what_it_names(components, tmp_path):
    place = tmp_path / "mine.toml"
    place.write_text('[dac]\nenergy_j = "50f"\nsource = "measured"\ntechnology = "7 nm"\n')
    mine = Components.from_toml(place)
    assert mine["dac"]["energy_j"] == pytest.approx(50e-15)
    assert mine["dac"]["area_m2"] == components["dac"]["area_m2"]
    assert mine["dac"].technology == "7 nm"
    assert mine["link"] == components["link"]


ADC_TABLE = {
    16: [(0.251, 1689), (0.254, 1695), (0.289, 1762), (0.356, 1875), (0.466, 2031)],
    22: [(0.457, 2771), (0.463, 2782), (0.527, 2892), (0.649, 3078), (0.847, 3334)],
    32: [(0.924, 4964), (0.936, 4984), (1.065, 5180), (1.312, 5513), (1.714, 5972)],
    40: [(1.405, 7024), (1.424, 7052), (1.620, 7329), (1.996, 7801), (2.607, 8450)],
    65: [(3.501, 14948), (3.548, 15008), (4.036, 15598), (4.973, 16603), (6.494, 17983)],
}


@pytest.mark.parametrize("node", list(ADC_TABLE))
def test_the_regression_gives_the_published_converters(node):
    """Accelergy's ADC plug-in at 1 GS/s, 4 to 8 bits; three digits are printed: 0.3 %."""
    for bits, (energy_pj, area_um2) in enumerate(ADC_TABLE[node], start=4):
        assert adc_energy(bits, node * 1e-9, 1e9) == pytest.approx(energy_pj * 1e-12, rel=3e-3)
        assert adc_area(bits, node * 1e-9, 1e9) == pytest.approx(area_um2 * 1e-12, rel=1e-3)


def test_isaacs_components_add_up_to_its_published_chip(components):
    """Shafiee et al., ISCA 2016, Table I: 65.8 W, 85.4 mm2; a tile 330 mW, 0.372 mm2."""
    isaac = IsaacLike(components)
    assert isaac.chip_power() == pytest.approx(65.8, rel=1e-3)
    assert isaac.chip_area() == pytest.approx(85.4e-6, rel=1e-3)
    assert isaac.tile_power() == pytest.approx(0.330, rel=2e-3)
    assert isaac.tile_area() == pytest.approx(0.372e-6, rel=2e-3)


def test_isaac_converts_every_column_of_every_input_bit(components):
    """fc1 of LeNet: 4 row tiles x 120 outputs x 4 slices x 8 bits at the regression's energy."""
    cost = IsaacLike(components).cost(lenet())
    fc1 = {x.name: x for x in cost.layers}["fc1"]
    converts = 4 * 120 * 4 * 8
    assert fc1.energy_j["adc"] == pytest.approx(converts * adc_energy(8, 32e-9, 1.28e9))
    digital = (400 + 120) / 16 * 1e-9  # a scale for each input and output, 16 lanes at 1 GHz
    assert fc1.stage_s == pytest.approx(8 * 100e-9 + digital)


@pytest.mark.parametrize(
    ("name", "blocks", "head"), [("llama-3.2-1b", 14848, 4008), ("llama-3.2-3b", 43008, 6012)]
)
def test_llama_needs_the_arrays_its_shapes_ask_for(library, components, name, blocks, head):
    """256 x 256 arrays, counted by hand from the public shapes."""
    chip = Chip.from_components(components, library)
    layers = llama(shaped()[name], "token", 1).layers
    cores = {x.name: chip.layer_cores(x) for x in layers if x.kind == "linear"}
    assert cores.pop("lm_head") == head
    assert sum(cores.values()) == blocks


def test_the_workload_of_lenet_is_what_the_network_asks_for():
    rng = np.random.default_rng(0)
    tensors = {k: rng.normal(size=s).astype(np.float32) for k, s in SHAPES.items()}
    ops = StimulusOps(tensors, 256)
    Lenet(tensors).forward(rng.random((3, 28, 28)).astype(np.float32), ops)
    stated = {x.name: x for x in lenet().layers if x.kind == "linear"}
    assert list(stated) == list(ops.inputs)
    for name, layer in stated.items():
        assert (layer.outputs, layer.inputs) == ops.weights[name][0].shape
        assert 3 * layer.vectors == ops.vectors[name]
        assert layer.activation == ops.activations[name]


def test_the_workload_of_a_prompt_is_what_the_network_asks_for():
    """All but the output projection, which the workload asks only for the last token."""
    rng = np.random.default_rng(0)
    tensors = {
        k: rng.normal(size=s).astype(np.float32) * np.float32(0.1)
        for k, s in CONFIG.shapes().items()
    }
    ops = StimulusOps(tensors, 256)
    Llama(CONFIG, tensors).forward(rng.integers(0, 600, (1, 50)), ops)
    layers = {x.name: x for x in llama(CONFIG, "prompt", 50).layers}
    assert ops.products["model.layers.1.mlp.product"] == layers["model.layers.1.mlp.product"].exps
    for name in ops.inputs:
        assert (layers[name].outputs, layers[name].inputs) == ops.weights[name][0].shape
        assert layers[name].vectors == (1 if name == "lm_head" else ops.vectors[name])


def test_tokens_of_a_prompt_cost_together_what_they_cost_one_by_one():
    """Attention sees one token more each time; the output projection runs once for a prompt."""
    tokens = [llama(CONFIG, "token", n + 1) for n in range(50)]
    prompt = llama(CONFIG, "prompt", 50)
    head = 49 * CONFIG.vocab_size * CONFIG.hidden_size
    assert sum(t.macs for t in tokens) == pytest.approx(prompt.macs + head)
    for name in ("model.layers.0.self_attn", "model.layers.1.mlp.product"):
        parts = [next(x for x in w.layers if x.name == name) for w in (*tokens, prompt)]
        for count in ("exps", "logs", "adds", "macs"):
            *each, whole = (getattr(x, count) for x in parts)
            assert sum(each) == pytest.approx(whole), count


def test_the_text_names_origin_technology_and_what_is_not_known(library, components):
    text = report.to_text(study(library, components))
    for part in (
        "SPICE",
        "lp16",
        "40 nm",
        "estimate",
        "not known",
        "published  98 % less",
        "245 x",
    ):
        assert part in text


def test_the_csv_holds_the_energy_of_every_machine(library, components):
    """Six digits are written."""
    import csv
    import io

    found = study(library, components, batch=2)
    rows = list(csv.DictReader(io.StringIO(report.to_csv(found))))
    mine = [r for r in rows if (r["machine"], r["workload"]) == ("NL-DPE, ours", "prompt")]
    assert sum(float(r["energy_j"]) for r in mine) == pytest.approx(
        found.ours[2].energy_j, rel=1e-5
    )
    assert {r["machine"] for r in rows} == {"NL-DPE, ours", "ISAAC-like", "RAELLA-like"}


def of_kind(cost, kind):
    """Return energies by component of all layers of a kind, and their ACAM rows."""
    layers = [x for x in cost.layers if x.kind == kind]
    names = {name for x in layers for name in x.energy_j}
    energy = {n: sum(x.energy_j.get(n, 0.0) for x in layers) for n in names}
    return energy, sum(x.acam_rows for x in layers)


@pytest.mark.parametrize("fine", [0.0, 2.5])
def test_twice_the_output_copies_doubles_the_units_and_nothing_else(library, components, fine):
    """Searches, decoders and rows; of the adders, one addition more for every copy and range."""
    two, four = (
        study(library, components, Mapping(output_fine=fine, output_copies=n)) for n in (2, 4)
    )
    for a, b, work in zip(two.ours, four.ours, two.workloads, strict=True):
        (before, rows), (after, more_rows) = (of_kind(cost, "linear") for cost in (a, b))
        ratio = {n: 2.0 if n in ("acam", "gray decoder") else 1.0 for n in before}
        outputs = sum(x.outputs * x.vectors for x in work.layers if x.kind == "linear")
        extra = 2 * outputs * (2 if fine else 1) * components["adder"]["energy_j"]
        assert after.pop("adder") == pytest.approx(before.pop("adder") + extra, rel=1e-12)
        assert after == pytest.approx({n: ratio[n] * x for n, x in before.items()}, rel=1e-12)
        assert more_rows == 2 * rows > 0
    areas = [x.machine.chip.core_areas() for x in (two, four)]
    doubled = {n for n in areas[0] if areas[1][n] == 2 * areas[0][n] > 0}
    assert doubled == {"acam", "gray decoder"}
    assert all(areas[0][n] == areas[1][n] for n in set(areas[0]) - doubled)


def test_twice_the_product_copies_doubles_log_and_exp_units_and_their_cores(library, components):
    two, four = (study(library, components, Mapping(product_copies=n)) for n in (2, 4))
    for a, b, work in zip(two.ours[1:], four.ours[1:], two.workloads[1:], strict=True):
        (before, rows), (after, more_rows) = (of_kind(cost, "products") for cost in (a, b))
        searches = sum(x.logs + x.exps for x in work.layers)
        extra = 2 * searches * components["adder"]["energy_j"]
        assert after.pop("adder") == pytest.approx(before.pop("adder") + extra, rel=1e-12)
        for name in before:
            ratio = 2.0 if name in ("acam", "gray decoder") else 1.0
            assert after[name] == pytest.approx(ratio * before[name], rel=1e-12), name
        assert more_rows == 2 * rows > 0
        cores = [sum(x.cores for x in c.layers if x.kind == "products") for c in (a, b)]
        assert cores[1] == 2 * cores[0]
        assert of_kind(a, "linear") == of_kind(b, "linear")


def test_more_log_units_cost_log_conversions_only(library, components):
    """Searches and additions of log units times four; columns keep the units that they have."""
    few, many = (
        study(library, components, Mapping(product_copies=2, product_log_copies=n)) for n in (0, 8)
    )
    for a, b, work in zip(few.ours[1:], many.ours[1:], few.workloads[1:], strict=True):
        (before, rows), (after, more_rows) = (of_kind(cost, "products") for cost in (a, b))
        logs = sum(x.logs for x in work.layers)
        share = 2 * logs / (2 * sum(x.logs + x.exps for x in work.layers))
        assert after["gray decoder"] == pytest.approx(before["gray decoder"] * (1 + 3 * share))
        added = 6 * logs * components["adder"]["energy_j"]
        assert after["adder"] == pytest.approx(before["adder"] + added, rel=1e-12)
        assert before["acam"] < after["acam"] < 4 * before["acam"]
        assert more_rows == rows


def test_a_second_range_has_stages_units_and_a_choice_of_its_own(library, components):
    """One summing stage beside the five amplifiers of a column; searches of 8e-13 and 9e-13 J."""
    one, two = (study(library, components, Mapping(output_fine=x)) for x in (0.0, 2.5))
    for a, b in zip(one.ours, two.ours, strict=True):
        (before, rows), (after, more_rows) = (of_kind(cost, "linear") for cost in (a, b))
        assert after["acam"] == pytest.approx(before["acam"] * 17 / 8, rel=1e-12)
        assert after["gray decoder"] == pytest.approx(2 * before["gray decoder"], rel=1e-12)
        assert more_rows == pytest.approx(rows * (128 + 120) / 128)
        assert after["range choice"] > before["range choice"] == 0.0
        for name in ("cells", "dac", "adder", "register", "router"):
            assert after[name] == pytest.approx(before[name], rel=1e-12), name
    fc1 = [next(x for x in c.ours[0].layers if x.name == "fc2") for c in (one, two)]  # one tile
    assert fc1[1].energy_j["amplifier"] == pytest.approx(fc1[0].energy_j["amplifier"] * 6 / 5)


def test_other_groups_of_a_bundle_are_no_operations():
    """A depthwise 3 x 3 layer of 56 channels: two bundles of 28, 9 inputs for each output."""
    weights = {f"a[{i}]": (28, 252) for i in range(2)}
    same = {n: None for n in weights}, dict.fromkeys(weights, 50), {}
    work = classifier(weights, *same, 2, seen_inputs=dict.fromkeys(weights, 9))
    assert work.macs == 56 * 9 * 25
    assert work.weight_bytes == 56 * 9
    assert {x.stage for x in work.layers} == {"a"}


def test_a_recording_counts_what_each_query_and_each_group_sees():
    """By hand: 5 queries see 3 and 5 keys, or 1 to 5 each; an output of a group sees 9 inputs."""
    rng = np.random.default_rng(0)
    ops = StimulusOps({"a.weight": rng.random((56, 1, 3, 3), np.float32)}, 256)
    q, k = rng.random((2, 4, 5, 8), np.float32), rng.random((2, 2, 5, 8), np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    ops.attention("masked", q, k, k, None, mask)
    ops.attention("causal", q, k, k, None)
    assert ops.attentions["masked"] == Attention(4, 2, 8, 10, 5 * 3 + 5 * 5)
    assert ops.attentions["causal"].pairs == 2 * (1 + 2 + 3 + 4 + 5)
    ops.convolve("a", rng.random((1, 56, 4, 4), np.float32), Convolution((3, 3), groups=56))
    assert ops.seen_inputs == {"a[0]": 9, "a[1]": 9}
    work = classifier({}, {}, {}, {}, 2, attentions={"masked": ops.attentions["masked"]})
    assert work.what == "text"
    assert work.layers[0].exps == 20 * 4 * (2 * 8 + 1)  # both products, and softmax


def test_a_layer_with_more_units_and_bits_costs_as_if_all_had_them(library, components):
    """Energy and rows of that layer are those of a chip built so throughout; others keep theirs."""
    own = {"output_copies": 4, "input_bits": 10}
    plain, mixed, all_own = (
        study(library, components, Mapping(**choices))
        for choices in ({}, {"layers": {"*down_proj": own}}, own)
    )
    costs = [x.ours[-1] for x in (plain, mixed, all_own)]
    assert any(layer.name.endswith("down_proj") for layer in costs[0].layers)
    for before, found, after in zip(*(cost.layers for cost in costs), strict=True):
        assert found == (after if found.name.endswith("down_proj") else before)
    assert costs[0].area_m2 < costs[1].area_m2 < costs[2].area_m2


def test_finer_log_codes_cost_bits_of_the_exp_units_dacs_alone(library, components):
    """Two bits more: DACs before exp units take four times, registers, buffer and bus 10/8."""
    found = [study(library, components, Mapping(product_copies=4, product_finer=n)) for n in (1, 4)]
    for a, b, work in zip(*(x.ours[1:] for x in found), found[0].workloads[1:], strict=True):
        (before, rows), (after, same_rows) = (of_kind(cost, "products") for cost in (a, b))
        extra = 3 * sum(x.exps for x in work.layers) * components["dac"]["energy_j"]
        assert after.pop("dac") == pytest.approx(before.pop("dac") + extra, rel=1e-12)
        for name in before:
            ratio = 1.25 if name in ("register", "buffer", "bus") else 1.0
            assert after[name] == pytest.approx(ratio * before[name], rel=1e-12), name
        assert same_rows == rows
        assert of_kind(a, "linear") == of_kind(b, "linear")
        assert a.area_m2 < b.area_m2


def test_a_dac_doubles_with_every_bit_beyond_eight(library, components):
    areas = [
        study(library, components, Mapping(input_bits=n)).machine.chip.core_areas()["dac"]
        for n in (6, 8, 10)
    ]
    assert areas == pytest.approx([areas[1], areas[1], 4 * areas[1]], rel=1e-12)

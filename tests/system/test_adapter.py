"""Low-rank adapters: merged, refused when damaged, trained, resumed, and what training computes."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file  # noqa: E402

from behavioral.library import Library  # noqa: E402
from circuits.errors import CheckpointError  # noqa: E402
from system.calibration import calibrate  # noqa: E402
from system.commands.main import main  # noqa: E402
from system.engine import AnalogOps  # noqa: E402
from system.hardware import Chip, Hardware  # noqa: E402
from system.models.ops import FloatOps  # noqa: E402
from system.networks import Network, load_network, shipped  # noqa: E402
from system.quality import published_tensors  # noqa: E402
from system.quantization import Mapping  # noqa: E402
from system.training import adapters, networks  # noqa: E402
from system.training.adapters import AdaptedOps, AdapterPlan, AdapterTraining  # noqa: E402
from system.weights.adapter import WEIGHTS, load_adapter, save_adapter  # noqa: E402
from system.weights.checkpoint import save_checkpoint  # noqa: E402
from tests.system.tiny_llama import CONFIG, tiny_network  # noqa: E402

LLAMA = "llama-austen-float"
LAYER = "model.layers.1.mlp.down_proj"


@pytest.fixture
def place(tmp_path):
    """Write an adapter of one layer and one whole tensor."""
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(8, 384)).astype(np.float32), rng.normal(size=(128, 8)).astype("f4")
    config = {"model_type": "llama", "base": LLAMA, "adapter": {"rank": 8}}
    whole = {"model.norm.weight": np.full(128, 0.5, np.float32)}
    save_adapter(tmp_path / "a", config, {LAYER: pair}, {"seed": 5}, whole)
    return tmp_path / "a"


def test_an_adapter_is_merged_into_its_base(place):
    network, base = (load_network(name, tile_rows=None) for name in (str(place), LLAMA))
    stored = load_file(place / WEIGHTS)
    change = stored[f"{LAYER}.up"].astype("f4") @ stored[f"{LAYER}.down"].astype("f4")
    for name, weight in base.model.tensors.items():
        wanted = weight + change if name == f"{LAYER}.weight" else weight
        wanted = np.full(128, 0.5) if name == "model.norm.weight" else wanted
        np.testing.assert_array_equal(network.model.tensors[name], wanted)
        np.testing.assert_array_equal(published_tensors(network)[name], weight)
    assert network.checkpoint.extra["provenance"] == {"seed": 5}
    assert network.ranges.keys() == base.ranges.keys()
    assert network.decode(network.encode("She was glad.")) == "She was glad."


@pytest.mark.parametrize(
    "damage", ["side", "rank", "layer", "shape", "nan", "cut", "base", "none", "whole", "unknown"]
)
def test_a_damaged_adapter_is_refused(damage, place):
    stored, config = load_file(place / WEIGHTS), json.loads((place / "config.json").read_text())
    if damage == "side":
        del stored[f"{LAYER}.up"]
    if damage == "rank":
        stored[f"{LAYER}.up"] = stored[f"{LAYER}.up"][:, :3].copy()
    if damage == "layer":
        stored = {key.replace("down_proj", "dwn_proj"): part for key, part in stored.items()}
    if damage == "shape":
        stored[f"{LAYER}.up"] = stored[f"{LAYER}.up"][:9].copy()
    if damage == "nan":
        stored[f"{LAYER}.up"][0] = np.nan
    if damage == "whole":
        stored["model.norm.weight"] = stored["model.norm.weight"][:9].copy()
    if damage == "unknown":
        stored["classifier.weight"] = stored["model.norm.weight"]
    save_file(stored, place / WEIGHTS)
    if damage == "cut":
        (place / WEIGHTS).write_bytes(b"\x08\0\0")
    config["base"] = {"base": "lama-austen", "none": 3}.get(damage, config["base"])
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"adapter\.safetensors|nearest: llama-|names no base"
    ):
        load_network(str(place), tile_rows=None)


@pytest.fixture(scope="module")
def library(quick_library):
    return Library.from_hdf5(quick_library)


@pytest.mark.ngspice
@pytest.mark.parametrize("activation", [None, "silu", "gelu"])
def test_what_changed_since_programming_is_added_exactly(activation, library):
    """A chip of W, b and the pair's change beside it, against autograd of f(x (W + ud)^T + b)."""
    rng = np.random.default_rng(1)
    shapes = (((40, 60), 1.0), ((20, 60), 0.1), ((4, 60), 0.1), ((20, 4), 0.3), ((20,), 0.5))
    x, weight, down, up, bias = (
        rng.normal(size=shape).astype(np.float32) * size for shape, size in shapes
    )
    tensors = {"l.weight": weight, "l.bias": bias}
    mapping = Mapping(output_range="column", output_margin=1.0)
    wide = np.concatenate([2 * x, -2 * x])  # nothing that is tested saturates
    ranges = calibrate(tensors, lambda ops: ops.linear("l", wide, activation), mapping, 256)
    analog = AnalogOps(tensors, ranges, Hardware(library, mapping), Chip(noise="none"))
    old = (torch.tensor(down) * 0, torch.tensor(up) * 0)
    found, wanted = [], []
    for results, ops in ((found, True), (wanted, False)):
        leaves = [torch.tensor(a).requires_grad_() for a in (x, down, up)]
        if ops:
            adapted = AdaptedOps(analog, {"l": (leaves[1], leaves[2])}, {"l": old})
            given = (torch.tensor(weight), torch.tensor(bias))
            out = adapted.linear("l", leaves[0], *given, activation)
            plain = adapted.analog.linear("l", x, activation)
        else:
            merged = torch.tensor(weight) + leaves[2] @ leaves[1]
            out = networks.ACTIVATIONS[activation](leaves[0] @ merged.T + torch.tensor(bias))
        torch.manual_seed(0)
        (out * torch.randn(out.shape)).sum().backward()
        results += [out.detach(), *(leaf.grad for leaf in leaves)]
    exact = FloatOps(tensors).linear("l", x, activation)
    np.testing.assert_allclose(found[0] - wanted[0], plain - exact, rtol=0, atol=2e-5)
    for ours, theirs in zip(found[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * theirs.abs().max())


@pytest.mark.ngspice
def test_an_interrupted_training_goes_on_to_the_same_adapter(library, tmp_path):
    network = tiny_network(library.technology.column.rows, output_range="column")
    tokens = np.random.default_rng(2).integers(0, 48, size=200)
    plan = AdapterPlan(steps=4, rank=2, length=24, refresh=3, rate=1e-3)

    def train(place):
        return AdapterTraining(network, library, tokens, plan, tmp_path / place, every=1)

    whole, broken = train("whole"), train("broken")
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        broken.run(report=lambda step, _: interrupt(step, 2))
    again = train("broken")
    assert len(again.losses) == 2
    again.run()
    assert again.losses == whole.losses
    for name, pair in whole.result().items():
        assert np.abs(pair[1]).max() > 0
        for ours, theirs in zip(again.result()[name], pair, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "broken").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match="cannot read the kept training"):
        train("broken")
    with pytest.raises(CheckpointError, match="another plan, library or data"):
        AdapterTraining(network, library, tokens[1:], plan, tmp_path / "whole")


@pytest.mark.ngspice
def test_without_device_noise_one_chip_serves_all_steps(library, tmp_path, monkeypatch):
    network = tiny_network(library.technology.column.rows, output_range="column")
    tokens = np.random.default_rng(2).integers(0, 48, size=200)
    chips = []
    monkeypatch.setattr(
        adapters, "AnalogOps", lambda *given: chips.append(given[-1]) or AnalogOps(*given)
    )
    for noise in ("frozen", "none"):
        plan = AdapterPlan(steps=3, rank=2, length=24, refresh=2, noise=noise)
        AdapterTraining(network, library, tokens, plan, tmp_path / noise).run()
    assert [chip.noise for chip in chips] == ["frozen", "frozen", "none"]


@pytest.mark.ngspice
def test_every_other_step_of_a_chat_model_is_on_a_conversation(library, tmp_path, monkeypatch):
    network = tiny_network(library.technology.column.rows, output_range="column")
    tokens = np.random.default_rng(2).integers(0, 48, size=200)
    plan = AdapterPlan(steps=4, rank=2, length=24)
    talks = np.full((2, 40), -1)
    talks[0], talks[1, :5] = 7, 9
    place = tmp_path / "kept"
    alone = AdapterTraining(network, library, tokens, plan, place)
    monkeypatch.setattr(Network, "conversations", lambda self: talks)
    mixed = AdapterTraining(network, library, tokens, plan, place)
    found = [mixed.window(step).tolist() for step in (1, 3, 5)]
    assert found == [[[7] * 25], [[9] * 5], [[7] * 25]]
    for step in range(4):
        assert alone.window(step).shape == (1, 25)
    assert mixed.window(2).tolist() == alone.window(2).tolist()


def test_the_shipped_adapter_of_smollm2_is_of_rank_8_and_a_few_megabytes():
    """Thirty blocks of seven projections, and nothing else."""
    place = shipped()["smollm2-135m-naf"]
    config, pairs, whole = load_adapter(place)
    assert (config["base"], len(pairs), whole) == ("smollm2-135m", 210, {})
    assert {(len(down), up.shape[1]) for down, up in pairs.values()} == {(8, 8)}
    assert all(np.abs(up).max() > 0 for _, up in pairs.values())
    assert sum(file.stat().st_size for file in place.iterdir()) < 10e6
    assert {"metrics.json", "provenance.json"} <= {file.name for file in place.iterdir()}


def interrupt(step, last):
    """Stop as Ctrl-C does, after `last` steps are kept."""
    if step == last:
        raise KeyboardInterrupt


def write_tiny(place, library):
    """Write the tiny Llama's checkpoint; return the network."""
    rows = library.technology.column.rows
    tiny = tiny_network(rows, output_range="column")
    save_checkpoint(
        place,
        {**CONFIG.to_dict(), "mapping": tiny.mapping.to_dict(), "tile_rows": rows},
        {name: tiny.model.tensors[name] for name in CONFIG.shapes()},
        analog=tiny.ranges,
    )
    return tiny


def test_an_adapter_states_the_mapping_that_it_was_trained_for(library, tmp_path, monkeypatch):
    tiny = write_tiny(tmp_path / "tiny", library)
    tokens = np.random.default_rng(3).integers(0, 48, size=600)
    monkeypatch.setattr(Network, "training_tokens", lambda self: tokens)
    monkeypatch.setattr(adapters.metrics, "write", lambda *given, **_: None)
    plan, chosen = AdapterPlan(1, length=8), {"linearize": True, "lm_head.output_copies": 4}
    place = adapters.train_adapter(str(tmp_path / "tiny"), tmp_path, library, plan, chosen)
    found = load_network(str(place), tile_rows=library.technology.column.rows).mapping
    assert found == tiny.mapping.changed(chosen)
    assert "--map linearize=true" in json.loads((place / "provenance.json").read_text())["command"]


@pytest.mark.ngspice
def test_finetune_writes_an_adapter_that_infer_reads(quick_library, tmp_path, monkeypatch, capsys):
    library = Library.from_hdf5(quick_library)
    tiny = write_tiny(tmp_path / "tiny", library)
    tokens = np.random.default_rng(3).integers(0, 48, size=600)
    monkeypatch.setattr(Network, "training_tokens", lambda self: tokens)
    asked = []  # a text to score needs a tokenizer
    monkeypatch.setattr(adapters.metrics, "write", lambda *given, **_: asked.append(given))
    common = ["--library", str(quick_library), "--out", str(tmp_path), "--naf-steps", "2"]
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", "./tiny", "--steps", "naf", *common]) == 0
    written = tmp_path / "tiny-naf"
    assert f"{written}: written" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny", "tiny-naf"]
    origin = json.loads((written / "provenance.json").read_text())
    assert origin["tokens"] == 512
    (scored,) = asked
    assert (scored[1], len(scored[3])) == (written, 2)  # its folder, the losses
    monkeypatch.chdir(written)  # found from any folder
    network = load_network(str(written), tile_rows=None)
    weight = "model.layers.0.mlp.up_proj.weight"
    change = np.abs(network.model.tensors[weight] - tiny.model.tensors[weight]).max()
    assert 0 < change < 0.1
    assert main(["finetune", str(tmp_path / "tiny"), *common]) == 1
    assert "give --steps naf for its adapter" in capsys.readouterr().err

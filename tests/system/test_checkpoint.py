"""Checkpoints: saved, loaded, and readable differences when they do not fit."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from circuits.errors import CheckpointError
from system.models import lenet
from system.models.lenet import Lenet
from system.models.llama import Llama
from system.models.ops import FloatOps
from system.tokenizer import encode, train_tokenizer
from system.weights.checkpoint import load_checkpoint, save_checkpoint
from tests.system.test_llama import SIZES

LLAMA = {"model_type": "llama", **SIZES, "mapping": {"slices": 2}}


@pytest.fixture
def lenet_folder(tmp_path):
    rng = np.random.default_rng(9)
    tensors = {k: rng.normal(size=s).astype(np.float32) for k, s in lenet.SHAPES.items()}
    ranges = {"conv1.output": np.array([[-1.0, 2.0]])}
    metrics = {"metrics": {"accuracy": 0.5}}
    save_checkpoint(
        tmp_path / "m", lenet.CONFIG, tensors, analog=ranges, extra=metrics, readme="seed 9\n"
    )
    return tmp_path / "m"


def rewrite(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_checkpoint_comes_back_as_saved(lenet_folder):
    loaded = load_checkpoint(lenet_folder)
    assert isinstance(loaded.build(), Lenet)
    assert loaded.config == lenet.CONFIG
    assert {k: t.shape for k, t in loaded.tensors.items()} == lenet.SHAPES
    assert loaded.extra == {"metrics": {"accuracy": 0.5}}
    np.testing.assert_array_equal(loaded.analog["conv1.output"], [[-1.0, 2.0]])
    assert (lenet_folder / "README.md").read_text() == "seed 9\n"


def test_saving_again_replaces_all_of_it_and_leaves_no_litter(lenet_folder):
    tensors = load_checkpoint(lenet_folder).tensors
    save_checkpoint(lenet_folder, lenet.CONFIG, tensors)
    assert sorted(p.name for p in lenet_folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [p.name for p in lenet_folder.parent.iterdir()] == ["m"]


def test_two_saves_are_byte_identical(lenet_folder, tmp_path):
    tensors = load_checkpoint(lenet_folder).tensors
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, lenet.CONFIG, tensors)
    contents = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert contents[0] == contents[1]


def test_the_difference_names_missing_unexpected_and_misshapen(lenet_folder):
    def change(tensors):
        tensors["fc4.weight"] = tensors.pop("fc3.weight")
        tensors["conv1.bias"] = np.zeros(7, np.float32)

    rewrite(lenet_folder, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(lenet_folder)
    assert "missing: fc3.weight" in str(caught.value)
    assert "unexpected: fc4.weight" in str(caught.value)
    assert "wrong shape: conv1.bias (want (6,), got (7,))" in str(caught.value)


def test_tensors_that_do_not_fit_are_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing: conv1\.weight, .* and 2 more"):
        save_checkpoint(tmp_path / "m", lenet.CONFIG, {})
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_named(lenet_folder):
    rewrite(lenet_folder, lambda tensors: tensors["fc1.bias"].__setitem__(3, np.nan))
    with pytest.raises(CheckpointError, match=r"infinite or NaN values in fc1\.bias"):
        load_checkpoint(lenet_folder)


@pytest.mark.parametrize("length", [0, 5, 100, 5000])
def test_a_truncated_safetensors_file_is_named(lenet_folder, length):
    file = lenet_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"cannot read .*model\.safetensors"):
        load_checkpoint(lenet_folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"cannot read .*config\.json"),
        ("[]", "holds a list"),
        ('{"model_type": "odd"}', "'odd'; supported: 'lenet'"),
        ('{"model_type": "llama"}', "not a Llama's"),
    ],
)
def test_a_damaged_config_is_named(lenet_folder, content, message):
    (lenet_folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(lenet_folder)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="neither a checkpoint directory nor a GGUF file"):
        load_checkpoint(tmp_path / "absent")


def test_a_directory_of_transformers_loads_and_agrees(tmp_path):
    """Hugging Face's own export in bfloat16, split over two files, and our logits of it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).to(torch.bfloat16).eval()
    model.save_pretrained(tmp_path, max_shard_size="40kB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    ours = load_checkpoint(tmp_path).build()
    assert isinstance(ours, Llama)
    tokens = np.arange(20)[None]
    with torch.no_grad():
        wanted = model.float()(torch.from_numpy(tokens)).logits.numpy()
    logits = ours.forward(tokens, FloatOps(ours.tensors))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_language_model_keeps_its_tokenizer_and_further_config_keys(tmp_path):
    from system.models.llama import LlamaConfig

    shapes = LlamaConfig.from_dict(LLAMA).shapes()
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    tokenizer = train_tokenizer("the cat sat on the mat. " * 20, vocab_size=270)
    save_checkpoint(tmp_path / "lm", LLAMA, tensors, tokenizer=tokenizer)
    loaded = load_checkpoint(tmp_path / "lm")
    assert loaded.config["mapping"] == {"slices": 2}
    assert loaded.extra == {}
    text = "the mat \u00e9 \u65e5\n"
    assert loaded.tokenizer.decode(encode(loaded.tokenizer, text)) == text


def test_training_a_tokenizer_twice_gives_the_same():
    text = "It is a truth universally acknowledged, that a single man. " * 30
    first, second = (train_tokenizer(text, vocab_size=300).to_str() for _ in range(2))
    assert first == second
    assert json.loads(first)["model"]["vocab"]["<|endoftext|>"] == 0

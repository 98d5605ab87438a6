"""GGUF files written by llama.cpp's own package, read back by ours."""

import gguf as oracle
import numpy as np
import pytest

from circuits.errors import CheckpointError, FormatError
from system.data import datasets
from system.models.llama import Llama, LlamaConfig
from system.models.ops import FloatOps
from system.tokenizer import encode
from system.weights.gguf import (
    GgufFile,
    hugging_face_name,
    read_config,
    read_tensors,
    read_tokenizer,
)

KINDS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"]
CONFIG = LlamaConfig(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=(2,),
)
SHORT_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attn_output",
    "self_attn": "attn",
    "mlp": "ffn",
    "model.layers": "blk",
    "_proj": "",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
}


def llama_cpp_name(name: str) -> str:
    for ours, theirs in SHORT_NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("attn.", "attn_").replace("ffn.", "ffn_")


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows as convert_hf_to_gguf.py of llama.cpp does for q and k."""
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, tensors, kind="F32", **metadata) -> None:
    writer = oracle.GGUFWriter(path, metadata.pop("architecture", "llama"))
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_tokenizer_model(metadata.pop("tokenizer", "gpt2"))
    writer.add_token_list(["<|endoftext|>", "a", "b", "ab", "<keep>", "1", "\u0120"])
    writer.add_token_types([3, 1, 1, 1, 4, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_tokenizer_pre(metadata.pop("pre", "smollm"))
    number = oracle.GGMLQuantizationType[kind]
    for name, tensor in tensors.items():
        writer.add_tensor(name, oracle.quantize(tensor, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(7)
    return {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in CONFIG.shapes().items()
    }


@pytest.fixture
def model_file(tmp_path, tensors):
    stored = {}
    for name, tensor in tensors.items():
        if "q_proj" in name or "k_proj" in name:
            heads = CONFIG.num_attention_heads if "q_" in name else CONFIG.num_key_value_heads
            tensor = permute(tensor, heads)
        stored[llama_cpp_name(name)] = tensor
    write_gguf(tmp_path / "model.gguf", stored)
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_is_widened_as_the_gguf_package_does(tmp_path, kind):
    """Equal bit for bit: both multiply the same half-precision scales in float32."""
    values = np.random.default_rng(8).normal(size=(5, 96)).astype(np.float32)
    write_gguf(tmp_path / "t.gguf", {"t": values}, kind)
    stored = oracle.GGUFReader(tmp_path / "t.gguf").tensors[0]
    read = GgufFile(tmp_path / "t.gguf").read("t")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, oracle.dequantize(stored.data, stored.tensor_type))
    assert np.abs(read - values).max() < 0.5


def test_a_model_comes_back_under_its_hugging_face_names(model_file, tensors):
    file = GgufFile(model_file)
    config = read_config(file)
    assert config.shapes() == CONFIG.shapes()
    assert (config.head_dim, config.eos_token_id) == (16, (2,))
    read = read_tensors(file, config)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)


def test_an_unknown_tensor_keeps_its_name():
    assert hugging_face_name("blk.3.attn_sinks.weight") == "blk.3.attn_sinks.weight"


def test_the_tokenizer_splits_digits_and_keeps_control_tokens(model_file):
    tokenizer = read_tokenizer(GgufFile(model_file))
    assert encode(tokenizer, "ab<|endoftext|>a<keep>11 b").tolist() == [3, 0, 1, 4, 5, 5, 6, 2]
    assert tokenizer.decode([3, 0, 4, 6, 2]) == "ab<keep> b"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"tokenizer": "llama"}, "'llama' tokenizer"), ({"pre": "odd"}, "pre-tokenizer 'odd'")],
)
def test_an_unknown_tokenizer_is_named(tmp_path, tensors, metadata, message):
    write_gguf(tmp_path / "m.gguf", {}, **metadata)
    with pytest.raises(CheckpointError, match=message):
        read_tokenizer(GgufFile(tmp_path / "m.gguf"))


def test_another_architecture_is_named(tmp_path):
    write_gguf(tmp_path / "m.gguf", {}, architecture="gemma")
    with pytest.raises(CheckpointError, match="holds a 'gemma' model"):
        read_config(GgufFile(tmp_path / "m.gguf"))


def test_an_unknown_type_is_named(tmp_path):
    write_gguf(tmp_path / "m.gguf", {"t": np.zeros((2, 32), np.float32)}, "Q5_0")
    with pytest.raises(FormatError, match=r"tensor t has type 6; supported: F32 \(0\)"):
        GgufFile(tmp_path / "m.gguf").read("t")


def test_every_truncation_is_a_format_error(model_file, tmp_path):
    whole = model_file.read_bytes()
    for length in [0, 3, 10, 100, *range(200, len(whole), len(whole) // 40), len(whole) - 1000]:
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"cut\.gguf"):
            read_tensors(GgufFile(tmp_path / "cut.gguf"), CONFIG)


@pytest.mark.parametrize(
    ("start", "message"), [(b"GGML", "is no GGUF file"), (b"GGUF\x09\0\0\0", "version 9")]
)
def test_another_format_is_named(tmp_path, start, message):
    (tmp_path / "odd.gguf").write_bytes(start + bytes(64))
    with pytest.raises(FormatError, match=message):
        GgufFile(tmp_path / "odd.gguf")


@pytest.mark.slow
def test_smollm2_answers_as_it_does_in_transformers():
    """Weights, names, rotary layout and tokenizer of the published file, in one known answer."""
    file = GgufFile(datasets.smollm2())
    config, tokenizer = read_config(file), read_tokenizer(file)
    model = Llama(config, read_tensors(file, config))
    ops = FloatOps(model.tensors)
    prompt = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    cache = ops.new_cache()
    answer, new = [], encode(tokenizer, prompt)
    while len(answer) < 12 and not set(answer) & set(config.eos_token_id):
        logits = model.forward(new[None], ops, cache, last_only=True)
        new = logits[0, -1].argmax(keepdims=True)
        answer.append(int(new[0]))
    assert tokenizer.decode(answer) == "The capital of France is Paris."

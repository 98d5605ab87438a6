"""Read GGUF files, the model format of llama.cpp: a Llama's weights, config and tokenizer.

Format: the GGUF specification in llama.cpp's ggml repository (docs/gguf.md), version 3. A file is
a header, typed metadata, a table of tensors, and the tensors' data. Quantised tensors are blocks
of 32 weights along a row; they are widened to float32 here, exactly as llama.cpp does.
"""

import math
import mmap
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from circuits.errors import CheckpointError, FormatError
from system.models.llama import LlamaConfig
from system.tokenizer import build_tokenizer

Bytes = NDArray[np.uint8]
Array = NDArray[np.float32]

BLOCK = 32  # weights in a quantised block
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class TensorEntry:
    """One row of the tensor table: shape in numpy's order, type, offset in the data part."""

    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufFile:
    """A GGUF file, opened; tensors are read one at a time.

    Attributes
    ----------
    metadata : dict
        Key -> number, string, boolean or list.
    tensors : dict
        llama.cpp's name -> TensorEntry.

    Raises
    ------
    FormatError
        The file is no GGUF version 2 or 3, or is truncated.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with self.path.open("rb") as handle:
                self._data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise FormatError(f"cannot read {path}: {error}") from error
        cursor = _Cursor(self._data)
        try:
            self.metadata, self.tensors = self._read_header(cursor)
        except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
            raise FormatError(f"{path} is truncated or damaged in its header: {error}") from error
        align = self.metadata.get("general.alignment", 32)
        self._start = -(-cursor.at // align) * align

    def _read_header(self, cursor: "_Cursor") -> tuple[dict[str, Any], dict[str, TensorEntry]]:
        if self._data[:4] != b"GGUF":
            raise FormatError(f"{self.path} is no GGUF file: it starts with {self._data[:4]!r}")
        cursor.at = 4
        (version,) = cursor.unpack("I")
        if version not in (2, 3):
            raise FormatError(f"{self.path} is GGUF version {version}; supported: 2 and 3")
        tensor_count, key_count = cursor.unpack("QQ")
        metadata = {}
        for _ in range(key_count):
            key = cursor.string()
            metadata[key] = cursor.value(cursor.unpack("I")[0])
        tensors = {}
        for _ in range(tensor_count):
            name = cursor.string()
            (dimensions,) = cursor.unpack("I")
            sizes = cursor.unpack(f"{dimensions}Q")
            tensors[name] = TensorEntry(sizes[::-1], *cursor.unpack("IQ"))
        return metadata, tensors

    def read(self, name: str) -> Array:
        """Return a tensor in float32.

        Raises
        ------
        FormatError
            The tensor's type is not supported, or its data is cut off.
        """
        entry = self.tensors[name]
        if entry.kind not in _TYPES:
            raise FormatError(
                f"{self.path}: tensor {name} has type {entry.kind}; supported: "
                + ", ".join(f"{kind.name} ({number})" for number, kind in _TYPES.items())
            )
        kind = _TYPES[entry.kind]
        count = math.prod(entry.shape)
        blocks, rest = divmod(count, kind.weights)
        start = self._start + entry.offset
        if rest or start + blocks * kind.size > len(self._data):
            raise FormatError(
                f"{self.path} is truncated or damaged: tensor {name} {entry.shape} needs "
                f"{blocks * kind.size} bytes at {start}, the file has {len(self._data)}"
            )
        raw = np.frombuffer(self._data, np.uint8, blocks * kind.size, start)
        return kind.widen(raw.reshape(blocks, kind.size)).reshape(entry.shape)


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: mmap.mmap):
        self.data, self.at = data, 0

    def unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def string(self) -> str:
        (length,) = self.unpack("Q")
        if length > len(self.data) - self.at:
            raise struct.error(f"a string of {length} bytes at {self.at}")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise struct.error(f"metadata type {kind} at {self.at}")
        item, count = self.unpack("IQ")
        if count > len(self.data) - self.at:
            raise struct.error(f"a list of {count} items at {self.at}")
        if item in _SCALARS:
            return list(self.unpack(f"{count}{_SCALARS[item]}"))
        return [self.value(item) for _ in range(count)]


@dataclass(frozen=True)
class _Type:
    """A storage type: bytes and weights of a block, and (n, size) bytes -> (n, weights) float32."""

    name: str
    size: int
    weights: int
    widen: Callable[[Bytes], Array]


def _column(raw: Bytes, start: int) -> Array:
    """Return the half-precision number at byte `start` of every block, (n, 1)."""
    return np.ascontiguousarray(raw[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(raw: Bytes) -> Array:
    """Return (n, 32) 4-bit numbers: the low halves of 16 bytes, then the high halves."""
    return np.concatenate((raw & 15, raw >> 4), axis=1).astype(np.float32)


def _widen_q4_0(raw: Bytes) -> Array:
    return (_nibbles(raw[:, 2:]) - 8.0) * _column(raw, 0)


def _widen_q4_1(raw: Bytes) -> Array:
    return _nibbles(raw[:, 4:]) * _column(raw, 0) + _column(raw, 2)


def _widen_q8_0(raw: Bytes) -> Array:
    return raw[:, 2:].view(np.int8).astype(np.float32) * _column(raw, 0)


def _widen_bf16(raw: Bytes) -> Array:
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


_TYPES = {
    0: _Type("F32", 4, 1, lambda raw: raw.view("<f4").astype(np.float32)),
    1: _Type("F16", 2, 1, lambda raw: raw.view("<f2").astype(np.float32)),
    2: _Type("Q4_0", 18, BLOCK, _widen_q4_0),
    3: _Type("Q4_1", 20, BLOCK, _widen_q4_1),
    8: _Type("Q8_0", 34, BLOCK, _widen_q8_0),
    30: _Type("BF16", 2, 1, _widen_bf16),
}


def read_config(file: GgufFile) -> LlamaConfig:
    """Return the model's config.

    Raises
    ------
    CheckpointError
        The model is no Llama, or a key is missing.
    """
    get = file.metadata.get
    architecture = get("general.architecture")
    if architecture != "llama":
        raise CheckpointError(f"{file.path} holds a {architecture!r} model; supported: 'llama'")
    if "rope_freqs.weight" in file.tensors:
        raise CheckpointError(
            f"{file.path} has stretched rotary frequencies, which are read only from a Hugging "
            "Face directory: pass that directory as the model"
        )
    try:
        shape = file.tensors["token_embd.weight"].shape
        config = {
            "model_type": "llama",
            "vocab_size": shape[0],
            "hidden_size": file.metadata["llama.embedding_length"],
            "intermediate_size": file.metadata["llama.feed_forward_length"],
            "num_hidden_layers": file.metadata["llama.block_count"],
            "num_attention_heads": file.metadata["llama.attention.head_count"],
            "num_key_value_heads": get("llama.attention.head_count_kv"),
            "head_dim": get("llama.attention.key_length") or get("llama.rope.dimension_count"),
            "max_position_embeddings": file.metadata["llama.context_length"],
            "rms_norm_eps": file.metadata["llama.attention.layer_norm_rms_epsilon"],
            "rope_theta": get("llama.rope.freq_base", 10000.0),
            "tie_word_embeddings": "output.weight" not in file.tensors,
            "attention_bias": "blk.0.attn_output.bias" in file.tensors,
            "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
            "bos_token_id": get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": get("tokenizer.ggml.eos_token_id"),
        }
    except KeyError as error:
        raise CheckpointError(f"{file.path} lacks {error}") from error
    return LlamaConfig.from_dict({k: v for k, v in config.items() if v is not None})


def read_tensors(file: GgufFile, config: LlamaConfig) -> dict[str, Array]:
    """Return all tensors in float32 under Hugging Face's names."""
    tensors = {}
    for name in file.tensors:
        hf_name = hugging_face_name(name)
        tensor = file.read(name)
        if ".q_proj." in hf_name:
            tensor = _unpermute(tensor, config.num_attention_heads)
        elif ".k_proj." in hf_name:
            tensor = _unpermute(tensor, config.num_key_value_heads)
        tensors[hf_name] = tensor
    return tensors


def hugging_face_name(name: str) -> str:
    """Translate llama.cpp's tensor name; an unknown one stays, and fails the shape check later."""
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in _LAYER_NAMES:
        return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    return _NAMES.get(name, name)


def _unpermute(tensor: Array, heads: int) -> Array:
    """Undo llama.cpp's reordering of the rows of q and k.

    llama.cpp rotates neighbours (2i, 2i + 1) of a head, Hugging Face (i, i + D/2).
    """
    pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(tensor.shape)


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """Build the tokenizer of a model with a byte-level BPE.

    Raises
    ------
    CheckpointError
        The file has another kind of tokenizer, or none.
    """
    kind = file.metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise CheckpointError(
            f"{file.path} has a {kind!r} tokenizer; supported: 'gpt2' (byte-level BPE). Pass a "
            "Hugging Face directory with a tokenizer.json instead"
        )
    tokens = file.metadata["tokenizer.ggml.tokens"]
    kinds = file.metadata.get("tokenizer.ggml.token_type", [])
    special = {
        token: kind == _CONTROL
        for token, kind in zip(tokens, kinds, strict=False)
        if kind in (_CONTROL, _USER_DEFINED)
    }
    return build_tokenizer(
        tokens,
        file.metadata.get("tokenizer.ggml.merges", []),
        special,
        file.metadata.get("tokenizer.ggml.pre", "gpt-2"),
    )

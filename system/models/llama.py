"""The Llama decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

References: Touvron et al., arXiv:2302.13971 (architecture); Su et al., arXiv:2104.09864 (rotary
positions, here in the half-rotation layout of Hugging Face); Ainslie et al., arXiv:2305.13245
(grouped queries). Tensor names and config keys are those of Hugging Face.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from circuits.errors import CheckpointError
from system.models.ops import Array, Cache, Ops
from system.models.tokens import check_tokens


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of the slow rotary frequencies for contexts beyond the first training.

    Attributes
    ----------
    factor : how much the slow frequencies are lowered.
    low_freq_factor, high_freq_factor : turns within the old context below and above which a
        frequency counts as slow or fast; between them the two are blended.
    original_max_position_embeddings : the old context [tokens].
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of a Llama model; fields are the keys of Hugging Face's config.json.

    Attributes
    ----------
    vocab_size : number of token ids.
    hidden_size : width of the residual stream.
    intermediate_size : width inside the feed-forward block.
    num_hidden_layers : blocks.
    num_attention_heads, num_key_value_heads : query heads, and the key heads they share.
    head_dim : width of a head.
    max_position_embeddings : longest context [tokens].
    rms_norm_eps : added to the mean square.
    normalization : "rms", or "dynamic-tanh": weight tanh(alpha x) + bias in its place, which needs
        no mean over the channels (Zhu et al., arXiv:2503.10622; names of tensors are theirs).
    rope_theta : base of the rotary periods.
    rope_scaling : Llama 3's frequency stretching, or None.
    tie_word_embeddings : the output projection is the embedding matrix.
    attention_bias, mlp_bias : the projections have biases.
    bos_token_id, eos_token_id : ids that begin a text and end it (several may end it).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    normalization: str = "rms"
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "LlamaConfig":
        """Read Hugging Face's config.json, as written by transformers 4 or 5.

        Raises
        ------
        CheckpointError
            The architecture is another one, a key is missing or the sizes do not fit together.
        """
        if config.get("model_type") != "llama":
            raise CheckpointError(
                f"model_type is {config.get('model_type')!r}; supported here: 'llama'"
            )
        if config.get("hidden_act", "silu") != "silu":
            raise CheckpointError(f"hidden_act {config['hidden_act']!r} is not supported: 'silu'")
        # transformers 5 keeps theta and scaling together in rope_parameters.
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
        eos = config.get("eos_token_id")
        known = {field: config[field] for field in _PLAIN_FIELDS if field in config}
        try:
            heads = int(config["num_attention_heads"])
            known.setdefault("num_key_value_heads", heads)
            if known.get("head_dim") is None:
                known["head_dim"] = int(config["hidden_size"]) // heads
            made = cls(
                **known,
                rope_theta=float(theta),
                rope_scaling=_read_scaling(rope),
                eos_token_id=() if eos is None else (eos,) if isinstance(eos, int) else tuple(eos),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(f"config.json is not a Llama's: {error}") from error
        made._check()
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the content of config.json, readable by transformers too."""
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **asdict(self)}
        config["hidden_act"] = "silu"
        config["eos_token_id"] = list(self.eos_token_id) or None
        if self.normalization == "rms":
            del config["normalization"]
        if self.rope_scaling is not None:
            config["rope_scaling"] = {"rope_type": "llama3", **asdict(self.rope_scaling)}
        return config

    def _check(self) -> None:
        sizes = {name: getattr(self, name) for name in _PLAIN_FIELDS if name in _SIZES}
        wrong = {k: v for k, v in sizes.items() if not (isinstance(v, int) and v > 0)}
        if wrong:
            raise CheckpointError(f"config.json: {wrong} must be positive whole numbers")
        if self.num_attention_heads % self.num_key_value_heads or self.head_dim % 2:
            raise CheckpointError(
                f"config.json: {self.num_attention_heads} heads must be a multiple of "
                f"{self.num_key_value_heads} key heads, and head_dim {self.head_dim} even"
            )

        if self.normalization not in ("rms", "dynamic-tanh"):
            raise CheckpointError(
                f"config.json: normalization is {self.normalization!r};"
                " permitted: rms, dynamic-tanh"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of a checkpoint."""
        width, inner = self.hidden_size, self.intermediate_size
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        projections = {
            "self_attn.q_proj": (queries, width, self.attention_bias),
            "self_attn.k_proj": (keys, width, self.attention_bias),
            "self_attn.v_proj": (keys, width, self.attention_bias),
            "self_attn.o_proj": (width, queries, self.attention_bias),
            "mlp.gate_proj": (inner, width, self.mlp_bias),
            "mlp.up_proj": (inner, width, self.mlp_bias),
            "mlp.down_proj": (width, inner, self.mlp_bias),
        }
        table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, width)}
        norms = ["model.norm"]
        for layer in (f"model.layers.{i}" for i in range(self.num_hidden_layers)):
            norms += [f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
            for name, (rows, columns, biased) in projections.items():
                table[f"{layer}.{name}.weight"] = (rows, columns)
                if biased:
                    table[f"{layer}.{name}.bias"] = (rows,)
        for norm in norms:
            table[f"{norm}.weight"] = (width,)
            if self.normalization == "dynamic-tanh":
                table[f"{norm}.alpha"], table[f"{norm}.bias"] = (1,), (width,)
        if not self.tie_word_embeddings:
            table["lm_head.weight"] = (self.vocab_size, width)
        return table


_SIZES = {
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
}
_PLAIN_FIELDS = (
    *sorted(_SIZES),
    "rms_norm_eps",
    "normalization",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "bos_token_id",
)


def _read_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"rope_type {kind!r} is not supported: 'default' or 'llama3'")
    return RopeScaling(**{name: rope[name] for name in RopeScaling.__dataclass_fields__})


class Llama:
    """A Llama model.

    `tensors` has the names and shapes of `config.shapes()`; a tied output projection is added as
    "lm_head.weight", so that ops see one more linear layer.
    """

    def __init__(self, config: LlamaConfig, tensors: Mapping[str, Array]):
        self.config = config
        self.tensors = dict(tensors)
        if config.tie_word_embeddings:
            self.tensors["lm_head.weight"] = self.tensors["model.embed_tokens.weight"]
        self._frequencies = rope_frequencies(config)

    def forward(
        self, tokens: ArrayLike, ops: Ops, cache: Cache | None = None, last_only: bool = False
    ) -> Array:
        """Predict the next token after every token.

        Parameters
        ----------
        tokens : (B, T) array of token ids.
        ops : the arithmetic, holding this network's tensors.
        cache : what `ops.new_cache()` returned, for generation: `tokens` continue it.
        last_only : return only the logits after the last token.

        Returns
        -------
        (B, T, vocabulary) array of logits, or (B, 1, vocabulary)

        Raises
        ------
        ParameterError
            There are no tokens, one is not in the vocabulary, or the context is too long.
        """
        start = cache.length if cache is not None else 0
        longest = self.config.max_position_embeddings
        ids = check_tokens(tokens, self.config.vocab_size, longest, start)
        rotation = rotary_angles(self._frequencies, start, ids.shape[1])
        x = self.tensors["model.embed_tokens.weight"][ids]  # (B, T, width)
        for i in range(self.config.num_hidden_layers):
            layer = f"model.layers.{i}"
            h = self._normalize(f"{layer}.input_layernorm", x, ops)
            x = x + self._attend(f"{layer}.self_attn", h, ops, rotation, cache)
            h = self._normalize(f"{layer}.post_attention_layernorm", x, ops)
            x = x + _feed_forward(f"{layer}.mlp", h, ops)
        if last_only:
            x = x[:, -1:]
        return ops.linear("lm_head", self._normalize("model.norm", x, ops))

    def _normalize(self, name: str, x: Array, ops: Ops) -> Array:
        """RMSNorm: divide by the root of the mean square, then scale each channel."""
        if self.config.normalization == "dynamic-tanh":
            return ops.dynamic_tanh(name, x)
        mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
        scale = 1.0 / np.sqrt(mean_square + np.float32(self.config.rms_norm_eps))
        scaled: Array = self.tensors[f"{name}.weight"] * (x * scale)
        return scaled

    def _attend(
        self, name: str, h: Array, ops: Ops, rotation: tuple[Array, Array], cache: Cache | None
    ) -> Array:
        batch, time, _ = h.shape

        def project(which: str, heads: int) -> Array:
            z = ops.linear(f"{name}.{which}_proj", h)
            return z.reshape(batch, time, heads, self.config.head_dim).swapaxes(1, 2)

        q = rotate(project("q", self.config.num_attention_heads), rotation)  # (B, H, T, D)
        k = rotate(project("k", self.config.num_key_value_heads), rotation)
        v = project("v", self.config.num_key_value_heads)
        mixed = ops.attention(name, q, k, v, cache)
        return ops.linear(f"{name}.o_proj", mixed.swapaxes(1, 2).reshape(batch, time, -1))


def _feed_forward(name: str, h: Array, ops: Ops) -> Array:
    """SwiGLU: silu(gate) * up, then down."""
    gate = ops.linear(f"{name}.gate_proj", h, "silu")
    up = ops.linear(f"{name}.up_proj", h)
    return ops.linear(f"{name}.down_proj", ops.multiply(f"{name}.product", gate, up))


def rope_frequencies(config: LlamaConfig) -> Array:
    """Return the head_dim / 2 rotary frequencies [radian per token], fastest first."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_max_position_embeddings * frequencies / (2.0 * math.pi)
    band = scaling.high_freq_factor - scaling.low_freq_factor
    fast = np.clip((turns - scaling.low_freq_factor) / band, 0.0, 1.0)
    blended: Array = frequencies * (fast + (1.0 - fast) / scaling.factor)
    return blended.astype(np.float32)


def rotary_angles(frequencies: Array, start: int, time: int) -> tuple[Array, Array]:
    """Return cosine and sine (time, head_dim / 2) for the positions from `start` on."""
    positions = np.arange(start, start + time, dtype=np.float32)
    angles = positions[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


def rotate(x: Array, rotation: tuple[Array, Array]) -> Array:
    """Turn x (B, H, T, D) by its positions; entry i pairs with entry i + D/2."""
    cosine, sine = rotation
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)

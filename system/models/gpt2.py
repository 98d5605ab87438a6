"""The GPT-2 decoder: learned positions, layer normalisation before each block, GELU.

References: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section
2.3. Tensor names, config keys and the layout (in, out) of matrices are those of Hugging Face.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.errors import CheckpointError
from system.models.ops import Activation, Array, Cache, Ops, layer_norm
from system.models.tokens import check_tokens

ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# Variants of attention that transformers knows and that are not computed here.
_PLAIN = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
# Weights that are stored (in, out) and end in these names.
_MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_STORED_TURNED = tuple(f".{name}.weight" for name in _MATRICES)


@dataclass(frozen=True)
class Gpt2Config:
    """Shape of a GPT-2 model; fields are the keys of Hugging Face's config.json.

    Attributes
    ----------
    vocab_size : number of token ids.
    n_positions : longest context [tokens].
    n_embd : width of the residual stream.
    n_layer : blocks.
    n_head : attention heads.
    n_inner : width inside the feed-forward block; None: four times n_embd.
    activation_function : of the feed-forward block, a key of `ACTIVATIONS`.
    layer_norm_epsilon : added to the variance.
    tie_word_embeddings : the output projection is the embedding matrix.
    bos_token_id, eos_token_id : ids that begin a text and end it (several may end it).
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Gpt2Config":
        """Read Hugging Face's config.json.

        Raises
        ------
        CheckpointError
            The architecture is another one, a key is missing or the sizes do not fit together.
        """
        for key, value in _PLAIN.items():
            if config.get(key, value) is not value:
                raise CheckpointError(f"config.json: {key} {config[key]!r} is not supported")
        known = {key: config[key] for key in cls.__dataclass_fields__ if key in config}
        eos = known.pop("eos_token_id", None)
        ends = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
        try:
            made = cls(**known, eos_token_id=ends)
        except TypeError as error:
            raise CheckpointError(f"config.json is not a GPT-2's: {error}") from error
        made._check()
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the content of config.json, readable by transformers too."""
        config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **asdict(self)}
        config["eos_token_id"] = list(self.eos_token_id) or None
        return config

    @property
    def max_position_embeddings(self) -> int:
        """Longest context [tokens]."""
        return self.n_positions

    @property
    def inner(self) -> int:
        """Width inside the feed-forward block."""
        return self.n_inner or 4 * self.n_embd

    def _check(self) -> None:
        sizes = {
            name: getattr(self, name)
            for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")
            if (name, getattr(self, name)) != ("n_inner", None)
        }
        wrong = {k: v for k, v in sizes.items() if not (isinstance(v, int) and v > 0)}
        if wrong:
            raise CheckpointError(f"config.json: {wrong} must be positive whole numbers")
        if self.n_embd % self.n_head:
            raise CheckpointError(
                f"config.json: n_embd {self.n_embd} must be a multiple of n_head {self.n_head}"
            )
        if self.activation_function not in ACTIVATIONS:
            raise CheckpointError(
                f"activation_function {self.activation_function!r} is not supported: "
                f"{', '.join(ACTIVATIONS)}"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of a checkpoint; matrices are (in, out)."""
        width, inner = self.n_embd, self.inner
        sides = ((width, 3 * width), (width, width), (width, inner), (inner, width))
        table: dict[str, tuple[int, ...]] = {
            "transformer.wte.weight": (self.vocab_size, width),
            "transformer.wpe.weight": (self.n_positions, width),
        }
        norms = ["transformer.ln_f"]
        for block in (f"transformer.h.{i}" for i in range(self.n_layer)):
            norms += [f"{block}.ln_1", f"{block}.ln_2"]
            for name, (rows, columns) in zip(_MATRICES, sides, strict=True):
                table[f"{block}.{name}.weight"] = (rows, columns)
                table[f"{block}.{name}.bias"] = (columns,)
        for norm in norms:
            table[f"{norm}.weight"] = table[f"{norm}.bias"] = (width,)
        if not self.tie_word_embeddings:
            table["lm_head.weight"] = (self.vocab_size, width)
        return table


def rename(stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return tensors under the names of `Gpt2Config.shapes`; stored masks are left out.

    The first checkpoints have no "transformer." in front, and hold the causal mask of every block.
    """
    return {
        name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}": tensor
        for name, tensor in stored.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
    }


class Gpt2:
    """A GPT-2 model.

    `tensors` has the names and shapes of `config.shapes()`; matrices are turned to (out, in), and
    a tied output projection is added as "lm_head.weight".
    """

    def __init__(self, config: Gpt2Config, tensors: Mapping[str, Array]):
        self.config = config
        self.tensors = {
            name: np.ascontiguousarray(t.T) if name.endswith(_STORED_TURNED) else t
            for name, t in tensors.items()
        }
        if config.tie_word_embeddings:
            self.tensors["lm_head.weight"] = self.tensors["transformer.wte.weight"]

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
        ids = check_tokens(tokens, self.config.vocab_size, self.config.n_positions, start)
        positions = self.tensors["transformer.wpe.weight"][start : start + ids.shape[1]]
        x = self.tensors["transformer.wte.weight"][ids] + positions  # (B, T, width)
        for block in (f"transformer.h.{i}" for i in range(self.config.n_layer)):
            x = x + self._attend(f"{block}.attn", self._normalize(f"{block}.ln_1", x), ops, cache)
            x = x + self._feed_forward(f"{block}.mlp", self._normalize(f"{block}.ln_2", x), ops)
        if last_only:
            x = x[:, -1:]
        return ops.linear("lm_head", self._normalize("transformer.ln_f", x))

    def _normalize(self, name: str, x: Array) -> Array:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return layer_norm(x, weight, bias, self.config.layer_norm_epsilon)

    def _attend(self, name: str, h: Array, ops: Ops, cache: Cache | None) -> Array:
        batch, time, width = h.shape
        projected = ops.linear(f"{name}.c_attn", h)  # queries, keys and values beside each other
        heads = projected.reshape(batch, time, 3, self.config.n_head, -1)
        q, k, v = np.moveaxis(heads, (2, 3), (0, 2))  # (B, H, T, D) each
        mixed = ops.attention(name, q, k, v, cache)
        return ops.linear(f"{name}.c_proj", mixed.swapaxes(1, 2).reshape(batch, time, width))

    def _feed_forward(self, name: str, h: Array, ops: Ops) -> Array:
        activation = ACTIVATIONS[self.config.activation_function]
        return ops.linear(f"{name}.c_proj", ops.linear(f"{name}.c_fc", h, activation))

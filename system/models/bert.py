"""The BERT encoder: learned positions, attention to both sides, GELU, and a classifier on top.

References: Devlin et al., arXiv:1810.04805 (architecture); Reimers and Gurevych, arXiv:1908.10084,
section 3 (a sentence as the mean of its token vectors). Tensor names and config keys are those of
Hugging Face.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.errors import CheckpointError, ParameterError
from system.models.ops import Activation, Array, Mask, Ops, layer_norm
from system.models.tokens import check_tokens

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
POOLINGS = ("mean", "pooler")
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass(frozen=True)
class BertConfig:
    """Shape of a BERT encoder; fields are the keys of Hugging Face's config.json, and two of ours.

    Attributes
    ----------
    vocab_size : number of token ids.
    hidden_size : width of the residual stream.
    num_hidden_layers : blocks.
    num_attention_heads : attention heads.
    intermediate_size : width inside the feed-forward block.
    max_position_embeddings : longest text [tokens].
    type_vocab_size : kinds of segments (first and second sentence).
    hidden_act : of the feed-forward block, a key of `ACTIVATIONS`.
    layer_norm_eps : added to the variance.
    pooling : ours; a text is the "mean" of its token vectors, or what the "pooler" makes of the
        first one. Default: "pooler" for BertForSequenceClassification, else "mean".
    classes : ours; outputs of the classifier, 0 without one.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    pooling: str = "mean"
    classes: int = 0

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "BertConfig":
        """Read Hugging Face's config.json.

        Raises
        ------
        CheckpointError
            The architecture is another one, a key is missing or the sizes do not fit together.
        """
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise CheckpointError(
                f"position_embedding_type {config['position_embedding_type']!r} is not supported: "
                "'absolute'"
            )
        known = {key: config[key] for key in cls.__dataclass_fields__ if key in config}
        if "BertForSequenceClassification" in (config.get("architectures") or ()):
            # transformers leaves the labels out of the file when there are two.
            known.setdefault("classes", len(config.get("id2label") or (0, 1)))
            known.setdefault("pooling", "pooler")
        try:
            made = cls(**known)
        except TypeError as error:
            raise CheckpointError(f"config.json is not a BERT's: {error}") from error
        made._check()
        return made

    def _check(self) -> None:
        sizes = {name: getattr(self, name) for name in _SIZES}
        wrong = {k: v for k, v in sizes.items() if not (isinstance(v, int) and v > 0)}
        if wrong:
            raise CheckpointError(f"config.json: {wrong} must be positive whole numbers")
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"config.json: hidden_size {self.hidden_size} must be a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise CheckpointError(
                f"hidden_act {self.hidden_act!r} is not supported: {', '.join(ACTIVATIONS)}"
            )
        if self.pooling not in POOLINGS:
            raise CheckpointError(
                f"pooling {self.pooling!r} is not supported: {', '.join(POOLINGS)}"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of a checkpoint."""
        width, inner = self.hidden_size, self.intermediate_size
        table: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocab_size, width),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, width),
            "embeddings.token_type_embeddings.weight": (self.type_vocab_size, width),
        }
        norms, linears = ["embeddings.LayerNorm"], {}
        for layer in (f"encoder.layer.{i}" for i in range(self.num_hidden_layers)):
            for part in ("query", "key", "value"):
                linears[f"{layer}.attention.self.{part}"] = (width, width)
            linears[f"{layer}.attention.output.dense"] = (width, width)
            linears[f"{layer}.intermediate.dense"] = (inner, width)
            linears[f"{layer}.output.dense"] = (width, inner)
            norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        if self.pooling == "pooler":
            linears["pooler.dense"] = (width, width)
        for norm in norms:
            table[f"{norm}.weight"] = table[f"{norm}.bias"] = (width,)
        if self.classes:
            linears["classifier"] = (self.classes, width)
        for name, (rows, columns) in linears.items():
            table[f"{name}.weight"], table[f"{name}.bias"] = (rows, columns), (rows,)
        return table


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a checkpoint.

    Raises
    ------
    CheckpointError
        A key is missing, or the sizes do not fit together.
    """
    return BertConfig.from_dict(config).shapes()


def rename(stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return tensors under the names of `BertConfig.shapes`; stored position ids are left out.

    With a head the encoder's names begin with "bert.", and the first checkpoints call the weight
    and bias of a normalisation gamma and beta.
    """
    return {
        name.removeprefix("bert.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in stored.items()
        if not name.endswith("embeddings.position_ids")
    }


class Bert:
    """A BERT encoder with or without a classifier; `tensors` as `config.shapes()` says."""

    def __init__(self, config: BertConfig, tensors: Mapping[str, Array]):
        self.config = config
        self.tensors = dict(tensors)

    def forward(
        self,
        tokens: ArrayLike,
        ops: Ops,
        mask: Mask | None = None,
        token_types: ArrayLike | None = None,
    ) -> Array:
        """Classify texts, or turn each into a vector if there is no classifier.

        Parameters
        ----------
        tokens : (B, T) array of token ids, shorter texts filled up at will.
        ops : the arithmetic, holding this network's tensors.
        mask : (B, T) booleans, true where a token belongs to the text; None: everywhere.
        token_types : (B, T) array of segments; None: all of the first.

        Returns
        -------
        (B, classes) array of logits, or (B, width)

        Raises
        ------
        ParameterError
            There are no tokens, one is not in the vocabulary, a text is too long or empty, or
            shapes differ.
        """
        ids = check_tokens(tokens, self.config.vocab_size, self.config.max_position_embeddings)
        seen = np.ones(ids.shape, bool) if mask is None else np.asarray(mask, bool)
        if seen.shape != ids.shape or not seen.any(axis=1).all():
            raise ParameterError(
                f"the mask {seen.shape} of tokens {ids.shape} needs their shape and at least one "
                "token in every text"
            )
        x = self.encode(ids, ops, seen, token_types)
        if self.config.pooling == "pooler":
            pooled = ops.linear("pooler.dense", x[:, 0], "tanh")
        else:
            weights = seen.astype(np.float32)[:, :, None]
            pooled = (x * weights).sum(axis=1) / weights.sum(axis=1)
        return ops.linear("classifier", pooled) if self.config.classes else pooled

    def encode(
        self, ids: NDArray[Any], ops: Ops, mask: Mask, token_types: ArrayLike | None = None
    ) -> Array:
        """Return the vectors (B, T, width) of all tokens; arguments as in `forward`, checked."""
        types = np.zeros(ids.shape, np.int64) if token_types is None else np.asarray(token_types)
        if types.shape != ids.shape or not 0 <= types.min() <= types.max() < self._types:
            raise ParameterError(
                f"token_types must be {ids.shape} numbers from 0 to {self._types - 1}"
            )
        x = (
            self.tensors["embeddings.word_embeddings.weight"][ids]
            + self.tensors["embeddings.token_type_embeddings.weight"][types]
            + self.tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
        )
        x = self._normalize("embeddings", x)
        for layer in (f"encoder.layer.{i}" for i in range(self.config.num_hidden_layers)):
            mixed = self._attend(f"{layer}.attention", x, ops, mask)
            x = self._normalize(f"{layer}.attention.output", x + mixed)
            x = self._normalize(f"{layer}.output", x + self._feed_forward(layer, x, ops))
        return x

    @property
    def _types(self) -> int:
        return self.config.type_vocab_size

    def _normalize(self, name: str, x: Array) -> Array:
        weight, bias = (self.tensors[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return layer_norm(x, weight, bias, self.config.layer_norm_eps)

    def _attend(self, name: str, x: Array, ops: Ops, mask: Mask) -> Array:
        batch, time, width = x.shape

        def project(which: str) -> Array:
            z = ops.linear(f"{name}.self.{which}", x)
            return z.reshape(batch, time, self.config.num_attention_heads, -1).swapaxes(1, 2)

        q, k, v = project("query"), project("key"), project("value")  # (B, H, T, D)
        mixed = ops.attention(f"{name}.self", q, k, v, None, mask)
        return ops.linear(f"{name}.output.dense", mixed.swapaxes(1, 2).reshape(batch, time, width))

    def _feed_forward(self, name: str, x: Array, ops: Ops) -> Array:
        activation = ACTIVATIONS[self.config.hidden_act]
        inner = ops.linear(f"{name}.intermediate.dense", x, activation)
        return ops.linear(f"{name}.output.dense", inner)

"""The models of text by their `model_type` in config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from system.models import bert, gpt2
from system.models.bert import Bert, BertConfig
from system.models.classifier import Kind
from system.models.gpt2 import Gpt2, Gpt2Config
from system.models.llama import Llama, LlamaConfig
from system.models.ops import Array

LanguageModel: TypeAlias = Llama | Gpt2  # predicts the next token
TextModel: TypeAlias = LanguageModel | Bert


def _build_llama(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> TextModel:
    return Llama(LlamaConfig.from_dict(config), tensors)


def _build_gpt2(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> TextModel:
    return Gpt2(Gpt2Config.from_dict(config), tensors)


def _build_bert(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> TextModel:
    return Bert(BertConfig.from_dict(config), tensors)


# Optional: a copy of a tied matrix, a pooler that is not used, heads for pretraining.
KINDS = {
    "llama": Kind(
        lambda config: LlamaConfig.from_dict(config).shapes(), _build_llama, optional=("lm_head.",)
    ),
    "gpt2": Kind(
        lambda config: Gpt2Config.from_dict(config).shapes(),
        _build_gpt2,
        gpt2.rename,
        optional=("lm_head.",),
    ),
    "bert": Kind(bert.shapes, _build_bert, bert.rename, optional=("pooler.", "cls.")),
}

"""Tokenizers: byte-level byte-pair encoding, loaded, trained, or built from its two tables.

And WordPiece, as BERT has it, trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from circuits.errors import CheckpointError, ParameterError

END_OF_TEXT = "<|endoftext|>"
UNKNOWN, BEGIN, END = "[UNK]", "[CLS]", "[SEP]"
_CHUNK = 10_000  # characters handed to the trainer at a time

# Llama 3 splits numbers in threes and keeps the breaks after punctuation with it.
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = ("gpt-2", "smollm", "llama-bpe")


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a Hugging Face tokenizer.json.

    Raises
    ------
    CheckpointError
        The file is missing or is no tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises plain Exception for a malformed file
        raise CheckpointError(f"cannot read the tokenizer {path}: {error}") from error
    # Files of encoders say how to fill up and cut texts; a corpus must come through whole.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def train_tokenizer(text: str, vocab_size: int = 2048) -> Tokenizer:
    """Train a byte-level BPE; the same text always gives the same tokenizer.

    Token 0 is "<|endoftext|>"; the 256 bytes follow, so every text can be encoded.

    Parameters
    ----------
    text : the training text.
    vocab_size : number of tokens, at least 257.

    Raises
    ------
    ParameterError
        `vocab_size` leaves no room for the 256 bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size <= len(alphabet):
        raise ParameterError(f"vocab_size is {vocab_size}; needs at least {len(alphabet) + 1}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    chunks = (text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK))
    tokenizer.train_from_iterator(chunks, trainer)
    return tokenizer


def train_wordpiece(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train BERT's WordPiece, in small letters; the same texts always give the same tokenizer.

    Tokens 0 to 2 are "[UNK]", "[CLS]" and "[SEP]"; the last two stand around every encoded text.
    """
    marks = [UNKNOWN, BEGIN, END]
    learner = _wordpiece(models.WordPiece(unk_token=UNKNOWN))
    letters = sorted(
        {letter for text in texts for letter in learner.normalizer.normalize_str(text)}
    )
    # The trainer would number letters inside words by a hash that is another one every time.
    inside = [f"##{letter}" for letter in letters if not letter.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=marks + inside, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    tokenizer = _wordpiece(models.WordPiece(learner.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens(marks)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 1), (END, 2)]
    )
    return tokenizer


def _wordpiece(model: models.WordPiece) -> Tokenizer:
    """Return a tokenizer that splits text as BERT does."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def build_tokenizer(
    tokens: Sequence[str],
    merges: Sequence[str],
    special: Mapping[str, bool],
    pre_tokenizer: str,
) -> Tokenizer:
    """Build a byte-level BPE from its tables, as a GGUF file holds them.

    Parameters
    ----------
    tokens : every token by id, in the byte-level alphabet of GPT-2.
    merges : pairs "left right", best first.
    special : tokens matched whole before splitting; True leaves it out when decoding.
    pre_tokenizer : how text is split before merging, one of `PRE_TOKENIZERS`.

    Raises
    ------
    CheckpointError
        The split is unknown, or the tables do not fit together.
    """
    splits: dict[str, list[Any]] = {
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "smollm": [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ],
        "llama-bpe": [
            pre_tokenizers.Split(Regex(_LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    }
    if pre_tokenizer not in splits:
        raise CheckpointError(
            f"pre-tokenizer {pre_tokenizer!r} is not supported; known: {', '.join(PRE_TOKENIZERS)}"
        )
    try:
        pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
        model = models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=pairs,
            ignore_merges=pre_tokenizer == "llama-bpe",
        )
    except Exception as error:  # the library raises plain Exception for tables that do not fit
        raise CheckpointError(f"the tokenizer's tables do not fit together: {error}") from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits[pre_tokenizer])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, hidden in special.items() if hidden]
    )
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t, hidden in special.items() if not hidden]
    )
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> NDArray[np.int64]:
    """Return the tokens of texts, begin and end marked: (n, longest of them), -1 beyond each end.

    Texts are cut to `longest` tokens.
    """
    tokenizer.enable_truncation(longest)
    found = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    tokens = np.full((len(found), max(len(ids) for ids in found)), -1, np.int64)
    for row, ids in zip(tokens, found, strict=True):
        row[: len(ids)] = ids
    return tokens


def encode(tokenizer: Tokenizer, text: str) -> NDArray[np.int64]:
    """Return the token ids of a text, without begin or end tokens added."""
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

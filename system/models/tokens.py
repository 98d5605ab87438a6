"""Token ids, checked before a language model looks them up."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.errors import ParameterError


def check_tokens(tokens: ArrayLike, vocabulary: int, context: int, start: int = 0) -> NDArray[Any]:
    """Return token ids as an array.

    Parameters
    ----------
    tokens : (B, T) array of token ids.
    vocabulary : number of token ids.
    context : longest text [tokens].
    start : tokens that these continue.

    Raises
    ------
    ParameterError
        There are no tokens, one is not in the vocabulary, or the text is too long.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise ParameterError(
            f"tokens must be whole numbers (batch, time), at least one; got {ids.dtype} "
            f"{ids.shape}. An empty prompt needs a begin-of-text token."
        )
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise ParameterError(
            f"token ids {ids.min()} to {ids.max()} leave the vocabulary "
            f"(0 to {vocabulary - 1}): wrong tokenizer for this model?"
        )
    length = start + ids.shape[1]
    if length > context:
        raise ParameterError(
            f"the text has {length} tokens, the model's context holds {context}: shorten the "
            "prompt or --tokens"
        )
    return ids

"""Pickles of other people's files, read without running what they say.

A pickle is a program. Here it may build numbers, text, lists and dictionaries, and call only the
functions that the caller allows by name.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any

from circuits.errors import FormatError

Allowed = Mapping[tuple[str, str], Any]


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        stream: IO[bytes],
        allowed: Allowed,
        persistent: Callable[[Any], Any] | None,
        encoding: str,
    ):
        super().__init__(stream, encoding=encoding)
        self._allowed, self._persistent = allowed, persistent

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise FormatError(f"the pickle asks for {module}.{name}, which is not data") from None

    def persistent_load(self, key: Any) -> Any:
        if self._persistent is None:
            raise FormatError("the pickle refers to objects outside itself")
        return self._persistent(key)


def load_pickle(
    stream: IO[bytes],
    allowed: Allowed,
    persistent: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """Read one pickle and leave the stream behind it.

    Parameters
    ----------
    stream : a binary file.
    allowed : (module, name) in the pickle -> what stands for it here.
    persistent : turns a persistent id into an object; None: there must be none.
    encoding : of byte strings written by Python 2; "bytes" keeps them as they are.

    Raises
    ------
    FormatError
        The pickle is damaged, or asks for anything that is not allowed.
    """
    try:
        return _Unpickler(stream, allowed, persistent, encoding).load()
    except FormatError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise FormatError(f"not a pickle that can be read: {error!r}") from error

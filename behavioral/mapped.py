"""Trees of dataclasses and arrays in an HDF5 file, whose large arrays are mapped, not read.

A mapped array takes no memory until it is used, and gives it back when other programs need it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from circuits.errors import FormatError
from circuits.files import replacing

MAPPED_FROM = 1 << 16  # bytes: smaller arrays are read together
ALIGNMENT = 64  # bytes: a line of the processor's cache
Classes = Mapping[str, type]


def write(place: Path, tree: Any, key: str) -> None:
    """Write a tree of dataclasses, lists, tuples, dicts, arrays, numbers, strings and None.

    Parameters
    ----------
    place : Path
        Replaced whole or not at all.
    tree : Any
    key : str
        What :func:`read` must be asked for.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full.
    """
    arrays: list[NDArray[Any]] = []
    tree = _describe(tree, arrays)
    small, places = _gather(arrays)
    described = json.dumps({"key": key, "tree": tree, "arrays": places})
    with (
        replacing(place) as scratch,
        h5py.File(
            scratch, "w", libver="latest", alignment_threshold=1, alignment_interval=ALIGNMENT
        ) as file,
    ):
        for number, (array, known) in enumerate(zip(arrays, places, strict=True)):
            if known is None:
                file.create_dataset(str(number), data=array)
        file.create_dataset("small", data=np.frombuffer(small, np.uint8))
        # The last thing written: without it a file is not whole.
        file.create_dataset("tree", data=np.frombuffer(described.encode(), np.uint8))


def read(place: Path, classes: Classes, key: str) -> Any:
    """Read what :func:`write` wrote; arrays may be changed in memory, never in the file.

    Parameters
    ----------
    place : Path
    classes : dict of name to dataclass
        The only classes that are made.
    key : str

    Raises
    ------
    FormatError
        Not such a file, a damaged one, or one of another key.
    """
    try:
        with h5py.File(place, "r") as file:
            told = json.loads(bytes(file["tree"][:]))
            if told["key"] != key:
                raise FormatError(f"{place} holds something else; delete it")
            small = bytearray(file["small"][:])
            arrays = [
                _map(place, file[str(number)]) if known is None else _cut(small, *known)
                for number, known in enumerate(told["arrays"])
            ]
            return _rebuild(told["tree"], arrays, classes)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(f"{place} is damaged ({error}); delete it") from error


def digest(tree: Any) -> str:
    """Return a digest of a tree of dataclasses and arrays: equal for equal contents alone."""
    arrays: list[NDArray[Any]] = []
    told = json.dumps(_describe(tree, arrays), default=repr)
    found = hashlib.blake2b(told.encode(), digest_size=32)
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _describe(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Return what JSON can say of a value; arrays go into the list."""
    if isinstance(value, (np.ndarray, np.generic)):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if is_dataclass(value):
        members = {f.name: _describe(getattr(value, f.name), arrays) for f in fields(value)}
        return {"class": type(value).__name__, "fields": members}
    if isinstance(value, tuple):
        return {"tuple": [_describe(one, arrays) for one in value]}
    if isinstance(value, list):
        return [_describe(one, arrays) for one in value]
    if isinstance(value, dict):
        return {"dict": [[key, _describe(one, arrays)] for key, one in value.items()]}
    return value


def _rebuild(told: Any, arrays: list[NDArray[Any]], classes: Classes) -> Any:
    if isinstance(told, list):
        return [_rebuild(one, arrays, classes) for one in told]
    if not isinstance(told, dict):
        return told
    if "array" in told:
        found = arrays[told["array"]]
        return found if found.ndim else found[()]
    if "tuple" in told:
        return tuple(_rebuild(one, arrays, classes) for one in told["tuple"])
    if "dict" in told:
        return {key: _rebuild(one, arrays, classes) for key, one in told["dict"]}
    members = {name: _rebuild(one, arrays, classes) for name, one in told["fields"].items()}
    return classes[told["class"]](**members)


def _gather(arrays: list[NDArray[Any]]) -> tuple[bytes, list[tuple[str, Any, int] | None]]:
    """Return the bytes of all small arrays, and of each dtype, shape and place; None: large.

    A data set of its own takes a fifth of a millisecond to open, and a layer has fifty of them.
    """
    parts: list[bytes] = []
    places: list[tuple[str, Any, int] | None] = []
    size = 0
    for array in arrays:
        if array.nbytes >= MAPPED_FROM:
            places.append(None)
            continue
        places.append((array.dtype.str, array.shape, size))
        parts.append(array.tobytes().ljust(-(-array.nbytes // ALIGNMENT) * ALIGNMENT, b"\0"))
        size += len(parts[-1])
    return b"".join(parts), places


def _cut(small: bytearray, dtype: str, shape: list[int], place: int) -> NDArray[Any]:
    return np.ndarray(shape, dtype, small, place)


def _map(place: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    shape, offset = dataset.shape, dataset.id.get_offset()
    # "c": what is changed stays in memory; kernels are not compiled again for read-only arrays.
    return np.memmap(place, dataset.dtype, "c", offset, shape).view(np.ndarray)

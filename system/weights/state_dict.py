"""State dictionaries of torch (.pth, .pt, .bin), read without torch and without running code.

Two formats are in use: since torch 1.6 a zip archive with one pickle and a file per storage;
before, a row of pickles followed by the storages.
"""

from __future__ import annotations

import math
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import CheckpointError, FormatError
from system.weights.pickles import load_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _Storage:
    """The numbers behind one or more tensors: a key, what they are and how many."""

    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, as the pickle describes it; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def resolve(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return the tensor's own copy of its numbers."""
        steps = zip(self.shape, self.stride, strict=True)
        last = self.offset + sum((n - 1) * step for n, step in steps)
        inside = min((self.offset, *self.shape, *self.stride)) >= 0 and last < len(data)
        if math.prod(self.shape) and not inside:
            raise FormatError(f"a tensor of shape {self.shape} reaches beyond its storage")
        strides = [step * data.itemsize for step in self.stride]
        values = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides).copy()
        if self.storage.kind == "BFloat16Storage":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values


def read_state_dict(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read name -> array; a dictionary under "state_dict" is taken in place of the whole.

    Raises
    ------
    CheckpointError
        The file cannot be read, or holds more than plain tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as archive:
                    content, read = _open_zip(archive)
                    return _resolve(content, read)
            stream.seek(0)
            return _resolve(*_open_legacy(stream))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, FormatError) as error:
        raise CheckpointError(
            f"cannot read {path} as a torch state dictionary: {error}. Save it anew with "
            "torch.save(model.state_dict(), path), or as model.safetensors"
        ) from error


def _resolve(content: Any, read: Callable[[_Storage], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise FormatError(f"it holds a {type(content).__name__}, wanted names and tensors")
    odd = [str(name) for name, value in content.items() if not isinstance(value, _Tensor)]
    if odd:
        raise FormatError(f"these entries are no tensors: {', '.join(odd[:8])}")
    storages = {tensor.storage: read(tensor.storage) for tensor in content.values()}
    return {str(name): tensor.resolve(storages[tensor.storage]) for name, tensor in content.items()}


def _load(stream: IO[bytes]) -> Any:
    allowed: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        **{("torch", kind): kind for kind in _STORAGES},
    }
    return load_pickle(stream, allowed, _persistent)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


def _persistent(key: Any) -> _Storage:
    """Read ("storage", kind, key, location, size, ...)."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise FormatError(f"unknown reference {key!r}")
    return _Storage(str(key[1]), str(key[2]), int(key[4]))


def _open_zip(archive: zipfile.ZipFile) -> tuple[Any, Callable[[_Storage], NDArray[Any]]]:
    found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise FormatError("the archive has no data.pkl")
    folder = found[0].removesuffix("data.pkl")
    with archive.open(found[0]) as stream:
        content = _load(stream)

    def read(storage: _Storage) -> NDArray[Any]:
        return _storage_data(archive.read(f"{folder}data/{storage.key}"), storage)

    return content, read


def _open_legacy(stream: IO[bytes]) -> tuple[Any, Callable[[_Storage], NDArray[Any]]]:
    if _load(stream) != _LEGACY_MAGIC:
        raise FormatError("it is neither a zip archive nor a file of torch before 1.6")
    _load(stream)  # version
    _load(stream)  # byte order and sizes of the machine that wrote it
    content = _load(stream)
    keys = _load(stream)
    start, places = stream.tell(), {str(key): i for i, key in enumerate(keys)}
    offsets: dict[str, int] = {}

    def read(storage: _Storage) -> NDArray[Any]:
        if not offsets:
            offsets.update(_storage_offsets(stream, start, content, places))
        stream.seek(offsets[storage.key])
        return _storage_data(stream.read(_bytes(storage)), storage)

    return content, read


def _storage_offsets(
    stream: IO[bytes], start: int, content: Any, places: dict[str, int]
) -> dict[str, int]:
    """Return key -> byte offset; each storage follows its length, a 64-bit integer."""
    tensors = content.get("state_dict", content) if isinstance(content, dict) else {}
    storages = {t.storage.key: t.storage for t in tensors.values() if isinstance(t, _Tensor)}
    offsets, at = {}, start
    for key in sorted(places, key=lambda k: places[k]):
        if key not in storages:
            raise FormatError(f"storage {key} belongs to no tensor")
        stream.seek(at)
        size = int.from_bytes(stream.read(8), "little")
        if size != storages[key].size:
            raise FormatError(f"storage {key} has {size} numbers, wanted {storages[key].size}")
        offsets[key] = at + 8
        at += 8 + _bytes(storages[key])
    return offsets


def _bytes(storage: _Storage) -> int:
    return storage.size * np.dtype(_STORAGES[storage.kind]).itemsize


def _storage_data(raw: bytes, storage: _Storage) -> NDArray[Any]:
    if len(raw) < _bytes(storage):
        raise FormatError(f"storage {storage.key} has {len(raw)} bytes, wanted {_bytes(storage)}")
    return np.frombuffer(raw, _STORAGES[storage.kind], storage.size)

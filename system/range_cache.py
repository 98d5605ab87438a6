"""Measured ranges, kept: the calibration of a network without stored ranges takes a minute."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.files import replacing
from system.calibration import Ranges
from system.data.fetch import cache_folder
from system.models.ops import Array

log = logging.getLogger(__name__)

VERSION = 2  # of the file and of what `RangeRecorder` notes; another one is measured again


def range_key(tensors: Table[str, Array], inputs: NDArray[Any], choices: dict[str, Any]) -> str:
    """Return the sha256 that names a calibration.

    Parameters
    ----------
    tensors : weights of the network
    inputs : calibration inputs, images or windows of tokens
    choices : all else that the ranges depend on; plain values for JSON.
    """
    digest = hashlib.sha256(json.dumps([VERSION, choices], sort_keys=True).encode())
    for name in sorted(tensors):
        _add(digest, name, tensors[name])
    _add(digest, "inputs", inputs)
    return digest.hexdigest()


def _add(digest: Any, name: str, array: NDArray[Any]) -> None:
    digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
    digest.update(np.ascontiguousarray(array).data)


def load_ranges(key: str) -> Ranges | None:
    """Return kept ranges; None if there are none, or the file is damaged, which is said."""
    path = _path(key)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s): the ranges are measured again.", path, error)
        return None


def store_ranges(key: str, ranges: Ranges) -> None:
    """Write ranges: to a temporary file beside their place, then moved."""
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch, zipfile.ZipFile(scratch, "w") as archive:
        for name, value in ranges.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)


def _path(key: str) -> Path:
    return cache_folder() / "ranges" / f"{key}.npz"

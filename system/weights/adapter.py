"""Low-rank adapters: a few megabytes beside published weights, merged before they are programmed.

A directory holds config.json with "base", the network whose weights are changed, and
adapter.safetensors with `NAME.down` (rank, in) and `NAME.up` (out, rank) for a layer NAME: its
weight becomes W + up @ down (LoRA, Hu et al., arXiv:2106.09685, section 4.1; no scaling factor).
Tensors of other names stand beside the base's or in their place: a classifier on an encoder. Beside
it, or alone, stands acam.h5 with windows tuned for the network that it makes of the base.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from circuits.errors import CheckpointError
from system.inputs import note
from system.weights.acam_windows import FILE, is_windows, load_windows
from system.weights.checkpoint import (
    Checkpoint,
    check_tensors,
    expected_shapes,
    has_weights,
    read_json,
)

Array = NDArray[np.float32]
Pairs = dict[str, tuple[Array, Array]]
_SIDES = (".down", ".up")

WEIGHTS = "adapter.safetensors"


def is_adapter(path: Path) -> bool:
    """Return whether a directory holds an adapter, or nothing but windows, for a base."""
    return (path / WEIGHTS).is_file() or ((path / FILE).is_file() and not has_weights(path))


def load_adapter(path: Path) -> tuple[dict[str, Any], Pairs, dict[str, Array]]:
    """Return config.json, the pairs (down, up) of every layer and the whole tensors, in float32.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, or a pair is incomplete or does not fit together.
    """
    note(path)
    config = read_json(path / "config.json")
    if not isinstance(config.get("base"), str):
        raise CheckpointError(f"{path / 'config.json'} names no base; wanted a network's name")
    try:
        stored = load_file(path / WEIGHTS) if (path / WEIGHTS).exists() else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path / WEIGHTS}: {error}") from error
    pairs: Pairs = {}
    for name in sorted({key.rpartition(".")[0] for key in stored if key.endswith(_SIDES)}):
        parts = [stored.get(name + side) for side in _SIDES]
        down, up = parts
        if down is None or up is None or down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1]:
            shapes = [None if part is None else part.shape for part in parts]
            raise CheckpointError(
                f"{path / WEIGHTS}: {name}.down and .up have the shapes {shapes[0]} and "
                f"{shapes[1]}, wanted (rank, in) and (out, rank)"
            )
        pairs[name] = (down.astype(np.float32), up.astype(np.float32))
    whole = {k: v.astype(np.float32) for k, v in stored.items() if not k.endswith(_SIDES)}
    return config, pairs, whole


def save_adapter(
    path: Path, config: Mapping[str, Any], pairs: Pairs, provenance: Mapping[str, Any],
    whole: Mapping[str, Array] | None = None,
) -> None:  # fmt: skip
    """Write an adapter's directory, in half precision, whole or not at all."""
    parts = {
        name + side: part
        for name, pair in pairs.items()
        for side, part in zip(_SIDES, pair, strict=True)
    }
    stored = {
        name: np.ascontiguousarray(part, np.float16)
        for name, part in {**parts, **(whole or {})}.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        save_file(stored, folder / WEIGHTS, metadata={"format": "np"})
        for name, content in (("config", config), ("provenance", provenance)):
            text = json.dumps(content, indent=2, sort_keys=True)
            (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
        if path.exists():
            path.replace(Path(scratch) / "old")
        folder.replace(path)


def merge(base: Checkpoint, path: Path) -> Checkpoint:
    """Return the base with an adapter's pairs added to its weights, its whole tensors and windows.

    Ranges that the base holds stay: training ran on them. So do its windows, if there are no own.

    Raises
    ------
    CheckpointError
        As `load_adapter`, or the adapter does not fit the base.
    """
    config, pairs, whole = load_adapter(path)
    tensors = dict(base.tensors)
    for name, (down, up) in pairs.items():
        weight = tensors.get(f"{name}.weight")
        shape = (len(up), down.shape[1])
        if weight is None or weight.shape != shape:
            found = "is missing" if weight is None else f"has the shape {weight.shape}"
            raise CheckpointError(
                f"{path / WEIGHTS} is for {name}.weight {shape}; in {config['base']} it {found}"
            )
        if not (np.isfinite(down).all() and np.isfinite(up).all()):
            raise CheckpointError(f"{path / WEIGHTS}: infinite or NaN values in {name}")
        change = np.zeros_like(weight)
        for one, other in zip(up.T, down, strict=True):  # BLAS has other last bits elsewhere, and
            change += np.outer(one, other)  # the windows of acam.h5 are for weights to the bit
        tensors[f"{name}.weight"] = weight + change
    config = base.config | config
    shapes = expected_shapes({k: v for k, v in config.items() if k != "base"})
    tensors = check_tensors(tensors | whole, shapes, str(path / WEIGHTS))
    extra = {file.stem: read_json(file) for file in path.glob("*.json") if file.stem != "config"}
    rows, windows = load_windows(path)
    kept = {k: v for k, v in base.analog.items() if not (windows and is_windows(k))}
    return Checkpoint(
        config, tensors, kept | rows, extra, base.tokenizer, base.chat_template,
        windows or base.windows,
    )  # fmt: skip

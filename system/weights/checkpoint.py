"""Checkpoints: a Hugging Face style directory, or a GGUF file; read without torch.

A directory holds config.json, model.safetensors (or several with model.safetensors.index.json, or
torch's pytorch_model.bin), tokenizer.json for language models, acam.h5 with the windows of its ACAM
units if it was trained here, and any further *.json (metrics, provenance). Tensors named
"analog..." belong to the analog execution (ranges), not to the network.
"""

import difflib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from circuits.errors import CheckpointError
from system.inputs import note
from system.models import classifier, language
from system.models.classifier import Classifier, Kind
from system.models.language import TextModel
from system.tokenizer import load_tokenizer
from system.weights import acam_windows, gguf
from system.weights.state_dict import read_state_dict

Array = NDArray[np.float32]

ANALOG_PREFIX = "analog."
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TORCH_WEIGHTS = ("pytorch_model.bin", "model.pth")  # read when there is no safetensors file
_HUGGING_FACE_JSON = {"config", "tokenizer", "model.safetensors.index"}
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "BOOL": "?",
}


@dataclass(frozen=True)
class Checkpoint:
    """A network's parameters, checked against the names and shapes its config asks for.

    Attributes
    ----------
    config : content of config.json; keys unknown to the network are kept.
    tensors : the network's parameters, float32.
    analog : tensors of the analog execution, without their "analog." prefix, as stored, and the
        windows of acam.h5.
    extra : content of every further JSON file, by its name without ".json".
    tokenizer, chat_template : of a language model, when it has them.
    windows : what made the windows of acam.h5, as in `acam_windows`; empty without the file.
    """

    config: dict[str, Any]
    tensors: dict[str, Array]
    analog: dict[str, NDArray[Any]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    windows: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Classifier | TextModel:
        """Return the network with these parameters."""
        return find_kind(self.config).build(self.config, self.tensors)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a checkpoint directory or a GGUF file.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, the architecture is unknown, or tensors are missing,
        unexpected or misshapen; the message lists them.
    FormatError
        A GGUF file is truncated or of an unsupported type.
    """
    path = Path(path)
    note(path)
    if path.is_file():
        return _load_gguf(path)
    if not path.is_dir():
        raise CheckpointError(f"{path} is neither a checkpoint directory nor a GGUF file")
    config = read_json(path / "config.json")
    expected = expected_shapes(config)
    stored = {name: tensor for file in _weight_files(path) for name, tensor in _read(file).items()}
    analog = {
        name.removeprefix(ANALOG_PREFIX): stored.pop(name)
        for name in sorted(stored)
        if name.startswith(ANALOG_PREFIX)
    }
    rows, windows = acam_windows.load_windows(path)
    tensors = check_tensors(_drop_redundant(stored, config, expected), expected, str(path))
    tokenizer = path / "tokenizer.json"
    return Checkpoint(
        config,
        tensors,
        analog | rows,
        {
            file.stem: read_json(file)
            for file in sorted(path.glob("*.json"))
            if file.stem not in _HUGGING_FACE_JSON
        },
        load_tokenizer(tokenizer) if tokenizer.exists() else None,
        _chat_template(path),
        windows,
    )


def has_weights(path: Path) -> bool:
    """Return whether a directory holds a network's own weights."""
    return any((path / name).exists() for name in (_WEIGHTS, _INDEX, *_TORCH_WEIGHTS))


def _chat_template(path: Path) -> str | None:
    """Return the template of a directory: a file of its own, or as older ones have it.

    tokenizer_config.json holds a text, or a list of named ones; "default" is for chats.
    """
    file, config = path / "chat_template.jinja", path / "tokenizer_config.json"
    try:
        if file.exists():
            return file.read_text(encoding="utf-8")
        found = read_json(config).get("chat_template") if config.exists() else None
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}.get("default")
    except (OSError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read the chat template in {path}: {error!r}") from error
    if found is not None and not isinstance(found, str):
        raise CheckpointError(f"{config}: chat_template is {found!r}, wanted a text")
    return found


def _load_gguf(path: Path) -> Checkpoint:
    file = gguf.GgufFile(path)
    config = gguf.read_config(file)
    tensors = check_tensors(gguf.read_tensors(file, config), config.shapes(), str(path))
    return Checkpoint(
        config.to_dict(),
        tensors,
        tokenizer=gguf.read_tokenizer(file),
        chat_template=file.metadata.get("tokenizer.chat_template"),
    )


def save_checkpoint(
    path: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Array],
    *,
    analog: Mapping[str, NDArray[Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
    readme: str | None = None,
) -> None:
    """Write a checkpoint directory, replacing one that is there only when all is written.

    Parameters
    ----------
    path : the directory.
    config : content of config.json, with "model_type".
    tensors : the network's parameters.
    analog : tensors of the analog execution; stored with the prefix "analog.".
    extra : name -> content of further JSON files, for example {"metrics": {...}}.
    tokenizer : of a language model.
    readme : provenance: the command and seeds that make this checkpoint again.

    Raises
    ------
    CheckpointError
        The tensors do not fit the config.
    """
    path = Path(path)
    checked = check_tensors(dict(tensors), expected_shapes(config), str(path))
    stored: dict[str, NDArray[Any]] = {k: np.ascontiguousarray(v) for k, v in checked.items()}
    for name, tensor in (analog or {}).items():
        stored[ANALOG_PREFIX + name] = np.ascontiguousarray(tensor)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        save_file(stored, folder / _WEIGHTS, metadata={"format": "np"})
        for name, content in {"config": config, **(extra or {})}.items():
            text = json.dumps(content, indent=2, sort_keys=True)
            (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save(str(folder / "tokenizer.json"))
        if readme is not None:
            (folder / "README.md").write_text(readme, encoding="utf-8")
        if path.exists():
            path.replace(Path(scratch) / "old")
        folder.replace(path)


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that a network of this config has.

    Raises
    ------
    CheckpointError
        The architecture is unknown or the config is incomplete.
    """
    return find_kind(config).shapes(config)


def find_kind(config: Mapping[str, Any]) -> Kind[Classifier] | Kind[TextModel]:
    """Return the architecture that config.json names.

    Raises
    ------
    CheckpointError
        It is unknown.
    """
    name = config.get("model_type")
    if name in classifier.KINDS:
        return classifier.KINDS[name]
    if name in language.KINDS:
        return language.KINDS[name]
    supported = ", ".join(repr(kind) for kind in (*classifier.KINDS, *language.KINDS))
    raise CheckpointError(f"config.json: model_type is {name!r}; supported: {supported}")


def check_tensors(
    tensors: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, Array]:
    """Return the tensors in float32, in the order of `expected`.

    Raises
    ------
    CheckpointError
        Names or shapes differ, or a value is not finite; the message lists up to eight of each.
    """
    spare = [name for name in tensors if name not in expected]
    kinds = {
        "missing": [name + _nearest(name, spare) for name in expected if name not in tensors],
        "unexpected": spare,
        "wrong shape": [
            f"{name} (want {shape}, got {tensors[name].shape})"
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    lines = [f"  {kind}: {_shorten(names)}" for kind, names in kinds.items() if names]
    if lines:
        raise CheckpointError(
            "\n".join([f"{where}: the tensors do not fit the model of config.json", *lines])
        )
    checked = {name: tensors[name].astype(np.float32, copy=False) for name in expected}
    broken = [name for name, tensor in checked.items() if not np.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{where}: infinite or NaN values in {_shorten(broken)}")
    return checked


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f" (nearest: {near[0]})" if near else ""


def _shorten(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _drop_redundant(
    stored: dict[str, NDArray[Any]],
    config: Mapping[str, Any],
    expected: Mapping[str, tuple[int, ...]],
) -> dict[str, NDArray[Any]]:
    """Leave out what exporters add: rotary tables, a copy of a tied matrix, batch counters."""
    kind = find_kind(config)
    return {
        name: tensor
        for name, tensor in kind.rename(stored).items()
        if name in expected
        or not (
            name.endswith(("rotary_emb.inv_freq", ".num_batches_tracked"))
            or name.startswith(kind.optional)
        )
    }


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CheckpointError
        The file is missing, is no JSON, or is no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, wanted an object {{...}}")
    return content


def _weight_files(path: Path) -> list[Path]:
    if not (path / _INDEX).exists():
        found = [path / name for name in _TORCH_WEIGHTS if (path / name).exists()]
        return found[:1] if found and not (path / _WEIGHTS).exists() else [path / _WEIGHTS]
    names = read_json(path / _INDEX).get("weight_map")
    if not isinstance(names, dict):
        raise CheckpointError(f"{path / _INDEX} has no weight_map")
    return [path / Path(str(name)).name for name in sorted(set(names.values()))]


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Map a safetensors file into memory; bfloat16 is widened to float32.

    The library checks header and lengths; numpy reads, because it has no bfloat16 to hand out.
    """
    if path.name in _TORCH_WEIGHTS:
        return read_state_dict(path)
    try:
        with safe_open(path, framework="np"):
            pass
        data = np.memmap(path, np.uint8, mode="r")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    tensors = {}
    for name, entry in json.loads(data[8:start].tobytes()).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise CheckpointError(f"{path}: tensor {name} has the type {entry['dtype']}")
        begin, end = entry["data_offsets"]
        tensor = data[start + begin : start + end].view(_DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            tensor = (tensor.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = np.array(tensor).reshape(entry["shape"])
    return tensors

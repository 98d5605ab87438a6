"""Files of parameters in TOML: declared keys, reading, overriding, writing, errors that help.

A class derived from ``TomlFile`` declares its keys with ``number_key``, ``text_key`` and
``section_key``; meaning, unit and permitted range stand there once, for files, ``--set`` and help.
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from circuits.errors import ParameterError
from circuits.units import parse_number


def number_key(
    text: str,
    low: float,
    high: float,
    default: float | None = None,
    *,
    kind: str = "float",
    written: bool = True,
) -> Any:
    """Declare a numeric key: meaning with unit, permitted range, kind.

    With ``written=False`` its default is not written, so that libraries made before there was
    such a key keep their bytes.
    """
    meta = {"text": text, "low": low, "high": high, "kind": kind, "written": written}
    if default is None:
        return field(metadata=meta)
    return field(default=default, metadata=meta)


def text_key(text: str, default: str | None = None, *, written: bool = True) -> Any:
    """Declare a key that holds a text; ``written`` as for a number."""
    meta = {"text": text, "kind": "str", "written": written}
    return field(metadata=meta) if default is None else field(default=default, metadata=meta)


def section_key(cls: type, default: Any = dataclasses.MISSING, *, written: bool = True) -> Any:
    """Declare a section of further keys; with a default, which may be None, it may be left out."""
    meta = {"text": cls.__doc__ or "", "kind": "section", "section": cls, "written": written}
    return field(default=default, metadata=meta)


class TomlFile:
    """Reading, overriding and writing of a frozen dataclass whose fields are declared keys."""

    folder = ""
    moved: ClassVar[Mapping[str, str]] = {}  # former key to its present one, both section.leaf

    @classmethod
    def from_toml(cls, name_or_path: str | Path) -> Self:
        """Read a shipped file by its name, or any file by its path.

        Raises
        ------
        ParameterError
            Unknown name, unreadable file, invalid TOML, or a key that is unknown, missing, of the
            wrong type or out of range.
        """
        path = locate(str(name_or_path), cls.folder)
        text = read_text(path)
        loaded = cls.from_text(text, where=str(path))
        return loaded._resolve(path.parent)

    @classmethod
    def from_text(cls, text: str, where: str = "text") -> Self:
        """Read TOML text; ``where`` names its origin in error messages."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ParameterError(f"{where}: not valid TOML: {error}") from error
        for old, new in cls.moved.items():
            _move(table, old, new)
        return cast(Self, _build(cls, table, where, ""))

    def override(self, values: Mapping[str, str], where: str = "--set") -> Self:
        """Return a copy with ``{dotted key: text}`` replaced; texts may carry SPICE suffixes."""
        changed: Any = self
        for key, text in values.items():
            section, _, leaf = key.rpartition(".")
            if section:
                part = getattr(changed, section)
                if part is None:
                    raise ParameterError(
                        f"{where}: {key} cannot be changed: the file has no section [{section}]"
                    )
                value = _convert(key_table(type(part))[leaf], text, where, key)
                changed = replace(changed, **{section: replace(part, **{leaf: value})})
            else:
                value = _convert(key_table(type(self))[leaf], text, where, key)
                changed = replace(changed, **{leaf: value})
        changed = changed._completed(values)
        changed._check(where)
        return cast(Self, changed)

    def to_toml(self) -> str:
        """Return canonical TOML text: same parameters, same text. Hash this for provenance."""
        plain, tables = [], []
        for name, item in key_table(type(self)).items():
            value = getattr(self, name)
            if value is None or not _is_written(item, value):
                continue
            if item.metadata["kind"] == "section":
                leaves = key_table(type(value)).items()
                lines = [
                    f"{leaf} = {_format(getattr(value, leaf))}"
                    for leaf, key in leaves
                    if _is_written(key, getattr(value, leaf))
                ]
                tables.append("\n".join([f"\n[{name}]", *lines]))
            else:
                plain.append(f"{name} = {_format(value)}")
        return "\n".join(plain + tables) + "\n"

    def _resolve(self, folder: Path) -> Self:
        return self

    def _check_given(self, where: str) -> None:
        """Check what concerns several keys of a file, as they stand in it."""

    def _completed(self, changed: Collection[str]) -> Self:
        """Return a copy in which what follows from other keys, some just changed, is up to date."""
        return self

    def _check(self, where: str) -> None:
        """Check what concerns several keys, once all are known."""


def key_comments(text: str) -> dict[str, str]:
    """Return the comment that stands above each key of a TOML text, by full key.

    A comment speaks for all keys that follow it without a blank line or another comment; one above
    a section for all of its keys.
    """
    found: dict[str, str] = {}
    section, common, lines, fresh = "", list[str](), list[str](), False
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("#"):
            lines = [*lines, word[1:].strip()] if fresh else [word[1:].strip()]
            fresh = True
            continue
        fresh = False
        if word.startswith("["):
            section, common = word.strip("[] ") + ".", lines
        key, equals, _ = word.partition("=")
        if equals and (lines or common):
            found[section + key.strip()] = " ".join([*common, *lines])
        elif not equals:
            lines = []
    return found


def shipped_names(folder: str) -> list[str]:
    """Return the names of the shipped ``devices`` or ``technologies``."""
    entries = resources.files("netlists").joinpath(folder).iterdir()
    return sorted(e.name.removesuffix(".toml") for e in entries if e.name.endswith(".toml"))


def read_text(path: Path) -> str:
    """Return the text of a parameter file.

    Raises
    ------
    ParameterError
        It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"cannot read {path}: {error}") from error


def locate(name_or_path: str, folder: str) -> Path:
    """Return the path of a shipped file of that name, or of the user's own.

    Raises
    ------
    ParameterError
        There is neither; the message names the nearest.
    """
    shipped = Path(str(resources.files("netlists"))) / folder / f"{name_or_path}.toml"
    if name_or_path in shipped_names(folder):
        return shipped
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    names = shipped_names(folder)
    raise ParameterError(
        f"no file {name_or_path!r}, and no shipped {folder} of that name"
        f"{nearest(name_or_path, names)}; shipped: {', '.join(names)}"
    )


def _move(table: dict[str, Any], old: str, new: str) -> None:
    """Rename a key that an older file may have; the present name wins."""
    (section, leaf), (target, name) = old.split("."), new.split(".")
    part = table.get(section)
    if isinstance(part, dict) and leaf in part:
        value = part.pop(leaf)
        if isinstance(table.setdefault(target, {}), dict):
            table[target].setdefault(name, value)


def _build(cls: type, table: Mapping[str, Any], where: str, prefix: str) -> Any:
    """Build a class from a parsed table; one error names all that is wrong with it."""
    spec = key_table(cls)
    faults = [
        f"{where}: unknown key {prefix + key!r}{nearest(key, list(spec), prefix)}"
        for key in table
        if key not in spec
    ]
    values = {}
    for key, item in spec.items():
        if key in table:
            try:
                values[key] = _convert(item, table[key], where, prefix + key)
            except ParameterError as error:
                faults.append(str(error))
        elif item.default is not dataclasses.MISSING:
            values[key] = item.default
        else:
            kind = "section" if item.metadata["kind"] == "section" else "key"
            faults.append(f"{where}: missing {kind} {prefix + key!r} ({item.metadata['text']})")
    if faults:
        raise ParameterError("\n".join(faults))
    built = cls(**values)
    if isinstance(built, TomlFile):
        built._check_given(where)
        built = built._completed(())
        built._check(where)
    return built


def _convert(item: "dataclasses.Field[Any]", value: Any, where: str, key: str) -> Any:
    kind = item.metadata["kind"]
    if kind == "section":
        if not isinstance(value, Mapping):
            raise ParameterError(f"{where}: {key!r} must be a section [{key}]")
        return _build(item.metadata["section"], value, where, f"{key}.")
    if kind == "str":
        if not isinstance(value, str):
            raise ParameterError(f"{where}: {key} = {value!r} must be a text in quotes")
        return value
    return _convert_number(item, value, where, key)


def _convert_number(item: "dataclasses.Field[Any]", value: Any, where: str, key: str) -> float:
    low, high = item.metadata["low"], item.metadata["high"]
    if isinstance(value, str):
        try:
            value = parse_number(value)
        except ParameterError as error:
            raise ParameterError(f"{where}: {key}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParameterError(f"{where}: {key} = {value!r} must be a number")
    if item.metadata["kind"] == "int" and value != int(value if math.isfinite(value) else 0):
        raise ParameterError(f"{where}: {key} = {value!r} must be a whole number")
    if not low <= value <= high:
        raise ParameterError(
            f"{where}: {key} = {value:g} is out of range; permitted {low:g} to {high:g}"
            f" ({item.metadata['text']})"
        )
    return int(value) if item.metadata["kind"] == "int" else float(value)


def key_table(cls: type) -> "dict[str, dataclasses.Field[Any]]":
    """Return the declared keys of a class or section by their names."""
    return {item.name: item for item in dataclasses.fields(cls)}


def _is_written(item: "dataclasses.Field[Any]", value: Any) -> bool:
    return bool(item.metadata.get("written", True)) or value != item.default


def nearest(key: str, known: Sequence[str], prefix: str = "") -> str:
    """Return the end of an error message that names similar keys, or nothing."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=3, cutoff=0.5)
    return "; nearest: " + ", ".join(prefix + leaves[name] for name in close) if close else ""


def _format(value: float | int | str) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)

"""The component table: values with units, source and technology, from one TOML file."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from circuits.errors import ParameterError
from circuits.units import parse_number

TEXTS = ("source", "technology")
MAY_BE_ZERO = ("_j", "_w", "_m2", "_s", "_j_per_bit", "_m2_per_cell")


@dataclass(frozen=True)
class Component:
    """One entry of the table.

    Attributes
    ----------
    name : dotted name, for example "isaac.adc".
    values : SI values by key; the key carries the unit.
    source, technology : where the values come from, and the node they were obtained in.
    """

    name: str
    values: Mapping[str, float]
    source: str
    technology: str

    def __getitem__(self, key: str) -> float:
        return self.values[key]


@dataclass(frozen=True)
class Components:
    """All components by dotted name."""

    entries: Mapping[str, Component]

    @classmethod
    def from_toml(cls, path: str | Path | None = None) -> Self:
        """Read the shipped table, and a file that replaces some of its entries.

        Raises
        ------
        ParameterError
            Unreadable file, invalid TOML, an unknown entry or key, a value out of range, or an
            entry without source and technology.
        """
        shipped = Path(str(files("system.cost"))) / "components.toml"
        table = _flatten(_load(shipped), "", str(shipped))
        entries = {name: _shipped(name, content) for name, content in table.items()}
        if path is not None:
            changed = _flatten(_load(Path(path)), "", str(path))
            for name, content in changed.items():
                entries[name] = _changed(entries, name, content, str(path))
        return cls(entries)

    def __getitem__(self, name: str) -> Component:
        return self.entries[name]

    def keys(self) -> Iterator[tuple[str, str]]:
        """Yield every (entry, key)."""
        for name, entry in self.entries.items():
            yield from ((name, key) for key in entry.values)

    def override(self, name: str, key: str, value: float) -> Self:
        """Return a copy with one value replaced."""
        entry = self.entries[name]
        values = {**entry.values, key: value}
        return type(self)({**self.entries, name: replace(entry, values=values)})


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"cannot read the component table {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{path}: not valid TOML: {error}") from error


def _flatten(table: Mapping[str, Any], prefix: str, where: str) -> dict[str, Mapping[str, Any]]:
    """Return entries by dotted name: an entry holds values, a group holds entries."""
    found: dict[str, Mapping[str, Any]] = {}
    for key, content in table.items():
        name = prefix + key
        if not isinstance(content, Mapping):
            raise ParameterError(f"{where}: {name} = {content!r} stands outside an entry [name]")
        if content and all(isinstance(part, Mapping) for part in content.values()):
            found.update(_flatten(content, f"{name}.", where))
        else:
            found[name] = content
    return found


def _shipped(name: str, content: Mapping[str, Any]) -> Component:
    values = {k: float(v) for k, v in content.items() if k not in TEXTS}
    return Component(name, values, content["source"], content["technology"])


def _changed(
    known: Mapping[str, Component], name: str, content: Mapping[str, Any], where: str
) -> Component:
    """Return a shipped entry with the values of the user's entry."""
    if name not in known:
        raise ParameterError(f"{where}: unknown component [{name}]{_nearest(name, known)}")
    for text in TEXTS:
        if not isinstance(content.get(text), str) or not content[text].strip():
            raise ParameterError(f'{where}: [{name}] needs {text} = "..." for its figures')
    entry = known[name]
    values = dict(entry.values)
    for key, value in content.items():
        if key in TEXTS:
            continue
        if key not in values:
            raise ParameterError(f"{where}: unknown key {name}.{key}{_nearest(key, values)}")
        values[key] = _number(f"{where}: {name}.{key}", key, value)
    return Component(name, values, content["source"], content["technology"])


def _number(what: str, key: str, value: Any) -> float:
    if isinstance(value, str):
        try:
            value = parse_number(value)
        except ParameterError as error:
            raise ParameterError(f"{what}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParameterError(f"{what} = {value!r} must be a number")
    zero = key.endswith(MAY_BE_ZERO)
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        permitted = "0 or more" if zero else "more than 0"
        raise ParameterError(f"{what} = {value} is out of range; permitted: {permitted}, finite")
    return float(value)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close or sorted(known))}"

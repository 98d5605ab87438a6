"""Compares the results of two run directories, bit for bit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from system.commands.options import PICTURES
from system.runs import RECORD

# How long something took, and how much of it the cache held, is no result.
TIMINGS = {
    "seconds", "samples_per_s", "model_s", "ngspice_s", "ngspice_s_with_cached", "circuits",
    "cached",
}  # fmt: skip
KEPT = ("results", "libraries")  # where sweeps keep what later commands find again


def compare(before: Path, after: Path) -> list[str]:
    """Return how the results of a second run differ from those of the first; empty: not at all.

    Times and pictures, which show what the tables hold, are left out.

    Parameters
    ----------
    before, after : run directories

    Returns
    -------
    list of str
        A line for every file or key that differs.
    """
    old, new = _files(before), _files(after)
    kept = {name for name in set(old) - set(new) if name.split("/")[0] in KEPT}
    found = [f"{name}: only in {before}" for name in sorted(set(old) - set(new) - kept)]
    found += [f"{name}: only in {after}" for name in sorted(set(new) - set(old))]
    for name in sorted(set(old) & set(new)):
        one, two = _content(old[name], before), _content(new[name], after)
        found += [f"{name}: {line}" for line in _differences(one, two, "")]
    return found


def _files(folder: Path) -> dict[str, Path]:
    paths = (p for p in folder.rglob("*") if p.is_file() and p.suffix not in PICTURES)
    names = {p.relative_to(folder).as_posix(): p for p in paths}
    return {n: p for n, p in names.items() if n != RECORD and not n.startswith(".")}


def _content(path: Path, folder: Path) -> Any:
    """Return what a file says; its own folder is called RUN."""
    if path.suffix not in (".json", ".csv", ".md", ".txt", ".cir"):
        return path.read_bytes()
    text = path.read_text(encoding="utf-8").replace(str(folder.resolve()), "RUN")
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else text


def _differences(one: Any, two: Any, where: str) -> Iterator[str]:
    """Yield the keys whose values differ; numbers are compared as they are written, NaN too."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*one, *two} - TIMINGS, key=str):
            there = f"{where}.{key}" if where else str(key)
            if key in one and key in two:
                yield from _differences(one[key], two[key], there)
            else:
                yield f"{there} only in the {'first' if key in one else 'second'}"
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for k, pair in enumerate(zip(one, two, strict=True)):
            yield from _differences(*pair, f"{where}[{k}]")
    elif isinstance(one, bytes) or isinstance(two, bytes):
        if one != two:
            yield "other bytes"
    elif json.dumps(one) != json.dumps(two):
        yield f"{where or 'text'} {_short(one)}, then {_short(two)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

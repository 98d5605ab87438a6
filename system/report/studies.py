"""The table of a sweep, an exploration or a table of accuracy, read back from its CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuits.errors import ParameterError
from system.sweep.axes import ALIASES, Axis, find_key
from system.sweep.points import Point
from system.sweep.table import COSTS, Row

TABLES = ("sweep", "explore", "accuracy")
PLAIN = ("model", "mode", "metric", "mean", "std", "worst", "chips", "samples", "values",
         "clipped_share", "seconds", *COSTS, "pareto", "library_sha256", "failure")  # fmt: skip


@dataclass(frozen=True)
class StudyTable:
    """Rows of a study.

    Attributes
    ----------
    kind : "sweep", "explore" or "accuracy".
    library_sha256 : of the rows, without repetition.
    """

    kind: str
    name: str
    rows: tuple[Row, ...]
    axes: tuple[Axis, ...]
    library_sha256: tuple[str, ...]

    @classmethod
    def from_csv(cls, place: Path) -> StudyTable:
        """Read the table that a study wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            Not such a table.
        """
        reader = csv.DictReader(io.StringIO(place.read_text(encoding="utf-8")))
        columns = list(reader.fieldnames or ())
        missing = [name for name in ("model", "metric", "values", "failure") if name not in columns]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
        lines = list(reader)
        if not lines or any(None in line or None in line.values() for line in lines):
            raise ValueError("no rows, or rows of another length than the head")
        names = [c for c in columns if c not in PLAIN or (c == "mode" and columns.index(c) == 1)]
        axes = tuple(_axis(name, [line[name] for line in lines]) for name in names)
        rows = tuple(_row(line, names) for line in lines)
        hashes = dict.fromkeys(line.get("library_sha256", "") for line in lines)
        kind = place.stem if place.stem in TABLES else "sweep"
        return cls(kind, place.parent.name, rows, axes, tuple(h for h in hashes if h))


def _axis(column: str, values: list[str]) -> Axis:
    key, label = column, column
    for name, alias in ALIASES.items():
        if alias.column == column:
            key, label = name, alias.label
    with contextlib.suppress(ParameterError):  # a key unknown to this version keeps its name
        label = find_key(key).label
    return Axis(key, column, label, (), tuple(dict.fromkeys(values)))


def _row(line: Mapping[str, str], names: list[str]) -> Row:
    values = [float(v) for v in line["values"].split(";") if v]
    if not values and not line["failure"]:
        raise ValueError("a row without values")
    cost: dict[str, Any] = {name: float(line[name]) for name in COSTS if line.get(name)}
    return Row(
        Point(line["model"], tuple(line[name] for name in names), ()),
        line.get("mode", ""),
        line["metric"],
        int(line["samples"]),
        {chip: {"value": value} for chip, value in enumerate(values) if not math.isnan(value)},
        cost,
        line["failure"],
        {"yes": True, "no": False}.get(line.get("pareto", "")),
    )

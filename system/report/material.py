"""Finds out what the given files and folders are: the material of a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from behavioral.library import Library
from circuits.errors import FormatError, ParameterError
from system.report.records import (
    KINDS,
    CostStudy,
    Evaluation,
    Generation,
    Replay,
    Simulation,
    text,
)
from system.report.studies import TABLES, StudyTable

KNOWN = (
    "JSON of infer, validate, cost and generate (--json), folders of sweep, explore and accuracy, "
    "libraries (.h5), run directories"
)
# Of a study's folder: results of single chips and libraries of points, which the table sums up.
INSIDE = ("results", "libraries")


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says of its run (`run.json`)."""

    words: tuple[str, ...]
    versions: dict[str, str]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunRecord:
        """Read one record."""
        versions = {text(k, "versions"): text(v, k) for k, v in content["versions"].items()}
        return cls(tuple(text(word, "words") for word in content["words"]), versions)


@dataclass(frozen=True)
class Source:
    """A file that the report rests on, and which command wrote it."""

    file: str
    command: str


@dataclass
class Material:
    """What was given, by kind, in the order it was given."""

    evaluations: list[Evaluation] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    simulations: list[Simulation] = field(default_factory=list)
    costs: list[CostStudy] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    studies: list[StudyTable] = field(default_factory=list)
    libraries: list[tuple[str, Library]] = field(default_factory=list)
    records: list[tuple[str, RunRecord]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

    @classmethod
    def read(cls, places: Sequence[str | Path]) -> Material:
        """Read files, and what is known in folders.

        Parameters
        ----------
        places : files, or folders with files of other commands in them and below.

        Raises
        ------
        FormatError
            A file is damaged, or given by name and none that a report is made of.
        ParameterError
            A place does not exist, or there is nothing to report on in all of them.
        """
        material = cls()
        for place in map(Path, places):
            if place.is_dir():
                for file in _files(place):
                    material._add(file, named=False)
            elif place.exists():
                material._add(place, named=True)
            else:
                raise ParameterError(f"there is no file or folder {place}")
        if not material.sources:
            raise ParameterError(
                f"nothing to report on in {', '.join(map(str, places))}; known are: {KNOWN}"
            )
        return material

    @property
    def networks(self) -> list[str]:
        """Networks of everything, in order."""
        named = (self.evaluations, self.replays, self.simulations, self.costs, self.generations)
        names = [
            item.result.model if isinstance(item, Evaluation) else item.model
            for items in named
            for item in items  # type: ignore[attr-defined]
        ]
        names += [row.point.model for study in self.studies for row in study.rows]
        return list(dict.fromkeys(names))

    def hashes(self) -> set[str]:
        """Return the sha256 of the libraries that results were taken on; sweeps may have many."""
        items: Iterable[Any] = (
            *(e.result for e in self.evaluations), *self.replays, *self.simulations, *self.costs,
            *self.generations,
        )  # fmt: skip
        return {item.library_sha256 for item in items if item.library_sha256}

    def _add(self, place: Path, *, named: bool) -> None:
        kind = place.suffix.lower()
        if kind == ".h5":
            self.libraries.append((place.name, Library.from_hdf5(place)))
            self.sources.append(Source(str(place), "characterize"))
        elif kind == ".csv" and (named or place.stem in TABLES):
            self._add_study(place)
        elif kind == ".json":
            self._add_json(place, named=named)
        elif named:
            raise FormatError(f"{place} is nothing that a report is made of; known are: {KNOWN}")

    def _add_study(self, place: Path) -> None:
        try:
            study = StudyTable.from_csv(place)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{place} is not a table of sweep, explore or accuracy ({_say(error)}); run that "
                "command again with the same --out: it keeps what it has"
            ) from error
        self.studies.append(study)
        self.sources.append(Source(str(place), study.kind))

    def _add_json(self, place: Path, *, named: bool) -> None:
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FormatError(
                f"cannot read {place} ({_say(error)}); run the command that wrote it again"
            ) from error
        content = content if isinstance(content, dict) else {}
        if {"command", "words", "versions", "hashes"} <= content.keys():
            return self._keep(place, "run directory", RunRecord, content)
        for command, kind, keys in KINDS:
            if all(key in content for key in keys):
                return self._keep(place, command, kind, content)
        if named:
            raise FormatError(f"{place} is nothing that a report is made of; known are: {KNOWN}")
        return None

    def _keep(self, place: Path, command: str, kind: Any, content: dict[str, Any]) -> None:
        try:
            record = kind.from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FormatError(
                f"{place} is not what `nldpe {command}` of this version writes ({_say(error)}); "
                "run that command again"
            ) from error
        if kind is RunRecord:
            self.records.append((str(place.parent), record))
            return
        lists: dict[type, list[Any]] = {
            Evaluation: self.evaluations, Replay: self.replays, Simulation: self.simulations,
            CostStudy: self.costs, Generation: self.generations,
        }  # fmt: skip
        lists[kind].append(record)
        self.sources.append(Source(str(place), command))


def _files(folder: Path) -> Iterator[Path]:
    """Return the files of a folder and below, in order; of a study only its own."""
    entries = sorted(folder.iterdir())
    is_study = any(entry.stem in TABLES and entry.suffix == ".csv" for entry in entries)
    yield from (entry for entry in entries if entry.is_file() and not entry.name.startswith("."))
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink() and not (is_study and entry.name in INSIDE):
            yield from _files(entry)


def _say(error: Exception) -> str:
    """Return an error in one line."""
    if isinstance(error, KeyError):
        return f"no {error.args[0]!r}"
    return (str(error).splitlines() or [type(error).__name__])[0]

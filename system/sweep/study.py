"""Runs a grid of points and gathers what every chip gave."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from behavioral.library import Library
from circuits.errors import NldpeError
from system.files import write_json
from system.inference import default_samples
from system.networks import load_network
from system.sweep.axes import Axis
from system.sweep.points import Conditions, Point, described, grid, label
from system.sweep.runs import RunFolder, execute, make_key
from system.sweep.scoring import Task, content_of
from system.sweep.table import Row

log = logging.getLogger(__name__)

VERSION = 1  # of result files; others are made again


@dataclass(frozen=True)
class Model:
    """What a study must know of a network before it runs: the sha256 of its content names it."""

    sha256: str
    metric: str
    samples: int


@dataclass(frozen=True)
class Circuits:
    """A library file, and its sha256."""

    path: Path
    sha256: str


class Study:
    """A grid of points on one library, in one run directory.

    Parameters
    ----------
    models : networks as `load_network` knows them.
    axes : of the grid.
    conditions : what all points share.
    library : file of the library; points that ask for other circuits are characterised.
    quick : characterise with the coarse plan.
    cost : energy, latency and area too.

    Raises
    ------
    NldpeError
        A network, a value or a choice that does not exist; nothing has run then.
    """

    def __init__(
        self,
        models: Sequence[str],
        axes: Sequence[Axis],
        conditions: Conditions,
        library: Path,
        *,
        quick: bool = False,
        cost: bool = False,
    ) -> None:
        self.axes, self.conditions = tuple(axes), conditions
        self.quick, self.with_cost = quick, cost
        self.library = Library.from_hdf5(library)
        self.base = Circuits(library.resolve(), self.library.sha256)
        self.points = grid(models, axes)
        for point in self.points:
            point.check(self.library.device, self.library.technology, conditions)
        self.models = {name: self._look_at(name) for name in dict.fromkeys(models)}

    def run(
        self, folder: RunFolder, workers: int = 1, executor: Executor | None = None
    ) -> list[Row]:
        """Do what is not yet in the folder; return a row for every point.

        Parameters
        ----------
        folder : run directory
        workers : processes; each computes on one thread.
        executor : whose workers simulate and compute instead, see `circuits.cluster`.
        """
        means: dict[str, Any] = {"workers": workers, "executor": executor}
        write_json(folder.path / "config.json", self._config())
        rows = [self._row(point) for point in self.points]
        wanted = [(row, chip) for row in rows for chip in self._chips(row)]
        tasks: dict[Path, Task] = {}
        kept: set[Path] = set()
        users: dict[Path, list[tuple[Row, int | None]]] = {}
        for row, chip in wanted:
            place = folder.place(self._key(row.point, chip))
            users.setdefault(place, []).append((row, chip))
            found = folder.result(place.stem)
            if found is not None:
                kept.add(place)
                _note(row, chip, found)
            elif place not in tasks and not row.reason:
                task = self._task(row, chip, place, folder, means)
                tasks |= {} if task is None else {place: task}
        if kept and tasks:
            log.info("%d of %d results are kept from before.", len(kept), len(users))
        self._execute(list(tasks.values()), users, means)
        return rows

    def _execute(
        self,
        tasks: list[Task],
        users: dict[Path, list[tuple[Row, int | None]]],
        means: dict[str, Any],
    ) -> None:
        # The bar of the sweep stands; those of single chips would overwrite each other.
        bar = tqdm(total=len(tasks), desc="chips", disable=None, leave=False)
        with logging_redirect_tqdm(), bar:
            for task, found in execute(tasks, **means):
                bar.update(1)
                for row, chip in users[task.place]:
                    if isinstance(found, str):
                        row.reason = row.reason or found
                        continue
                    _note(row, chip, found)
                    if len(row.scores) == row.point.chips(self.conditions) and chip is not None:
                        name = label(row.point, self.axes)
                        log.info("%s: %s %s", name, row.metric, row.score_text())

    def _look_at(self, name: str) -> Model:
        """Load a network without calibration, once for every choice of the mapping."""
        choices = {
            json.dumps(point.mapping(self.conditions)) for point in self.points
            if point.model == name
        }  # fmt: skip
        for choice in sorted(choices):
            network = load_network(
                name, tile_rows=None, data=self.conditions.data, overrides=json.loads(choice)
            )
        sha256 = content_of(network)
        wanted = self.conditions.samples or default_samples(network)
        return Model(sha256, network.metric, len(network.samples(wanted)))  # a test set ends

    def _row(self, point: Point) -> Row:
        model = self.models[point.model]
        return Row(point, point.mode(self.conditions), model.metric, model.samples)

    def _chips(self, row: Row) -> list[int | None]:
        chips: list[int | None] = list(range(row.point.chips(self.conditions)))
        return [*chips, None] if self.with_cost and row.mode != "float" else chips

    def _key(self, point: Point, chip: int | None) -> str:
        """Return the name of a result; the cost does not depend on noise, mode and samples."""
        model = self.models[point.model]
        settings = dict(point.settings)
        content = {
            "version": [VERSION, _package_version()],
            "network": model.sha256,
            "library": self.base.sha256,
            "quick": self.quick,
            "chip": chip,
        }
        if chip is None:
            settings = point.part("device.", "technology.", "map.")
            shared = {"seed": self.conditions.seed, "mapping": self.conditions.mapping}
        else:
            shared = described(self.conditions, model.samples)
            settings["mode"] = point.mode(self.conditions)
            settings["mismatch"] = point.mismatch(self.conditions)
        return make_key({**content, "settings": settings, "conditions": shared})

    def _task(
        self, row: Row, chip: int | None, place: Path, folder: RunFolder, means: dict[str, Any]
    ) -> Task | None:
        """Return what is to be done; None, and the reason in the row, if it cannot be."""
        try:
            circuits = self._circuits(row.point, folder, means)
        except NldpeError as error:
            row.reason = str(error)
            return None
        model = self.models[row.point.model]
        return Task(
            place, row.point, self.conditions, chip, model.samples, model.sha256,
            circuits.path, circuits.sha256,
        )  # fmt: skip

    def _circuits(self, point: Point, folder: RunFolder, means: dict[str, Any]) -> Circuits:
        """Return the library of a point's circuits; the base one where the point changes none."""
        own = (self.library.device, self.library.technology)
        cards = point.cards(*own)
        if cards == own:
            return self.base
        return Circuits(*folder.library(*cards, quick=self.quick, **means))

    def _config(self) -> dict[str, Any]:
        """Return what this run was, for the run directory."""
        return {
            "version": _package_version(),
            "library": str(self.base.path),
            "library_sha256": self.base.sha256,
            "networks": {name: model.sha256 for name, model in self.models.items()},
            "axes": {axis.key: list(axis.values) for axis in self.axes},
            "conditions": asdict(self.conditions),
            "quick": self.quick,
            "cost": self.with_cost,
        }


def _note(row: Row, chip: int | None, found: dict[str, Any]) -> None:
    if chip is None:
        row.cost = found
    else:
        row.scores[chip] = found


def _package_version() -> str:
    try:
        return version("nldpe-cosim")
    except PackageNotFoundError:
        return "unknown"

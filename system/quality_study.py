"""Quality of a language model in every mode and with one part on at a time; chips are kept."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from system.answers import QUESTIONS
from system.data.texts import HELD_OUT
from system.engine import MODES
from system.files import write_json
from system.hardware import Chip
from system.inference import HERE, Execution, arithmetic, release_memory
from system.models.ops import Ops
from system.networks import Network
from system.parts import PARTS, PartOps, Parts
from system.quality import Examination
from system.range_cache import range_key
from system.sweep.runs import RunFolder, make_key
from system.weights.acam_windows import is_windows

log = logging.getLogger(__name__)

VERSION = 4  # of result files; others are made again
NOISE = {"ideal-analog": "none", "noisy": "frozen"}


@dataclass(frozen=True)
class Row:
    """One arithmetic: a mode, and with a part only that part on circuit models, the rest exact."""

    network: str
    mode: str
    part: str = ""

    @property
    def name(self) -> str:
        """Return what the table calls it."""
        return f"{self.part}, {self.mode}" if self.part else self.mode


@dataclass(frozen=True)
class Found:
    """A row and what its chips gave: for each, text -> nearness, and "answers"."""

    row: Row
    chips: list[dict[str, Any]]

    def values(self, text: str, key: str) -> list[float]:
        """Return one figure of every chip."""
        return [float(chip[text][key]) for chip in self.chips]


class QualityStudy:
    """One network on one library.

    Parameters
    ----------
    network : Network
        A language model with measured ranges.
    library : Library
    samples : windows of each text.
    chips : of mode noisy.
    seed : keys the draws of all chips.
    parts : also with one part on at a time.
    questions : to a model with a chat template.
    execution : as in `arithmetic`, of whole chips.
    """

    def __init__(
        self, network: Network, library: Library, *, samples: int, chips: int, seed: int,
        parts: bool, questions: Sequence[str] = QUESTIONS, execution: Execution = HERE,
    ) -> None:  # fmt: skip
        self.network, self.library = network, library
        self.samples, self.chips, self.seed, self.with_parts = samples, chips, seed, parts
        self._questions, self._execution = list(questions), execution
        self._examination: Examination | None = None
        windows = {key: rows for key, rows in network.ranges.items() if is_windows(key)}
        self._sha256 = range_key(
            {**network.model.tensors, **windows}, np.zeros(0), network.mapping.to_dict()
        )

    def rows(self) -> list[Row]:
        """Return the rows of the table in order."""
        found = [Row(self.network.name, mode) for mode in MODES]
        if self.with_parts:
            found += [Row(self.network.name, mode, part) for mode in NOISE for part in PARTS]
        return found

    def run(self, folder: RunFolder) -> list[Found]:
        """Do what is not yet in the folder; return every row."""
        for mode in MODES:
            for index in range(self._count(mode)):
                self._run_whole(mode, index, folder)
        for mode in NOISE if self.with_parts else ():
            for index in range(self._count(mode)):
                self._run_parts(mode, index, folder)
        return [
            Found(row, [self._kept(row, i, folder) or {} for i in range(self._count(row.mode))])
            for row in self.rows()
        ]

    def _count(self, mode: str) -> int:
        return self.chips if mode == "noisy" else 1

    def _run_whole(self, mode: str, index: int, folder: RunFolder) -> None:
        row = Row(self.network.name, mode)
        if self._kept(row, index, folder) is None:
            chip = Chip(self.seed, index)
            ops = arithmetic(self.network, self.library, mode, chip, execution=self._execution)
            self._measure(row, index, ops, folder)
            del ops
            release_memory()

    def _run_parts(self, mode: str, index: int, folder: RunFolder) -> None:
        """Switch the parts of one chip on in turn."""
        rows = [Row(self.network.name, mode, part) for part in PARTS]
        missing = [row for row in rows if self._kept(row, index, folder) is None]
        if not missing:
            return
        chip = Chip(self.seed, index, NOISE[mode])  # type: ignore[arg-type]
        ops = PartOps(self.network, self.library, chip)
        for row in missing:
            ops.switch.parts = Parts.of([row.part])
            self._measure(row, index, ops, folder)
        del ops
        release_memory()

    def _measure(self, row: Row, index: int, ops: Ops, folder: RunFolder) -> None:
        if self._examination is None:
            self._examination = Examination(self.network, self.samples, self._questions)
        label = f"{row.network} {row.name} chip {index}"
        with one_blas_thread():
            found = self._examination.measure(ops, label)
        write_json(self._place(row, index, folder), found)
        scores = ", ".join(f"{text} {found[text]['perplexity']:.2f}" for text in HELD_OUT)
        log.info("%s: %s", label, scores)

    def _kept(self, row: Row, index: int, folder: RunFolder) -> dict[str, Any] | None:
        return folder.result(self._place(row, index, folder).stem)

    def _place(self, row: Row, index: int, folder: RunFolder) -> Path:
        key = make_key(
            {
                "version": VERSION,
                "network": self._sha256,
                "library": None if row.mode == "float" else self.library.sha256,
                "row": [row.mode, row.part],
                "chip": [self.seed, index],
                "samples": self.samples,
                "questions": self._questions,
                "data": str(self.network.data),
            }
        )
        return folder.place(key)


def to_markdown(found: Sequence[Found]) -> str:
    """Return one table: perplexity, agreement and divergence on every text, likeness of answers."""
    texts = list(HELD_OUT)
    head = ["network", "mode", "chips"]
    head += [f"{text}: {what}" for text in texts for what in _COLUMNS]
    head += [f"answers: {what}" for what in _ANSWERS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for f in found:
        cells = [f"`{f.row.network}`", f.row.name, str(len(f.chips))]
        for text in texts:
            cells += _cells(f, text)
        asked = [chip["answers"] for chip in f.chips if "answers" in chip]
        for key, scale, digits in _ANSWERS.values():
            cells.append(_spread([a[key] for a in asked], scale, digits) if asked else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


_COLUMNS = ("perplexity", "above float [%]", "worst chip [%]", "same next token [%]", "KL [nat]")
_ANSWERS = {  # column -> figure, factor, digits
    "whole [%]": ("kept", 100.0, 0),
    "tokens before the first other [%]": ("leading", 100.0, 0),
    "same next token [%]": ("likeliest", 100.0, 1),
    "leads change by [nat]": ("lead_change", 1.0, 2),
}
_LIKENESS = {  # column of the CSV -> figure
    "answers_kept": "kept",
    "answers_leading": "leading",
    "answers_likeliest": "likeliest",
    "answers_lead_change_nat": "lead_change",
}


def _cells(found: Found, text: str) -> Iterator[str]:
    perplexity, exact = found.values(text, "perplexity"), found.values(text, "exact")
    above = [100.0 * (here / there - 1.0) for here, there in zip(perplexity, exact, strict=True)]
    yield _spread(perplexity, 1.0, 2)
    yield f"{np.mean(above):+.1f}"
    yield f"{max(above):+.1f}"
    yield _spread(found.values(text, "agreement"), 100.0, 1)
    yield _spread(found.values(text, "divergence"), 1.0, 4)


def _spread(values: Sequence[float], scale: float, digits: int) -> str:
    mean = f"{np.mean(values) * scale:.{digits}f}"
    if len(values) > 1:
        mean += f" ± {np.std(values, ddof=1) * scale:.{digits}f}"
    return mean


def to_csv(found: Sequence[Found]) -> str:
    """Return every chip's figures, a line for each text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["network", "mode", "part", "chip", "text", "perplexity", "float32", "agreement",
         "divergence_nat", *_LIKENESS]
    )  # fmt: skip
    for f in found:
        for index, chip in enumerate(f.chips):
            for text in HELD_OUT:
                near, answers = chip[text], chip.get("answers", {})
                writer.writerow(
                    [f.row.network, f.row.mode, f.row.part, index, text, near["perplexity"],
                     near["exact"], near["agreement"], near["divergence"],
                     *(answers.get(key, "") for key in _LIKENESS.values())]
                )  # fmt: skip
    return out.getvalue()

"""What the benchmarks share: a library, and ratios taken within one run.

Absolute times depend on the machine and on what else runs there. So every benchmark times its
baseline too, in turn with our code, and reports the ratio; the table stands at the end of the run.
Seconds are those of the processor, on one thread, unless the baseline is another process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from behavioral.library import Library
from benchmarks.timing import repeated, seconds
from circuits.parameters import load_parameters

ROUNDS = 11


@dataclass(frozen=True)
class Row:
    """One line of the table at the end."""

    what: str
    ours: str
    baseline: str
    ratio: str


ROWS: list[Row] = []


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect bench_*.py, which pytest's own pattern does not."""
    if not file_path.match("bench_*.py") or parent.session.isinitpath(file_path):
        return None
    return pytest.Module.from_parent(parent, path=file_path)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the ratios."""
    if not ROWS:
        return
    width = max(len(row.what) for row in ROWS)
    terminalreporter.section("ratios within this run")
    terminalreporter.line(f"{'':{width}}  {'ours':>14}  {'baseline':>14}  ratio")
    for row in ROWS:
        terminalreporter.line(
            f"{row.what:{width}}  {row.ours:>14}  {row.baseline:>14}  {row.ratio}"
        )


@pytest.fixture
def compare(benchmark: Any) -> Callable[..., float]:
    """Time our code and a baseline in turn; the best of each counts.

    The returned function takes a title, both callables, how many units of work one call of each
    does, and the name of the unit. It returns seconds per unit of the baseline over ours.
    """

    def run(
        what: str,
        ours: Callable[[], object],
        baseline: Callable[[], object],
        work: int,
        baseline_work: int,
        unit: str,
        rounds: int = ROUNDS,
        clock: Callable[[], float] = process_time,
    ) -> float:
        calls = repeated(ours), repeated(baseline)
        pairs = [
            (seconds(ours, calls[0], clock), seconds(baseline, calls[1], clock))
            for _ in range(rounds)
        ]
        fast, slow = (min(column) for column in zip(*pairs, strict=True))
        fast, slow = fast / work, slow / baseline_work
        speed_up = slow / fast
        benchmark.extra_info.update(speed_up=speed_up, per_s=1 / fast, baseline_per_s=1 / slow)
        benchmark.pedantic(ours, rounds=3, iterations=calls[0])
        words = f"{speed_up:.3g} x faster" if speed_up >= 1 else f"{1 / speed_up:.2f} x the time"
        ROWS.append(Row(what, f"{1 / fast:.3g} {unit}/s", f"{1 / slow:.3g} {unit}/s", words))
        return speed_up

    return run


@pytest.fixture(scope="session")
def library() -> Library:
    """Return the default library: 20 s of ngspice the first time, then from its cache."""
    return Library.from_spice(*load_parameters("taox", "lp16", []))

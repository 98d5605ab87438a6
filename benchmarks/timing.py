"""Seconds of a call, for benchmarks: several callables in turn, the best of each counts."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time

LEAST_SECONDS = 0.02  # one measurement: shorter calls are repeated inside it


def repeated(function: Callable[[], object]) -> int:
    """Return how many calls fill LEAST_SECONDS; the first call compiles and is not counted."""
    function()
    start = perf_counter()
    function()
    return max(1, int(LEAST_SECONDS / max(perf_counter() - start, 1e-7)))


def seconds(
    function: Callable[[], object], calls: int, clock: Callable[[], float] = process_time
) -> float:
    """Return the seconds of one call, averaged over `calls`."""
    start = clock()
    for _ in range(calls):
        function()
    return (clock() - start) / calls


def in_turn(functions: list[Callable[[], object]], rounds: int = 5) -> list[float]:
    """Return the best seconds of each function, timed in turn within one run."""
    calls = [repeated(function) for function in functions]
    runs = [
        [seconds(function, count) for function, count in zip(functions, calls, strict=True)]
        for _ in range(rounds)
    ]
    return [min(column) for column in zip(*runs, strict=True)]

"""Simulation jobs per second: our worker pool against a process a job, and against PySpice's API.

The job is a static search of half an ACAM cell, 381 points. All three get the same circuits; ours
besides puts 40 of them into a netlist, as every characterisation does.
"""

import os
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from circuits import batch, plan
from circuits.parameters import load_parameters
from circuits.plan import Job
from circuits.search import SearchBench

pytestmark = pytest.mark.ngspice

CELLS = 40
DEVICE, TECHNOLOGY = load_parameters("taox", "lp16")


def searches(g: Any) -> list[Job]:
    """Return the jobs of static searches of these conductances, as characterisation cuts them."""
    jobs: list[Job] = []
    SearchBench(DEVICE, TECHNOLOGY, {"record": jobs}).static("lower", g)
    return jobs


G = np.geomspace(1e-8, 1.5e-4, CELLS)
SINGLE = [searches(g[None])[0] for g in G]


@pytest.fixture
def ours(tmp_path):
    """Return a function that runs jobs on one worker, each time with an empty cache."""
    fresh = count()
    return lambda jobs: plan.run(jobs, workers=1, cache=tmp_path / str(next(fresh)))


def by_process() -> list[Any]:
    """Run every job in a process of its own."""
    return [batch.simulate(job.netlist, job.vectors) for job in SINGLE]


def by_pyspice() -> list[Any]:
    """Run every job through PySpice's circuit and simulator, in this process."""
    from PySpice.Spice.Netlist import Circuit
    from PySpice.Spice.NgSpice.Shared import NgSpiceShared

    # by itself it looks for the name that only development packages install
    NgSpiceShared.LIBRARY_PATH = os.environ.get("NGSPICE_LIBRARY_PATH", "libngspice.so.0")
    found = []
    for job in SINGLE:
        text = job.netlist.partition("\n")[2].partition("\n.options")[0]
        circuit = Circuit("job")
        circuit.raw_spice = text + "\n.options gmin=1e-15\n"
        simulator = circuit.simulator(temperature=27, nominal_temperature=27)
        sweep = simulator.dc(vdl=slice(-0.1, 1.8, 0.005))
        found.append({"i(vm0)": np.array(sweep.branches["vm0"])})
    return found


@pytest.mark.parametrize(("name", "baseline", "bar"), [
    ("one ngspice -b a job", by_process, 3.0),
    ("PySpice's simulator API", by_pyspice, 1.5),
])  # fmt: skip
def test_jobs_per_second(compare, ours, name, baseline, bar):
    """As characterisation cuts them; every baseline gives the same currents."""
    reference = by_process()[CELLS // 2]["i(vm0)"]
    np.testing.assert_allclose(baseline()[CELLS // 2]["i(vm0)"], reference, rtol=1e-6, atol=1e-15)
    speed_up = compare(
        f"searches of half a cell; {name}", lambda: ours(searches(G)), baseline, CELLS, CELLS,
        "searches", rounds=3, clock=perf_counter,
    )  # fmt: skip
    assert speed_up > bar


@pytest.mark.parametrize(
    ("name", "baseline"),
    [("one ngspice -b a job", by_process), ("PySpice's simulator API", by_pyspice)],
)
def test_same_netlists_one_to_one(compare, ours, name, baseline):
    """The same 40 netlists in both, no bar: what the worker alone is worth."""
    compare(
        f"the same netlists, one cell each; {name}", lambda: ours(SINGLE), baseline, CELLS, CELLS,
        "searches", rounds=3, clock=perf_counter,
    )  # fmt: skip

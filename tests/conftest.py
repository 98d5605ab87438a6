"""Fixtures and marker rules of the whole suite."""

import fcntl
import shutil
from pathlib import Path

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail, never skip, a test that needs ngspice where it is missing: CI cannot go green by it."""
    if item.get_closest_marker("ngspice") is not None and shutil.which("ngspice") is None:
        pytest.fail("this test needs ngspice: apt-get install ngspice libngspice0", pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests for two workers that begin with a half each (`--dist worksteal`).

    One compiles the kernels with the models' tests while the other simulates, and finds them in
    numba's cache when its turn comes: a fresh clone compiles each kernel once.
    """
    tests, kinds = Path(__file__).parent, {"behavioral": 0, "system": 1, "circuits": 2}
    order = [kinds.get(item.path.relative_to(tests).parts[0], 3) for item in items]
    models, networks, circuits, whole = (
        [item for item, kind in zip(items, order, strict=True) if kind == wanted]
        for wanted in range(4)
    )
    room = max(0, len(items) // 2 - len(models))
    items[:] = [*models, *networks[:room], *circuits, *whole, *networks[room:]]


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder that all workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def spice_cache(session_folder: Path) -> Path:
    """Return the result cache of this test run: no test sees the user's, none repeats another's."""
    cache = session_folder / "spice-cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def quick_library(session_folder: Path, spice_cache: Path) -> Path:
    """Return a library of the default device, measured once in this run on two simulators."""
    from behavioral.library import Library
    from circuits.parameters import load_parameters

    place = session_folder / "quick.h5"
    with (session_folder / "quick.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            parameters = load_parameters("taox", "lp16")
            measured = Library.from_spice(*parameters, quick=True, workers=2, cache=spice_cache)
            measured.to_hdf5(place)
    return place

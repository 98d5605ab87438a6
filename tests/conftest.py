"""Fixtures and marker rules of the whole suite."""

import shutil
from pathlib import Path

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail, never skip, a test that needs ngspice where it is missing: CI cannot go green by it."""
    if item.get_closest_marker("ngspice") is not None and shutil.which("ngspice") is None:
        pytest.fail("this test needs ngspice: apt-get install ngspice libngspice0", pytrace=False)


@pytest.fixture(scope="session")
def spice_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a result cache of this test session, so that no test sees the user's results."""
    return tmp_path_factory.mktemp("spice-cache")

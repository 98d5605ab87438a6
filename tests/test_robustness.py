"""Characterisation as users treat it: interrupted, killed, run twice, with broken cards."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from circuits import plan
from system.commands.main import main

ROOT = Path(__file__).resolve().parent.parent
CODE = "import sys; from system.commands.main import main; sys.exit(main())"
pytestmark = pytest.mark.ngspice


def start(cache: Path, out: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a quick characterisation with its own cache."""
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "characterize", "--quick", "--out", str(out), *arguments],
        env={**os.environ, "NLDPE_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def descendants(cache: Path) -> list[int]:
    """Return the processes that know this cache."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"NLDPE_CACHE={cache}".encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def interrupt(cache: Path, out: Path, number: int) -> int:
    """Signal a characterisation in its middle; return its exit code when all of it has ended."""
    before = len(list(cache.rglob("*.npz")))
    process = start(cache, out, "--workers", "2")
    deadline = time.monotonic() + 60
    while len(list(cache.rglob("*.npz"))) < before + 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert b"Traceback" not in errors
    while descendants(cache) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not descendants(cache)
    assert not out.exists()
    return process.returncode


def test_a_characterisation_ended_three_ways_is_finished_by_two_at_once(
    quick_library, spice_cache, tmp_path
):
    """None leaves a process or half a file; what is kept stays, and the bytes are the usual ones.

    Some of the results are there from the beginning, so that this takes seconds.
    """
    cache = tmp_path / "cache"
    for result in spice_cache.glob("spice/[0-6]?/*.npz"):  # by the first figure of a sha256
        place = cache / result.relative_to(spice_cache)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(result, place)
    ends = [interrupt(cache, tmp_path / "l.h5", n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert [*ends, interrupt(cache, tmp_path / "l.h5", signal.SIGKILL)] == [143, 130, -9]
    kept = {p: p.stat().st_mtime_ns for p in cache.rglob("*.npz")}
    places = [tmp_path / "a.h5", tmp_path / "b.h5"]
    processes = [start(cache, place, "--workers", "1") for place in places]
    assert [p.communicate()[1] for p in processes] == [b"", b""]
    assert kept.items() < {p: p.stat().st_mtime_ns for p in cache.rglob("*.npz")}.items()
    assert [p.read_bytes() for p in places] == [quick_library.read_bytes()] * 2


def test_a_missing_simulator_ends_with_the_command_that_installs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NGSPICE_LIBRARY_PATH", "/nonexistent/libngspice.so")
    monkeypatch.setattr(plan, "_version", {})
    assert main(["characterize", "--quick", "--out", str(tmp_path / "l.h5")]) == 1
    assert "apt-get install ngspice libngspice0" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NLDPE_CACHE", "/proc/nldpe")
    assert main(["characterize", "--quick", "--out", str(tmp_path / "l.h5")]) == 1
    assert "set NLDPE_CACHE to another folder" in capsys.readouterr().err


def test_a_mistake_in_the_users_cards_is_refused_in_few_words(
    tmp_path, monkeypatch, capsys, caplog
):
    """Every netlist is rejected; after eight nobody need wait for the others."""
    cards = (ROOT / "netlists/cards/lp16.lib").read_text()
    lines = ["+ vth0 = = {{{" if "vth0" in line else line for line in cards.splitlines()]
    (tmp_path / "my.lib").write_text("\n".join(lines))
    technology = (ROOT / "netlists/technologies/lp16.toml").read_text()
    (tmp_path / "my.toml").write_text(technology.replace('"lp16.lib"', '"my.lib"'))
    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path / "cache"))
    words = ["--technology", str(tmp_path / "my.toml"), "--out", str(tmp_path / "l.h5")]
    assert main(["characterize", "--quick", *words]) == 1
    assert "rejected the first 8 of" in capsys.readouterr().err
    assert "rerun it with: ngspice -b" in caplog.text
    assert len(caplog.text.splitlines()) < 20
    assert not (tmp_path / "l.h5").exists()


@pytest.mark.parametrize("place", ["head", "metadata", "end"])
def test_a_damaged_library_is_refused_by_every_command(place, quick_library, tmp_path, capsys):
    image = bytearray(quick_library.read_bytes())
    at = {"head": 20, "metadata": 700, "end": len(image) - 9}[place]
    image[at : at + 8] = bytes(b ^ 0x5A for b in image[at : at + 8])
    (tmp_path / "l.h5").write_bytes(image)
    library = str(tmp_path / "l.h5")
    for command in (["inspect", library], ["infer", "lenet-mnist-float", "--library", library]):
        assert main(command) == 1
        assert "nldpe characterize" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("g_max_s =", "g_mx_s =", "unknown key 'g_mx_s'; nearest: g_max_s"),
        ("v_sinh_v = 0.4", "v_sinh_v = [1]", "must be a number"),
        ("g_max_s = 150e-6", "g_max_s = -1", "out of range; permitted"),
        ('name = "taox"', "name = =", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_users_device_is_named(old, new, message, tmp_path, capsys):
    text = (ROOT / "netlists/devices/taox.toml").read_text()
    assert old in text
    (tmp_path / "d.toml").write_text(text.replace(old, new))
    arguments = ["--device", str(tmp_path / "d.toml"), "--out", str(tmp_path / "l.h5")]
    assert main(["characterize", "--quick", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "l.h5").exists()


def test_a_device_never_seen_before_runs_a_network(tmp_path, monkeypatch, capsys):
    text = (ROOT / "netlists/devices/taox.toml").read_text()
    (tmp_path / "d.toml").write_text(text.replace("150e-6", '"80u"').replace('"taox"', '"mine"'))
    library = str(tmp_path / "l.h5")
    with monkeypatch.context() as patch:
        patch.setenv("NLDPE_CACHE", str(tmp_path / "cache"))
        arguments = ["--device", str(tmp_path / "d.toml"), "--out", library]
        assert main(["characterize", "--quick", *arguments]) == 0
    assert main(["infer", "lenet-mnist-float", "--library", library, "--samples", "30"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_dry_run_counts_netlists_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["characterize", "--quick", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert [c for c in ("acam", "crossbar", "readout") if c not in shown] == []
    assert not list(tmp_path.iterdir())

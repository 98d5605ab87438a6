"""Work on a real dask cluster: scheduler and two workers, processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from circuits import plan
from circuits.cluster import cluster_executor
from circuits.errors import CheckpointError, SimulationError
from circuits.plan import Job
from system.commands.main import main
from system.sweep import scoring
from system.sweep.axes import read_axes
from system.sweep.points import Conditions
from system.sweep.runs import RunFolder
from system.sweep.study import Study
from system.validation.full import Meter

pytestmark = pytest.mark.ngspice
ROOT = Path(__file__).resolve().parents[1]


def divider(k, stop="1u"):
    """Return a job of milliseconds; of tenths of a second with a stop time of 20 us."""
    text = f"t\nv1 a 0 sin({k} 1 1meg)\nr1 a b 1k\nc1 b 0 1p\n.tran 1n {stop} 0 1n\n.end\n"
    return Job(f"divider {k}", text, ("v(b)",))


def start(*words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *words], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address of a scheduler, and the processes of its two workers."""
    place = tmp_path_factory.mktemp("cluster")
    file = place / "scheduler.json"
    where = ("--host", "127.0.0.1", "--no-dashboard")
    scheduler = start("scheduler", *where, "--port", "0", "--scheduler-file", str(file))
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(place))
    workers = [start("worker", "--scheduler-file", str(file), *options) for _ in range(2)]
    end = time.monotonic() + 60
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.1)
    address = json.loads(file.read_text())["address"]
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_cluster_gives_the_bytes_of_one_and_of_eight_workers(cluster, tmp_path):
    """Counted and timed as those of this machine are."""
    jobs = [divider(k) for k in range(12)]
    with cluster_executor(cluster[0]) as executor, Meter(1, executor) as meter:
        far = plan.run(jobs, executor=meter, cache=tmp_path / "far")
    near, eight = (plan.run(jobs, workers=n, cache=tmp_path / f"near{n}") for n in (1, 8))
    assert [r.status for r in far] == [0] * 12
    for a, b, c in zip(far, near, eight, strict=True):
        assert a.vectors["v(b)"].tobytes() == b.vectors["v(b)"].tobytes()
        assert a.vectors["v(b)"].tobytes() == c.vectors["v(b)"].tobytes()
    assert meter.circuits == 12
    assert meter.seconds > 0


def test_a_sweep_on_a_cluster_is_that_of_this_machine(cluster, quick_library, tmp_path):
    """Bit for bit; workers get no file, and what they find is kept where the run is."""
    words = ["--library", str(quick_library), "--samples", "20", "--chips", "1", "--out"]
    words = ["sweep", "lenet-mnist-float", "--over", "noise-scale=4", *words, str(tmp_path)]
    assert main([*words, "--cluster", cluster[0]]) == 0
    results = list((tmp_path / "results").glob("*.json"))
    far = [json.loads(place.read_text())["value"] for place in results]
    study = Study(
        ["lenet-mnist-float"], read_axes(["noise-scale=4"]), Conditions(samples=20, chips=1),
        quick_library,
    )  # fmt: skip
    (tmp_path / "near").mkdir()
    (row,) = study.run(RunFolder(tmp_path / "near"))
    assert {place.name for place in results} == {p.name for p in tmp_path.glob("near/results/*")}
    assert sorted(far) == sorted(row.values)


def test_other_weights_on_a_worker_are_refused():
    scoring._network.cache_clear()
    with pytest.raises(CheckpointError, match="same files"):
        scoring._network("0" * 64, "lenet-mnist-float", 256, None, "{}")


def test_a_worker_killed_in_the_middle_loses_nothing(cluster, tmp_path):
    """The first result comes while the others wait, so the worker has jobs when it dies."""
    address, workers = cluster

    class Killing:
        def __init__(self, executor):
            self.executor = executor

        def submit(self, *task):
            future = self.executor.submit(*task)
            future.add_done_callback(lambda _: workers[0].send_signal(signal.SIGKILL))
            return future

    with cluster_executor(address) as executor:
        jobs = [divider(k, "20u") for k in range(10)]
        results = plan.run(jobs, executor=Killing(executor), cache=tmp_path)
    assert workers[0].wait(10) == -signal.SIGKILL
    assert [r.status for r in results] == [0] * 10
    assert [round(r.vectors["v(b)"][0]) for r in results] == list(range(10))


def test_without_scheduler_the_command_says_how_to_start_one(
    quick_library, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("circuits.cluster.CONNECT_S", 0.3)
    out = ["--out", str(tmp_path / "x.h5"), "--cluster"]
    assert main(["characterize", *out, "tcp://127.0.0.1:9"]) == 1
    assert "dask scheduler" in capsys.readouterr().err
    assert main(["characterize", *out, "no address:x"]) == 1
    words = ["sweep", "lenet-mnist-float", "--over", "stuck=0", "--library", str(quick_library)]
    assert main([*words, "--out", str(tmp_path / "s"), "--cluster", "tcp://127.0.0.1:9"]) == 1
    assert "dask scheduler" in capsys.readouterr().err
    assert not (tmp_path / "x.h5").exists()


def test_without_dask_the_message_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["characterize", "--cluster", "x", "--out", str(tmp_path / "x.h5")]) == 1
    assert ".[cluster]" in capsys.readouterr().err


def test_workers_of_another_simulator_are_refused():
    from circuits.cluster import _check_workers

    with pytest.raises(SimulationError, match="all need the same"):
        _check_workers({"tcp://a": "ngspice-1"}, "tcp://s")
    with pytest.raises(SimulationError, match="no workers"):
        _check_workers({}, "tcp://s")

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from circuits import plan
from circuits.cache import Cache, cache_root, make_key
from circuits.errors import SimulationError
from circuits.netlist import render
from circuits.plan import Job, WorkerPool
from circuits.session import RunError
from circuits.worker import RETRY_OPTIONS, attempt, with_options

pytestmark = pytest.mark.ngspice


def divider(k):
    return Job(f"divider {k}", f"t\nv1 a 0 {k}\nr1 a 0 1k\n.op\n.end\n", ("v(a)",))


# About 20 s of work for ngspice, so that a test can interfere while it runs.
LONG = Job("long", "t\nv1 a 0 sin(0 1 1meg)\nr1 a b 1k\nc1 b 0 1p\n.tran 1n 20m\n.end\n", ("v(b)",))


def test_results_come_in_the_order_of_the_jobs(spice_cache):
    results = plan.run([divider(k) for k in range(30)], workers=2, cache=spice_cache)
    assert [r.vectors["v(a)"][0] for r in results] == list(range(30))


def test_second_run_simulates_nothing(tmp_path, monkeypatch):
    first = plan.run([divider(k) for k in range(5)], cache=tmp_path)
    monkeypatch.setattr(WorkerPool, "submit", lambda *a, **k: pytest.fail("simulated again"))
    second = plan.run([divider(k) for k in range(5)], cache=tmp_path)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.vectors["v(a)"], b.vectors["v(a)"])


def test_failed_job_keeps_netlist_and_log_and_says_how_to_rerun(tmp_path):
    bad = Job("bad cell", "t\nv1 a 0 1\nx1 a 0 nosuch\n.op\n.end\n", ("v(a)",))
    (result,) = plan.run([bad], cache=tmp_path)
    path = result.message.rpartition("ngspice -b ")[2]
    assert result.status == 2
    assert "nosuch" in result.message
    assert Path(path).read_text() == bad.netlist
    assert path.startswith(str(tmp_path / "failed"))


def test_truncated_cache_file_is_made_anew(tmp_path):
    plan.run([divider(1)], cache=tmp_path)
    (path,) = (tmp_path / "spice").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:50])
    (result,) = plan.run([divider(1)], cache=tmp_path)
    assert (result.status, result.vectors["v(a)"][0]) == (0, 1.0)


def test_key_depends_on_netlist_vectors_and_simulator():
    keys = {make_key("n", ("v",), "a"), make_key("m", ("v",), "a"), make_key("n", ("w",), "a")}
    assert len(keys | {make_key("n", ("v",), "b")}) == 4


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NLDPE_CACHE", raising=False)
    assert cache_root() == tmp_path / "nldpe"
    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path / "x"))
    assert Cache().folder == tmp_path / "x" / "spice"


def test_slow_job_is_stopped_and_the_others_finish(tmp_path):
    results = plan.run([LONG, divider(2)], workers=1, cache=tmp_path, timeout_s=1.0)
    assert [r.status for r in results] == [2, 0]
    assert "within 1 s" in results[0].message


def test_dead_worker_is_replaced_and_its_job_retried(tmp_path):
    pool = WorkerPool(1)
    plan.run([divider(1)], executor=pool, cache=tmp_path)
    os.kill(pool._all[0].process.pid, signal.SIGKILL)
    (result,) = plan.run([divider(2)], executor=pool, cache=tmp_path)
    pool.shutdown()
    assert (result.status, result.vectors["v(a)"][0]) == (1, 2.0)


class _Stubborn:
    """A session that fails until it is given gmin=1e-12."""

    usable = True

    def simulate(self, netlist, vectors):
        if "gmin=1e-12" not in netlist:
            raise RunError("no convergence")
        return {"v(a)": np.array([1.0])}


def test_retry_ladder_tries_other_options_and_says_so():
    status, found, log = attempt(_Stubborn(), "t\nr1 a 0 1\n.op\n.end\n", ("v(a)",))
    assert (status, found["v(a)"][0]) == (1, 1.0)
    assert log.count("no convergence") == len(RETRY_OPTIONS) - 1


class _Overflowing:
    """A session in which the law of the RRAM overflows."""

    usable = True

    def simulate(self, netlist, vectors):
        if "max(min(" not in netlist:
            raise RunError("Error: 720.046 out of range for sinh")
        return {"v(a)": np.array([1.0])}


def test_an_overflow_of_the_rram_law_is_tried_again_with_the_limited_law():
    """As whole columns of ``cmos180`` need it: Newton's guesses differ by 700 v_sinh there."""
    status, _, log = attempt(_Overflowing(), render("rram_sinh", g="g"), ("v(a)",))
    assert status == 1
    assert log.count("out of range") == 1


def test_retry_options_are_the_last_lines_before_the_end():
    netlist = with_options("t\n.options gmin=1e-15\n.op\n.end\n", ".options gmin=1e-12")
    assert netlist.splitlines()[-2:] == [".options gmin=1e-12", ".end"]


def test_circuit_without_solution_climbs_the_whole_ladder(tmp_path):
    job = Job("flip", "t\nb1 a 0 v=v(a)>0.5 ? 0 : 1\nr1 a 0 1\n.op\n.end\n", ("v(a)",))
    (result,) = plan.run([job], cache=tmp_path)
    assert result.status == 2
    assert result.message.count("Timestep too small") == len(RETRY_OPTIONS)


def test_interrupt_ends_promptly_and_the_rest_resumes(tmp_path):
    """Ctrl-C during a long plan: under 5 s to the end, and what was finished is in the cache."""
    code = f"""
import signal
from circuits import plan
from test_plan import divider, LONG
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the suite runs behind &
plan.run([*(divider(k) for k in range(8)), LONG, LONG], workers=1, cache={str(tmp_path)!r})
"""
    folder = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": folder},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "spice").rglob("*.npz"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert time.monotonic() - begin < 5
    assert "KeyboardInterrupt" in error
    assert len(list((tmp_path / "spice").rglob("*.npz"))) == 8


def test_missing_library_says_how_to_install_it():
    code = "from circuits.plan import simulator_version; simulator_version()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NGSPICE_LIBRARY_PATH": "/nowhere/libngspice.so"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SimulationError" in done.stderr
    assert "apt-get install ngspice libngspice0" in done.stderr


def test_missing_program_says_how_to_install_it(monkeypatch):
    from circuits import batch

    monkeypatch.setenv("NGSPICE_EXECUTABLE", "no-such-program")
    with pytest.raises(SimulationError, match="apt-get install ngspice"):
        batch.find_ngspice()


def test_two_threads_may_run_plans_at_once(tmp_path):
    found = {}

    def work(k):
        found[k] = plan.run([divider(10 * k + j) for j in range(5)], workers=2, cache=tmp_path)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[r.vectors["v(a)"][0] for r in found[k]] for k in range(2)] == [
        [0, 1, 2, 3, 4],
        [10, 11, 12, 13, 14],
    ]


def test_any_executor_may_run_the_jobs(tmp_path):
    """dask.distributed hands over the same interface with Client.get_executor()."""
    with ThreadPoolExecutor(2) as executor:
        results = plan.run([divider(k) for k in range(4)], executor=executor, cache=tmp_path)
    assert [r.vectors["v(a)"][0] for r in results] == [0, 1, 2, 3]


def test_dry_run_records_and_simulates_nothing(tmp_path):
    jobs = []
    results = plan.run([divider(1)], record=jobs, cache=tmp_path)
    assert (jobs[0].name, results[0].status) == ("divider 1", 2)
    assert not list(tmp_path.iterdir())

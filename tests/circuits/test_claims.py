"""Two processes on one cache do nothing twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from circuits.files import write_bytes

# Notes every simulation that is stored, one line each; the netlists are dividers.
CODE = """
import sys
from pathlib import Path
from circuits import plan
from circuits.cache import Cache

class Noting(Cache):
    def store(self, key, status, vectors):
        with open(sys.argv[2], "a") as log:
            log.write(key + "\\n")
        super().store(key, status, vectors)

jobs = [
    plan.Job(f"j{k}", f"* d\\nv1 a 0 {k + 1}\\nr1 a b 1k\\nr2 b 0 1k\\n.op\\n.end\\n", ("v(b)",))
    for k in range(40)
]
print("ready", flush=True)
sys.stdin.readline()
found = plan.run(jobs, workers=1, cache=Noting(Path(sys.argv[1])))
volts = [float(r.vectors["v(b)"][0]) for r in found]
# Newton's method stops at a relative change of 1e-3, a linear circuit is far below.
assert all(abs(v - (k + 1) / 2) < 1e-6 * (k + 1) for k, v in enumerate(volts)), volts
"""


def start(cache, log):
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(cache), str(log)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.ngspice
def test_two_processes_simulate_each_job_once(tmp_path):
    log = tmp_path / "log"
    processes = [start(tmp_path / "cache", log) for _ in range(2)]
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [p.communicate()[1] for p in processes] == [b"", b""]
    assert [p.returncode for p in processes] == [0, 0]
    assert len(log.read_text().split()) == 40
    assert len(set(log.read_text().split())) == 40


@pytest.mark.ngspice
def test_the_jobs_of_a_killed_process_are_done_by_the_other(tmp_path):
    log = tmp_path / "log"
    first, second = (start(tmp_path / "cache", log) for _ in range(2))
    first.stdin.write(b"\n")
    first.stdin.flush()
    while not log.exists():
        time.sleep(0.01)
    second.stdin.write(b"\n")
    second.stdin.flush()
    first.kill()
    first.communicate()
    assert second.communicate()[1] == b""
    assert second.returncode == 0


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    place = tmp_path / "x"
    write_bytes(place, b"old")
    with pytest.raises(TypeError):
        write_bytes(place, "text")  # fails with the new file open
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]

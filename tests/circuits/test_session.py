"""The in-process session, run in worker processes: a rejected netlist spoils a process for good."""

import subprocess
import sys

import numpy as np
import pytest

from circuits import batch, plan
from circuits.plan import Job
from circuits.session import is_harmless

pytestmark = pytest.mark.ngspice

DIVIDER = "divider\nv1 a 0 {v}\nr1 a b 1k\nr2 b 0 1k\n.op\n.end\n"

BROKEN = {
    "unknown subcircuit": "t\nv1 a 0 7\nx1 a 0 nosuch\n.op\n.end\n",
    "unknown model": "t\nv1 a 0 7\nm1 a a 0 0 nomodel w=1u l=1u\n.op\n.end\n",
    "undefined parameter": "t\nv1 a 0 7\nr1 a 0 {undefined}\n.op\n.end\n",
    "unknown command": "t\nv1 a 0 7\nr1 a 0 1k\n.nonsense\n.op\n.end\n",
    "unclosed expression": "t\nv1 a 0 7\nb1 a 0 i=exp(v(a)\n.op\n.end\n",
    "no analysis": "t\nv1 a 0 7\nr1 a 0 1k\n.end\n",
    "voltage loop": "t\nv1 a 0 7\nr1 a 0 1k\nv2 a 0 6\n.op\n.end\n",
    "missing include": "t\nv1 a 0 7\nr1 a 0 1k\n.include nowhere.lib\n.op\n.end\n",
    "missing value": "t\nv1 a 0 7\nr1 a 0\n.op\n.end\n",
    "missing node": "t\nv1 a 0 7\nr1 a 1k\n.op\n.end\n",
    "unknown instance parameter": "t\nv1 a 0 7\nr1 a 0 1k resist=3\n.op\n.end\n",
    "unknown card parameter": (
        "t\nv1 a 0 7\nm1 a a 0 0 n w=1u l=1u\n.model n nmos level=54 vhto=1\n.op\n.end\n"
    ),
    "misspelt model": ("t\nv1 a 0 7\nm1 a a 0 0 nn w=1u l=1u\n.model n nmos level=54\n.op\n.end\n"),
    "missing terminal": ("t\nv1 a 0 7\nm1 a a 0 n w=1u l=1u\n.model n nmos level=54\n.op\n.end\n"),
    "missing subcircuit node": (
        "t\nv1 a 0 7\nx1 a s\n.subckt s p n\nr1 p n 1k\n.ends\n.op\n.end\n"
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_rejected_netlist_is_never_answered_by_the_previous_circuit(fault, spice_cache):
    before = Job("good", DIVIDER.format(v=7), ("v(a)",))
    after = Job("good", DIVIDER.format(v=5), ("v(a)",))
    bad = Job("bad", BROKEN[fault], ("v(a)",))
    results = plan.run([before, bad, after], workers=1, cache=spice_cache / fault)
    assert [r.status for r in results] == [0, 2, 0]
    assert (results[0].vectors["v(a)"][0], results[2].vectors["v(a)"][0]) == (7.0, 5.0)
    assert "v(a)" not in results[1].vectors


def test_missing_vector_is_a_failure(spice_cache):
    job = Job("missing", DIVIDER.format(v=1), ("v(nowhere)",))
    (result,) = plan.run([job], cache=spice_cache)
    assert result.status == 2
    assert "no vector 'v(nowhere)'" in result.message


def test_gmin_stepping_is_a_note_not_an_error(spice_cache):
    """PySpice 1.5 raises on the stderr note 'Starting dynamic gmin stepping' (its issue 379)."""
    stepping = DIVIDER.format(v=3).replace(".op", "d1 b 0 dm\n.model dm d\n.options noopiter\n.op")
    (result,) = plan.run([Job("stepping", stepping, ("v(a)",))], cache=spice_cache)
    assert (result.status, result.vectors["v(a)"][0]) == (0, 3.0)


def test_notes_are_harmless_and_errors_are_not():
    assert is_harmless("Note: Starting dynamic gmin stepping")
    assert is_harmless("Trying gmin =   1.0000E-03 Note: One successful gmin step")
    assert not is_harmless("Error: unknown subckt: x1 a 0 nosuch")
    assert not is_harmless("run simulation(s) aborted")


RC_SWEEPS = {
    "op": (".op", ("v(b)", "i(v1)")),
    "dc": (".dc v1 0 2 0.1", ("v(b)", "i(v1)")),
    "tran": (".tran 1n 100n", ("time", "v(b)", "i(v1)")),
    "ac": (".ac dec 10 1k 1g", ("frequency", "v(b)")),
}


@pytest.mark.parametrize("analysis", RC_SWEEPS)
def test_session_equals_the_batch_backend(analysis, spice_cache):
    """Reference: the same netlist in a separate ngspice process; both print the same doubles."""
    command, vectors = RC_SWEEPS[analysis]
    netlist = (
        f"rc\nv1 a 0 1 ac 1 pulse(0 1 5n 1n 1n 50n 1)\nr1 a b 1k\nc1 b 0 10p\n{command}\n.end\n"
    )
    (session,) = plan.run([Job("rc", netlist, vectors)], cache=spice_cache)
    other = batch.simulate(netlist, vectors)
    for name in vectors:
        np.testing.assert_array_equal(session.vectors[name], other[name])


@pytest.mark.slow
def test_memory_stays_flat_over_two_thousand_jobs():
    """PySpice's own simulator leaks 0.1 MB per run: 2,000 runs would add 200 MB."""
    script = """
import resource
from circuits.session import NgSession
from circuits.netlist import cards_text
from circuits.parameters import Technology
cards = cards_text(Technology.from_toml("lp16"))
session = NgSession()
def run(count):
    for k in range(count):
        body = f"{cards}\\nv1 a 0 {k}m\\nm1 a a 0 0 n16lp w=1u l=16n\\n.dc v1 0 1 0.5\\n.end\\n"
        session.simulate(f"t {k}\\n{body}", ["v(a)"])
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
start = run(50)
print(run(1950) - start)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 4e6

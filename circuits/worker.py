"""A worker process: receives jobs on a pipe, simulates them in its own libngspice, answers.

Started as ``python -m circuits.worker FD``. Not a ``multiprocessing`` child, so that no user script
is imported again, a dead worker takes no other job with it, and a time-out can kill exactly one.
"""

import os
import sys
from multiprocessing.connection import Connection
from typing import Any

from circuits.errors import SimulationError

# Tried in this order after a run fails; the last option line of a netlist wins.
RETRY_OPTIONS = (
    "",
    ".options method=gear maxord=2",
    ".options reltol=1e-2 itl1=500 itl2=200 itl4=100",
    ".options gmin=1e-12 itl1=1000 itl2=500 itl4=200 abstol=1e-11",
)

# Newton's guesses may lead where the law of an RRAM overflows (710): it then ends at 100 v_sinh.
LAW, LIMITED_LAW = "sinh(v(a,b)/{v_sinh})", "sinh(max(min(v(a,b)/{v_sinh},100),-100))"

JOBS_PER_WORKER = 400


def attempt(
    session: Any, netlist: str, vectors: tuple[str, ...]
) -> tuple[int, dict[str, Any], str]:
    """Run a netlist through the retry ladder: ``(status, vectors, log)``."""
    from circuits.session import LoadError, RunError

    log: list[str] = []
    for rung, options in enumerate(RETRY_OPTIONS):
        try:
            found = session.simulate(with_options(netlist, options), vectors)
            return (0 if rung == 0 else 1), found, "\n".join(log)
        except LoadError as error:
            log.append(str(error))
            break
        except RunError as error:
            log.append(f"{options or 'as given'}: {error}")
            if "out of range for" in str(error):
                netlist = netlist.replace(LAW, LIMITED_LAW)
            if not session.usable:
                break
    return 2, {}, "\n".join(log)


def with_options(netlist: str, options: str) -> str:
    """Insert an option line before ``.end``."""
    if not options:
        return netlist
    lines = netlist.rstrip().splitlines()
    if lines and lines[-1].strip().lower() == ".end":
        lines.pop()
    return "\n".join([*lines, options, ".end", ""])


def main(descriptor: int) -> None:
    """Serve jobs until the pipe closes, the session is spent, or enough jobs are done."""
    # The library may print on its own: keep that away from the terminal.
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    connection = Connection(descriptor)
    try:
        from circuits.session import NgSession

        session = NgSession()
    except SimulationError as error:
        connection.send(("error", str(error)))
        return
    connection.send(("ready", session.version))
    for count in range(1, JOBS_PER_WORKER + 1):
        try:
            netlist, vectors = connection.recv()
        except (EOFError, OSError):
            return
        answer = attempt(session, netlist, vectors)
        last = not session.usable or count == JOBS_PER_WORKER
        connection.send((*answer, last))
        if last:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))

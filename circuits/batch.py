"""The second backend: one ``ngspice -b`` process per netlist, and a reader of its raw file.

Slower than ``NgSession`` (a process and a parse each time) but fully isolated: it cross-checks the
session in the tests, and it is what a kept netlist of a failed job is rerun with.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import SimulationError
from circuits.session import INSTALL_HINT, LoadError, RunError, is_harmless, refuse_faults

_FATAL = re.compile(r"error|fatal|aborted|no data|unknown|can't find|cannot find", re.IGNORECASE)


def find_ngspice() -> str:
    """Return the path of the ngspice program (``NGSPICE_EXECUTABLE`` or the search path).

    Raises
    ------
    SimulationError
        When there is none.
    """
    path = shutil.which(os.environ.get("NGSPICE_EXECUTABLE", "ngspice"))
    if path is None:
        raise SimulationError(f"the program ngspice is not installed; {INSTALL_HINT}")
    return path


def simulate(
    netlist: str, vectors: Sequence[str], timeout_s: float = 300.0
) -> dict[str, NDArray[Any]]:
    """Run one netlist with ``ngspice -b`` and return the wanted vectors.

    Raises
    ------
    LoadError, RunError
        As ``NgSession.simulate``.
    """
    program = find_ngspice()
    refuse_faults(netlist)
    with tempfile.TemporaryDirectory(prefix="nldpe-") as name:
        folder = Path(name)
        (folder / "job.cir").write_text(netlist, encoding="utf-8")
        try:
            done = subprocess.run(
                [program, "-b", "-r", "job.raw", "job.cir"],
                cwd=folder,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"ngspice took longer than {timeout_s:g} s") from error
        lines = (done.stdout + "\n" + done.stderr).splitlines()
        bad = [line for line in lines if _FATAL.search(line) and not is_harmless(line)]
        raw = folder / "job.raw"
        if not raw.is_file():
            raise LoadError("ngspice rejected the netlist: " + " | ".join(bad[:4] or lines[-4:]))
        if bad or done.returncode:
            raise RunError("ngspice failed: " + " | ".join(bad[:4] or lines[-4:]))
        plot = read_raw(raw)
    return {name: _pick(plot, name) for name in vectors}


def read_raw(path: Path) -> dict[str, NDArray[Any]]:
    """Read the first plot of a binary ngspice raw file: lower-case name to array.

    Raises
    ------
    SimulationError
        When the file is truncated or not a binary raw file.
    """
    head, mark, data = path.read_bytes().partition(b"Binary:\n")
    text = head.decode("latin-1")
    variables = re.search(r"No\. Variables:\s*(\d+)", text)
    points = re.search(r"No\. Points:\s*(\d+)", text)
    if not mark or variables is None or points is None:
        raise SimulationError(f"{path} is not a binary ngspice raw file")
    columns, rows = int(variables[1]), int(points[1])
    kind = np.dtype(np.complex128 if "Flags: complex" in text else np.float64)
    if len(data) < rows * columns * kind.itemsize:
        raise SimulationError(f"{path} is truncated")
    names = [
        line.split()[1].lower() for line in text.partition("Variables:\n")[2].splitlines()[:columns]
    ]
    table = np.frombuffer(data, dtype=kind, count=rows * columns).reshape(rows, columns)
    plot = {name: table[:, k].copy() for k, name in enumerate(names)}
    if "frequency" in plot:  # ngspice leaves the imaginary part of the frequency uninitialised
        plot["frequency"] = plot["frequency"].real.astype(kind)
    return plot


def _pick(plot: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Find ``v(a)``, ``a`` or ``i(v1)``, ``v1#branch`` under either spelling."""
    key = name.lower()
    inner = key[2:-1] if key.startswith(("v(", "i(")) and key.endswith(")") else key
    for spelling in (key, inner, f"v({inner})", f"i({inner})", f"{inner}#branch"):
        if spelling in plot:
            if not np.isfinite(plot[spelling]).all():
                raise RunError(f"ngspice returned values that are not finite in {name!r}")
            return plot[spelling]
    raise RunError(f"ngspice returned no vector {name!r}")

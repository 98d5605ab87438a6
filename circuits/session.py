"""One libngspice in this process, through PySpice's ``NgSpiceShared``, with its traps closed.

What is guarded against, each seen with ngspice 39 and PySpice 1.5:

- OpenMP: BSIM4 evaluation spins on two threads; ``OMP_THREAD_LIMIT=1`` must be set before loading.
- A rejected netlist raises nothing and the *previous* circuit answers: all output of the load is
  scanned, and the circuit must report a title that no other job has.
- Some malformed lines get a default without a word: ``circuits.syntax`` refuses them first.
- Notes on stderr (gmin stepping) are not errors: messages are classified here, not by PySpice.
- Leaks: every job ends with ``destroy`` and ``remcirc``; only the wanted vectors are fetched.
"""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.errors import SimulationError
from circuits.syntax import find_faults

REJECTED = "ngspice rejected the netlist"
INSTALL_HINT = "install it with: apt-get install ngspice libngspice0"

# Loading: anything that smells of trouble. Running: what ngspice says when it gives up.
_LOAD_ERROR = re.compile(
    r"error|cannot recover|awaits to be detached|not parsed|undefined|unknown|unrecogni[sz]ed"
    r"|can't find|could not find|cannot find|unable to find|no such|too few|too many|no value",
    re.IGNORECASE,
)
_RUN_ERROR = re.compile(
    r"error|aborted|not parsed|timestep too small|no convergence|singular matrix|no circuit"
    r"|no such|fatal|can't find|cannot find|unable to find|unknown",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"^(note|trying gmin|supplies reduced|source stepping|one successful|using sparse"
    r"|reducing trtol|doing analysis|no compatibility mode"
    r"|warning: (singular matrix|pd = 0|ps = 0))"
    # gmin and source stepping report their attempts with these words and may still succeed
    r"|stepping (completed|failed)|can't find init file|spinit"
    # a vendor's library may hold parameters that this version does not know
    r"|parameter \(\w+\) - ignored",
    re.IGNORECASE,
)
_IGNORED = re.compile(r"unrecognized parameter \((\w+)\) - ignored")
_INCLUDE = re.compile(r"^\s*\.(include|inc|lib)\b", re.IGNORECASE | re.MULTILINE)


class LoadError(SimulationError):
    """ngspice rejected the netlist. The process must not be used any further."""


class RunError(SimulationError):
    """The analysis failed or returned no usable data; other settings may succeed."""


def _simulator_class() -> Any:
    """Return a subclass of PySpice's ``NgSpiceShared`` that only collects messages."""
    os.environ["OMP_THREAD_LIMIT"] = "1"
    try:
        from PySpice.Spice.NgSpice import Shared
    except ImportError as error:
        raise SimulationError(f"PySpice cannot be imported: {error}") from error

    class Simulator(Shared.NgSpiceShared):  # type: ignore[misc]
        lines: list[str]

        @staticmethod
        def _send_char(message_c: Any, ngspice_id: int, user_data: Any) -> int:
            self = Shared.ffi.from_handle(user_data)
            text = Shared.ffi.string(message_c).decode("utf-8", "replace")
            # The library puts "stdout " or "stderr " in front of every line.
            content = text.partition(" ")[2]
            self._stdout.append(content)
            self.__dict__.setdefault("lines", []).append(content)
            return 0

        @staticmethod
        def _exit(status: int, immediate: bool, quit_: bool, ngspice_id: int, user: Any) -> int:
            self = Shared.ffi.from_handle(user)
            self.__dict__.setdefault("lines", []).append("Error: ngspice asked to be detached")
            return int(status)

        def circ(self, lines: Sequence[str]) -> int:
            """Hand over a netlist; PySpice's own method hides what goes wrong."""
            keep = [Shared.ffi.new("char[]", line.encode()) for line in [*lines, ""]]
            array = Shared.ffi.new("char *[]", [*keep, Shared.ffi.NULL])
            return int(self._ngspice_shared.ngSpice_Circ(array))

        def vector(self, name: str) -> NDArray[Any] | None:
            """Copy one vector of the current plot, or return None when it does not exist."""
            info = self._ngspice_shared.ngGet_Vec_Info(name.encode())
            if info == Shared.ffi.NULL or info.v_length <= 0:
                return None
            if info.v_compdata == Shared.ffi.NULL:
                real = Shared.ffi.buffer(info.v_realdata, info.v_length * 8)
                return np.frombuffer(real, dtype=np.float64).copy()
            pairs = Shared.ffi.buffer(info.v_compdata, info.v_length * 16)
            return np.frombuffer(pairs, dtype=np.complex128).copy()

    return Simulator


def _library_candidates() -> list[str]:
    given = os.environ.get("NGSPICE_LIBRARY_PATH")
    return [given] if given else ["libngspice.so.0", "libngspice.so", "libngspice.dylib"]


class NgSession:
    """The simulator of this process; one per process, since ngspice is not re-entrant.

    Raises
    ------
    SimulationError
        When libngspice cannot be loaded.
    """

    def __init__(self) -> None:
        simulator = _simulator_class()
        quiet = logging.getLogger("PySpice.Spice.NgSpice.Shared.NgSpiceShared")
        level, failures = quiet.level, []
        quiet.setLevel(logging.CRITICAL)  # 'Unsupported Ngspice version 39' is harmless
        try:
            for path in _library_candidates():
                simulator.LIBRARY_PATH = path
                try:
                    self._ng = simulator.new_instance()
                    break
                except OSError as error:
                    failures.append(str(error))
            else:
                raise SimulationError(
                    f"libngspice cannot be loaded ({failures[0]}); {INSTALL_HINT}"
                )
        finally:
            quiet.setLevel(level)
        self.version = f"ngspice-{self._ng.ngspice_version}"
        self.usable = True

    def simulate(self, netlist: str, vectors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Load a netlist, run its analysis, and return copies of the wanted vectors.

        Parameters
        ----------
        netlist : str
            Complete SPICE text; its first line, the title, is replaced by a unique one.
        vectors : sequence of str
            Names as ngspice knows them: ``v(out)`` or ``out``, ``i(vdd)``, ``time``.

        Raises
        ------
        LoadError
            The netlist was rejected. If by ngspice, the session refuses further work (``usable``
            is False).
        RunError
            The analysis failed, or a vector is missing or not finite.
        """
        if not self.usable:
            raise LoadError("this session has seen a load error; start another process")
        refuse_faults(netlist)
        try:
            self._load(netlist)
            return self._run(vectors)
        finally:
            if self.usable:  # after "cannot recover" any further command may crash the process
                self._command("destroy all")
                self._command("remcirc")

    def _load(self, netlist: str) -> None:
        _, _, body = netlist.partition("\n")
        title = f"nldpe {hashlib.sha256(netlist.encode()).hexdigest()[:24]}"
        self._ng.lines = []
        self._ng.clear_output()
        code = self._ng.circ([title, *(line for line in body.splitlines() if line.strip())])
        # ngspice echoes comments of the netlist nowhere, so every line here is its own.
        bad = [
            line for line in self._ng.lines if _LOAD_ERROR.search(line) and not is_harmless(line)
        ]
        if not _INCLUDE.search(body):  # our own text: what is ignored there is misspelt
            bad += [line for line in self._ng.lines if _IGNORED.search(line)]
        if not any(f"Circuit: {title}" in line for line in self._ng.lines):
            bad.append(f"ngspice did not take the circuit {title!r}")
        if code or bad:
            self.usable = False
            raise LoadError(f"{REJECTED}: " + " | ".join(bad[:4] or ["no reason"]))

    def _run(self, vectors: Sequence[str]) -> dict[str, NDArray[Any]]:
        lines = self._command("run")
        bad = [line for line in lines if _RUN_ERROR.search(line) and not is_harmless(line)]
        if bad:
            if any("not parsed" in line or "no circuit" in line.lower() for line in bad):
                self.usable = False
            raise RunError("ngspice failed: " + " | ".join(bad[:4]))
        found = {}
        for name in vectors:
            data = self._ng.vector(name)
            if data is None:
                raise RunError(f"ngspice returned no vector {name!r}")
            if not np.isfinite(data).all():
                raise RunError(f"ngspice returned values that are not finite in {name!r}")
            found[name] = data
        return found

    def _command(self, command: str) -> list[str]:
        self._ng.lines = []
        try:
            self._ng.exec_command(command)
        except NameError as error:  # PySpice raises NameError for a non-zero return code
            self._ng.lines.append(f"Error: {error}")
        return list(self._ng.lines)


def refuse_faults(netlist: str) -> None:
    """Raise ``LoadError`` for lines that ngspice would accept as something else."""
    faults = find_faults(netlist)
    if faults:
        raise LoadError("malformed netlist: " + " | ".join(faults[:4]))


def is_harmless(line: str) -> bool:
    """Tell whether an output line of ngspice is a note, not an error."""
    return _HARMLESS.search(line.strip()) is not None

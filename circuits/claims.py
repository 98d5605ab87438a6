"""Says which simulations a process is at, so that another one on the same cache waits for them.

A claim is a lock on one byte of a file beside the cache; the system drops it when the process
ends, however it ends. Processes on file systems without locks repeat work, nothing worse.
"""

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

_files: dict[Path, int] = {}  # closing one would drop every claim of this process


class Claims:
    """What this process simulates at the moment.

    Parameters
    ----------
    root : folder of the cache; made if need be.
    """

    def __init__(self, root: Path) -> None:
        place = root.absolute() / "claims.lock"
        if place not in _files:
            root.mkdir(parents=True, exist_ok=True)
            _files[place] = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = _files[place]

    def take(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that no other process is at; where there is none, wait for the first."""
        free = [key for key in keys if self._lock(key, fcntl.LOCK_NB)]
        if not free and keys:
            self._lock(keys[0], 0)
            return [keys[0]]
        return free

    def release(self, key: str) -> None:
        """Let others have it."""
        with contextlib.suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(key))

    def _lock(self, key: str, flag: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | flag, 1, _byte(key))
        except (BlockingIOError, PermissionError):  # POSIX permits either where it is taken
            return False
        except OSError:
            return True
        return True


def _byte(key: str) -> int:
    """Return the place in the file that stands for a key: 60 bits of its sha256."""
    return int(key[:15], 16)

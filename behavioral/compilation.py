"""Tells whether the kernels still have to be compiled for this machine."""

from pathlib import Path
from typing import Any


def kernels_are_compiled() -> bool:
    """Return whether numba's cache holds the ACAM kernels as they stand in the source.

    These are the ones that every analog mode needs. numba drops an index that belongs to another
    time stamp of the source, so an index older than the source counts as none.
    """
    from behavioral.kernels import steps

    kernel: Any = steps.compile_steps
    if not hasattr(kernel, "stats"):  # NUMBA_DISABLE_JIT: nothing is ever compiled
        return True
    source = Path(kernel.py_func.__code__.co_filename).stat().st_mtime
    indices = Path(kernel.stats.cache_path).glob(f"steps.{kernel.__name__}-*.nbi")
    return any(index.stat().st_mtime >= source for index in indices)

"""Whether kernels are compiled is read from numba's own cache."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import numpy as np
from behavioral.compilation import kernels_are_compiled
from behavioral.kernels import steps
print(kernels_are_compiled())
"""
# A stand-in for compilation: numba's cache file, made by its own index writer.
SAVE = "steps.compile_steps._cache._cache_file._save_index({})\nprint(kernels_are_compiled())"


def run(code: str, cache: Path, **variables: str) -> list[str]:
    """Run in a process of its own, with a kernel cache of its own."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBA_DISABLE_JIT": "0"}
    environment |= variables
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_an_empty_cache_means_that_kernels_will_be_compiled(tmp_path):
    assert run(CODE + SAVE, tmp_path) == ["False", "True"]
    assert run(CODE, tmp_path) == ["True"]


def test_an_index_of_an_older_source_does_not_count(tmp_path):
    run(CODE + SAVE, tmp_path)
    for index in tmp_path.rglob("*.nbi"):
        os.utime(index, (1, 1))
    assert run(CODE, tmp_path) == ["False"]


def test_without_the_compiler_nothing_is_announced(tmp_path):
    assert run(CODE, tmp_path, NUMBA_DISABLE_JIT="1") == ["True"]

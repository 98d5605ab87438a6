"""The same seed gives the same bits on any number of threads, through a whole network."""

import os
import subprocess
import sys

import numba
import pytest

CODE = """
import sys
from behavioral.library import Library
from system.inference import evaluate
from system.networks import load_network
library = Library.from_hdf5(sys.argv[1])
network = load_network("llama-austen", tile_rows=256)
for mode in ("float", "noisy"):
    result = evaluate(network, library, mode=mode, samples=2, seed=5, read_noise="per-read")
    print(mode, result.values[0].hex())
"""


@pytest.mark.ngspice
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="threads exist with the JIT only")
def test_perplexity_has_the_same_bits_on_one_and_two_threads(quick_library):
    """Bit equality, float and noisy with noise at every read: BLAS, numba and thread pool."""
    found = set()
    for threads in ("1", "2"):
        names = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        command = [sys.executable, "-c", CODE, str(quick_library)]
        run = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
        found.add(run.stdout)
    assert len(found) == 1

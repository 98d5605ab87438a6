"""The same seed gives the same bits through a whole network: any threads, any batch."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from behavioral.library import Library
from system.engine import make_ops
from system.hardware import Chip
from system.networks import load_network
from tests.behavioral.blas import assert_same

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


@pytest.mark.ngspice
@pytest.mark.parametrize(("name", "count"), [("lenet-mnist-float", 5), ("llama-austen", 3)])
def test_results_do_not_depend_on_the_batch(quick_library, name, count):
    """Noise at every read included: the number of a read names its draws."""
    network, library = load_network(name, tile_rows=256), Library.from_hdf5(quick_library)
    inputs = network.samples(count).inputs[:, :28]

    def forward(step):
        ops = make_ops(network, library, "noisy", Chip(noise="per-read"))
        parts = [inputs[k : k + step] for k in range(0, count, step)]
        return np.concatenate([network.model.forward(part, ops) for part in parts])

    whole = forward(count)
    for step in (1, 2):
        assert_same(forward(step), whole)

"""Column evaluations against ngspice: 256 transistor-level cells, wires and read-out."""

from time import perf_counter

import numpy as np
import pytest

from behavioral import reference
from behavioral.crossbar import CrossbarModel
from circuits import crossbar

COLUMNS, SAMPLES, BATCH = 2, 32, 1024


@pytest.mark.ngspice
@pytest.mark.parametrize("method", ["product", "Newton"])
def test_column_evaluation(compare, library, tmp_path, method):
    """Evaluate columns of the positive main array."""
    rng = np.random.default_rng(0)
    w = np.clip(rng.normal(0, 0.25, (256, 256)), -1, 1).astype(np.float32)
    x = rng.uniform(0, 1, (BATCH, 256)).astype(np.float32)
    model = CrossbarModel(library)
    array = model.program(w, keep_devices=True)
    g = array.devices[0].T[:COLUMNS].astype(float)  # main array, positive weights
    v = x[:SAMPLES].astype(float) * model.v_read
    runs = iter(range(100))

    def spice():  # a new cache each time, so that every run simulates
        return crossbar.replay(
            library.device, library.technology, g, v, workers=1, cache=tmp_path / str(next(runs))
        )

    error = np.abs(reference.solve(model, g, v) / spice() - 1).max()
    assert error < 1e-3
    if method == "product":
        ours, work = (lambda: model.multiply(array, x)), BATCH * 256
    else:
        ours, work = (lambda: reference.solve(model, g, v)), SAMPLES * COLUMNS
    speed_up = compare(
        f"column of 256 cells, {method}; ngspice",
        ours, spice, work, SAMPLES * COLUMNS, "columns", rounds=3, clock=perf_counter,
    )  # fmt: skip
    if method == "product":
        assert speed_up >= 1e5

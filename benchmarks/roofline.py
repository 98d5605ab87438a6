"""Where our kernels lie between what this machine's memory and its BLAS can give.

    python -m benchmarks.roofline --library library.h5 --plot roofline.png

One thread. Bandwidth: the inner product of 256 MB of float32 with themselves, which no cache holds.
Peak: the float32 product of 1024 x 1024 matrices. For each kernel the operations of its plain
equivalent, and the bytes that it must move at least: what it reads and writes, each array once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from behavioral.acam import AcamModel, Windows
from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from behavioral.products import ProductModel
from behavioral.threads import one_blas_thread
from benchmarks.timing import in_turn
from circuits.errors import NldpeError

SIZE, COLUMNS, HEADS, TOKENS, WIDTH = 256, 64, 8, 128, 64


@dataclass(frozen=True)
class Kernel:
    """A call, and what it stands for.

    Attributes
    ----------
    name : str
    run : callable
    operations : float
        Multiplications and additions of the plain equivalent; look-ups where there are none.
    moved : float
        Bytes that must move at least.
    """

    name: str
    run: Callable[[], object]
    operations: float
    moved: float

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.moved


@dataclass(frozen=True)
class Machine:
    """Measured limits: bytes/s and float32 operations/s."""

    bandwidth: float
    peak: float

    def limit(self, kernel: Kernel) -> float:
        """Return the most operations/s that memory and BLAS allow it."""
        return min(self.peak, self.bandwidth * kernel.intensity)


def measure_machine() -> Machine:
    """Measure bandwidth and peak."""
    large = np.ones(1 << 26, np.float32)
    a = np.ones((1024, 1024), np.float32)
    read, product = in_turn([lambda: large @ large, lambda: a @ a], rounds=3)
    return Machine(large.nbytes / read, 2 * 1024**3 / product)


def crossbar_kernels(library: Library) -> list[Kernel]:
    """Products of 256 x 256 at three batches, and numpy's own."""
    rng = np.random.default_rng(0)
    w = np.clip(rng.normal(0, 0.25, (SIZE, SIZE)), -1, 1).astype(np.float32)
    model, found = CrossbarModel(library), []
    arrays = {noise: model.program(w, noise=noise) for noise in ("frozen", "per-read")}
    for batch in (1, 64, 1024):
        x = rng.uniform(0, 1, (batch, SIZE)).astype(np.float32)
        operations, moved = 2.0 * batch * SIZE**2, 2.0 * x.nbytes
        found.append(
            Kernel(f"numpy x @ w, batch {batch}", lambda x=x: x @ w, operations, moved + w.nbytes)
        )
        for noise, array in arrays.items():
            squares = 0 if array.spread is None else array.spread.parts
            products = 1 + squares / SIZE  # of the inputs, and of their squares
            found.append(
                Kernel(
                    f"product {noise}, batch {batch}",
                    lambda x=x, array=array: model.multiply(array, x),
                    products * operations,
                    moved + array.nbytes,
                )
            )
    return found


def lookup_kernels(library: Library) -> list[Kernel]:
    """ACAM conversions and products of log codes."""
    rng, acam = np.random.default_rng(0), AcamModel.from_library(library)
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), (0.0, 1.0), bits=8)
    unit = acam.program(*windows.on_data_line(), windows.bit, 8, columns=COLUMNS)
    u = rng.uniform(0, 1, (512, COLUMNS)).astype(np.float32)
    products = ProductModel.program(acam)
    q, k = rng.normal(size=(2, HEADS, TOKENS, WIDTH)).astype(np.float32)
    codes = products.encode(q, 4.0), products.encode(k, 4.0)
    pairs = float(HEADS * TOKENS**2 * WIDTH)
    return [
        Kernel(
            "ACAM conversion, 512 x 64",
            lambda: acam.convert(unit, u),
            float(u.size),
            u.nbytes + u.size + unit.table.nbytes,
        ),
        Kernel(
            "log-code product, 8 x 128 x 128 x 64",
            lambda: products.matmul(*codes),
            2 * pairs,  # one addition of codes, one of what the table gives
            2.0 * (q.size + k.size) + 4 * HEADS * TOKENS**2,
        ),
    ]


def draw(machine: Machine, rows: list[tuple[Kernel, float]], path: Path) -> None:
    """Plot operations/s over operations per byte."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    x = np.geomspace(0.1, 400, 200)
    axes.loglog(x, np.minimum(machine.peak, machine.bandwidth * x) / 1e9, color="0.3")
    families = {"numpy": "o", "product frozen": "s", "product per-read": "^", "": "D"}
    for (name, marker), color in zip(
        families.items(), plt.rcParams["axes.prop_cycle"], strict=False
    ):
        known = [other for other in families if other]
        mine = [
            (kernel, rate)
            for kernel, rate in rows
            if kernel.name.startswith(name)
            and (name or not any(kernel.name.startswith(other) for other in known))
        ]
        axes.plot(
            [kernel.intensity for kernel, _ in mine],
            [rate / 1e9 for _, rate in mine],
            marker, color=color["color"], label=name or "look-ups (ACAM, log codes)",
        )  # fmt: skip
    axes.set(xlabel="operations per byte moved at least", ylabel="10⁹ operations/s, one thread")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--library", required=True, help="from nldpe characterize")
    parser.add_argument("--plot", type=Path, default=None, metavar="FILE.png")
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    with one_blas_thread():
        machine = measure_machine()
        kernels = crossbar_kernels(library) + lookup_kernels(library)
        spent = in_turn([kernel.run for kernel in kernels])
    rows = [(kernel, kernel.operations / s) for kernel, s in zip(kernels, spent, strict=True)]
    print(f"memory {machine.bandwidth / 1e9:.3g} GB/s, product {machine.peak / 1e9:.3g} GFLOP/s\n")
    print("| kernel | operations per byte | 10^9 operations/s | share of the limit |")
    print("|---|---|---|---|")
    for kernel, rate in rows:
        share = f"{100 * rate / machine.limit(kernel):.0f} %"
        print(f"| {kernel.name} | {kernel.intensity:.3g} | {rate / 1e9:.3g} | {share} |")
    if given.plot:
        draw(machine, rows, given.plot)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

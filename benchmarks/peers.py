"""Our models beside other simulators of analog computing, on the same work.

    pip install '.[train,peers]'
    pip install --no-deps badcrossbar pathvalidate     # it draws with cairo, its solver needs none
    python -m benchmarks.peers --library library.h5

One thread, seconds of the processor, everything in turn within one run; ratios are to the float32
product of numpy, or to the first line of a table. A peer that is not installed is a line that says
so. Device models are not matched between peers: what each includes stands in its line.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray

from behavioral.acam import AcamModel, Windows
from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from behavioral.products import ProductModel
from behavioral.wire_grid import WireGrid, effective_matrix
from benchmarks.timing import in_turn
from circuits.errors import NldpeError

Work = Callable[[], object]
SIZE, ACAM_INPUTS, HEADS, TOKENS, WIDTH = 256, 100_000, 2, 128, 64


def lightning(w: NDArray[np.float32], x: NDArray[np.float32]) -> Work:
    """8-bit inputs, output noise and weight noise at every call (training mode: eval has none)."""
    configs = import_module("aihwkit_lightning.simulator.configs")
    nn = import_module("aihwkit_lightning.nn")
    config = configs.TorchInferenceRPUConfig()
    config.forward.inp_res, config.forward.out_noise = 2**8 - 2, 0.01
    config.pre_post.input_range.enable = True
    config.modifier.noise_type = configs.WeightNoiseInjectionType.ADD_NORMAL
    config.modifier.std_dev = 0.02
    layer = nn.AnalogLinear(SIZE, SIZE, bias=False, rpu_config=config).train()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w.T))
    inputs = torch.from_numpy(x)

    def run() -> object:
        with torch.no_grad():
            return layer(inputs)

    return run


def crosssim(w: NDArray[np.float32], x: NDArray[np.float32]) -> Work:
    """Its default core: programmed matrix, no read noise."""
    simulator = import_module("simulator")
    core = simulator.AnalogCore(w.T, params=simulator.CrossSimParameters())
    return lambda: core @ x.T


PEERS = {
    "aihwkit-lightning": lightning,
    "CrossSim": crosssim,
}


def found(name: str, make: Callable[[], Work]) -> Work | None:
    """Return a peer's work; None, and a line, where it is missing or does not run."""
    try:
        work = make()
        work()
    except ImportError as error:
        print(f"| {name} | not installed ({error}) |")
        return None
    except Exception as error:  # a peer may fail in any way: the others are still compared
        print(f"| {name} | does not run here: {type(error).__name__}: {error} |")
        return None
    return work


def show(title: str, names: list[str], works: list[Work], count: int, unit: str) -> None:
    """Time in turn and print rates, and times over that of the first."""
    print(f"\n{title}\n\n| | {unit}/s | time / time of the first |\n|---|---|---|")
    best = in_turn(works)
    for name, spent in zip(names, best, strict=True):
        print(f"| {name} | {count / spent:.3g} | {spent / best[0]:.2g} |", flush=True)


def products(library: Library) -> None:
    """256 x 256 products: wires, cells and noise of ours against what the peers include."""
    rng = np.random.default_rng(0)
    w = np.clip(rng.normal(0, 0.25, (SIZE, SIZE)), -1, 1).astype(np.float32)
    model = CrossbarModel(library)
    frozen, per_read = (model.program(w, noise=noise) for noise in ("frozen", "per-read"))
    for batch in (1, 64, 1024):
        x = rng.uniform(0, 1, (batch, SIZE)).astype(np.float32)
        names = ["numpy float32", "ours: wires, cells, noise frozen", "ours: the same, per read"]
        works: list[Work] = [
            lambda x=x: x @ w,
            lambda x=x: model.multiply(frozen, x),
            lambda x=x: model.multiply(per_read, x),
        ]
        for name, make in PEERS.items():
            work = found(name, lambda make=make, x=x: make(w, x))
            if work is not None:
                names.append(f"{name}: {str(make.__doc__).rstrip('.')}")
                works.append(work)
        show(f"Product {SIZE} x {SIZE}, batch {batch}", names, works, batch, "vectors")


def wires(size: int, ohms: float = 1.0) -> None:
    """One vector through a passive array with wires in both directions."""
    rng = np.random.default_rng(1)
    g, v = rng.uniform(1e-6, 1.5e-4, (size, size)), rng.uniform(-0.2, 0.2, (1, size))
    effective = effective_matrix(g, ohms, ohms, ohms)
    names = ["ours: product with the effective matrix", "ours: the effective matrix, once"]
    works: list[Work] = [lambda: v @ effective, lambda: effective_matrix(g, ohms, ohms, ohms)]
    names.append("ours: exact sparse solution")
    works.append(lambda: WireGrid(g, ohms, ohms, ohms).solve(v))

    def solver() -> Work:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            badcrossbar = import_module("badcrossbar")
        import_module("logging").getLogger().setLevel("WARNING")
        options = {"all_currents": False, "node_voltages": False}
        return lambda: badcrossbar.compute(v.T, 1 / g, ohms, **options)

    work = found("badcrossbar", solver)
    if work is not None:
        output = badcrossbar_output(work)
        names.append(
            f"badcrossbar (largest difference {np.abs(output / (v @ effective) - 1).max():.0e})"
        )
        works.append(work)
    show(f"Passive array {size} x {size}, {ohms:g} ohm a segment", names, works, 1, "vectors")


def badcrossbar_output(work: Work) -> NDArray[np.float64]:
    """Return the output currents of its solution."""
    return np.asarray(work().currents.output)  # type: ignore[attr-defined]


def conversions(library: Library) -> None:
    """8-bit ACAM units of 128 rows, one row after the other in torch as published code does."""
    model = AcamModel.from_library(library)
    windows = Windows.from_function(lambda x: x, (0.0, 1.0), (0.0, 1.0), bits=8)
    lo, hi = windows.on_data_line()
    unit = model.program(lo, hi, windows.bit, 8, columns=1)
    u = np.random.default_rng(0).uniform(0, 1, (ACAM_INPUTS, 1)).astype(np.float32)
    inputs = torch.from_numpy(u[:, 0].copy())
    bounds = [
        (float(a), float(b), int(k))
        for a, b, k in zip(unit.lo[0], unit.hi[0], unit.bit, strict=True)
    ]

    def row_by_row() -> torch.Tensor:
        bits = torch.zeros(8, len(inputs), dtype=torch.bool)
        for low, high, bit in bounds:
            bits[bit] |= (inputs > low) & (inputs < high)
        word = torch.zeros(len(inputs), dtype=torch.int32)
        value = torch.zeros_like(bits[0])
        for bit in range(7, -1, -1):  # Gray code
            value = value ^ bits[bit]
            word |= value.to(torch.int32) << bit
        return word

    equal = (row_by_row().numpy() == model.convert(unit, u)[0][:, 0]).mean()
    show(
        f"ACAM, 128 rows, 8 bits, noisy thresholds ({100 * equal:.1f} % of the codes equal)",
        ["ours", "128 rows in torch"],
        [lambda: model.convert(unit, u), row_by_row],
        ACAM_INPUTS,
        "conversions",
    )


def attention(library: Library) -> None:
    """Q K^T by log, add, exp of every pair of operands."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, HEADS, TOKENS, WIDTH)).astype(np.float32)
    model = ProductModel.program(AcamModel.from_library(library))
    codes = model.encode(q, 4.0), model.encode(k, 4.0)
    a, b = torch.from_numpy(q), torch.from_numpy(k)

    def log_add_exp() -> torch.Tensor:
        pairs = torch.exp(
            torch.log(a.abs() + 1e-9)[:, :, None] + torch.log(b.abs() + 1e-9)[:, None]
        )
        return (pairs * torch.sign(a)[:, :, None] * torch.sign(b)[:, None]).sum(-1)

    show(
        f"Q K^T of {HEADS} heads, {TOKENS} tokens, width {WIDTH}",
        ["ours: log codes, noisy units", "log, add, exp in torch"],
        [lambda: model.matmul(*codes), log_add_exp],
        HEADS * TOKENS**2 * WIDTH,
        "products",
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--library", required=True, help="from nldpe characterize")
    library = Library.from_hdf5(parser.parse_args().library)
    torch.set_num_threads(1)
    products(library)
    wires(64)
    wires(128)
    conversions(library)
    attention(library)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

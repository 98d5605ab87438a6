"""How the ranges of a language model were chosen, and where its loss comes from.

Everything here is scored on the development text: the last tenth of the training text, on which
no range is measured and which no other command scores. One part of the analog model is on at a
time; the others are exact, so that a setting of the outputs costs seconds instead of minutes.

    python benchmarks/choose_ranges.py parts --library library.h5
    python benchmarks/choose_ranges.py settings --library library.h5 --chips 2
    python benchmarks/choose_ranges.py settings --on crossbars --setting weight_headroom=0 ...
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from behavioral.library import Library
from circuits.errors import NldpeError
from system.commands.options import mapping_overrides
from system.engine import AnalogOps, layer_tensors
from system.layer_spec import FUNCTIONS
from system.linear import AnalogLinear, Chip, hardware_for
from system.models.ops import FloatOps
from system.networks import Network, load_network

PARTS = ("crossbars", "outputs", "products")
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
SETTINGS = (
    "",
    "output_margin=0.25",
    "output_margin=1.0",
    "line_start=0 output_lift=1.5 output_margin=0.25 output_fine=0 output_copies=1",
    "line_start=0.4 output_margin=0.25 output_fine=0 output_copies=1",
    "line_start=0.4 output_margin=0.25 output_fine=0 output_copies=4",
    "line_start=0.3",
    "line_start=0.5",
    "output_fine=2",
    "output_fine=3.5",
    "output_copies=1",
    "output_copies=4",
)


@dataclass(frozen=True)
class Parts:
    """Which parts are on circuit models, in layers with `kind` in their name; others are exact."""

    crossbars: bool = False
    outputs: bool = False
    products: bool = False
    kind: str = ""

    def __str__(self) -> str:
        on = [part for part in PARTS if getattr(self, part)]
        return (", ".join(on) or "DAC codes and weights") + (self.kind and f", {self.kind} only")


class PartLinear(AnalogLinear):
    """A layer whose parts are switched on and off; crossbars are programmed when first read."""

    together = False

    def __init__(self, ops: PartOps, *args) -> None:
        self._ops, self._targets = ops, []
        super().__init__(*args)

    def _program_tile(self, w, rows, tile):
        self._targets.append((w, rows, tile))

    def _is_on(self, part: str) -> bool:
        return getattr(self._ops.parts, part) and self._ops.parts.kind in self.spec.name

    def _drive_tile(self, drive, tile):
        if not self._is_on("crossbars"):
            return np.ascontiguousarray(drive[:, self.tiles[tile]])
        if self.arrays[tile] is None:
            self.arrays[tile] = super()._program_tile(*self._targets[tile])
        return super()._drive_tile(drive, tile)

    def _read(self, driven, tile, columns, first, out):
        if self._is_on("crossbars"):
            super()._read(driven, tile, columns, first, out)
        else:
            np.matmul(driven, self._targets[tile][0][:, columns], out=out)

    def _convert_sum(self, driven):
        if self._is_on("outputs"):
            return super()._convert_sum(driven)
        total = 0.0
        for tile, part in enumerate(driven):
            y = np.empty((len(part), len(self.spec.gain)), np.float32)
            self._read(part, tile, slice(0, y.shape[1]), 0, y)
            total = total + y
        z = total * self.spec.gain + self.spec.bias
        return FUNCTIONS[self.spec.activation](z).astype(np.float32)


class PartOps(AnalogOps):
    """Arithmetic of one chip on which parts are switched on and off."""

    def __init__(self, network: Network, library: Library, chip: Chip) -> None:
        self.parts, self._exact = Parts(), FloatOps(network.model.tensors)
        hardware = hardware_for(network.mapping, network.ranges, library)
        super().__init__(network.model.tensors, network.ranges, hardware, chip)

    def layer(self, name, activation):
        """Return a layer with parts that can be switched."""
        if name not in self.layers:
            tensors = layer_tensors(self._tensors, name)
            self.layers[name] = PartLinear(
                self, name, *tensors, activation, self._ranges, self.hardware, self.chip
            )
        return self.layers[name]

    def multiply(self, name, a, b):
        """Return a * b, exactly or by log codes."""
        return (super() if self.parts.products else self._exact).multiply(name, a, b)

    def attention(self, name, q, k, v, cache, mask=None):
        """Return attention, exactly or by log codes."""
        ops = super() if self.parts.products else self._exact
        return ops.attention(name, q, k, v, cache, mask)


def attribute(network: Network, library: Library, windows: int, chips: int) -> None:
    """Print the perplexity with one part on at a time, and with the layers of one kind."""
    samples = network.development_samples(windows)
    print(f"float {network.score(FloatOps(network.model.tensors), samples):.2f}", flush=True)
    whole = Parts(crossbars=True, outputs=True, products=True)
    parts = [Parts(), *(Parts(**{part: True}) for part in PARTS), whole]
    parts += [replace(whole, products=False, kind=kind) for kind in KINDS]
    for noise in ("frozen", "none"):
        for index in range(chips if noise == "frozen" else 1):
            ops = PartOps(network, library, Chip(0, index, noise))
            for ops.parts in parts:
                start = time.perf_counter()
                found, seconds = network.score(ops, samples), time.perf_counter() - start
                print(f"{noise} chip {index} {ops.parts!s:40s} {found:6.2f}  ({seconds:.0f} s)",
                      flush=True)  # fmt: skip


def compare(network: Network, library: Library, on: list[str], windows: int, chips: int) -> None:
    """Print the perplexity of noisy chips with these parts on and all else exact."""
    samples = network.development_samples(windows)
    for index in range(chips):
        ops = PartOps(network, library, Chip(0, index))
        ops.parts = Parts(**dict.fromkeys(on, True))
        print(f"{network.score(ops, samples):6.2f}", end=" ", flush=True)
    print()


def main() -> None:
    """Read the command line and print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("parts", "settings"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--library", required=True)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--chips", type=int, default=1)
    parser.add_argument("--on", nargs="+", choices=PARTS, default=["outputs"], help="for settings")
    parser.add_argument("--setting", action="append", help='"KEY=VALUE ...", in place of the list')
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    rows = library.technology.column.rows
    if given.table == "parts":
        network = load_network(given.model, tile_rows=rows)
        attribute(network, library, given.windows, given.chips)
        return
    for setting in given.setting or SETTINGS:
        print(setting or "as shipped", end=": ", flush=True)
        choices = mapping_overrides(setting.split())
        network = load_network(given.model, tile_rows=rows, overrides=choices)
        compare(network, library, given.on, given.windows, given.chips)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

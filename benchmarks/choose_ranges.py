"""How the ranges of a language model were chosen, and where its loss comes from.

Everything here is scored on the development text: the last tenth of the training text, on which
no range is measured and which no other command scores. Printed are perplexity and KL(float32 || it)
in nats, which tells two settings apart on fewer tokens. One part of the analog model is on at a
time; the others are exact, so that a setting of the outputs costs seconds instead of minutes.

    python benchmarks/choose_ranges.py parts --library library.h5
    python benchmarks/choose_ranges.py settings --library library.h5 --chips 2
    python benchmarks/choose_ranges.py settings --on crossbars --setting weight_headroom=0 ...
    python benchmarks/choose_ranges.py settings --chips-dir chips --setting input_bits=10 ...
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from behavioral.library import Library
from circuits.errors import NldpeError
from system.commands.options import mapping_overrides
from system.hardware import Chip
from system.inference import Execution, arithmetic
from system.models.ops import FloatOps, Ops
from system.networks import Network, Samples, load_network
from system.parts import EVERYTHING, LINEAR, PARTS, PartOps, Parts
from system.quality import Nearness, published_tensors
from system.quality import compare as nearness

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
    "output_copies=2",
)


def attribute(network: Network, library: Library, windows: int, chips: int) -> None:
    """Print the perplexity with one part on at a time, and with the layers of one kind."""
    exact = FloatOps(network.model.tensors)
    inputs = network.development_samples(windows).inputs
    print(f"float {network.score(exact, Samples(inputs, None)):.2f}", flush=True)
    parts = [*(Parts.of([part]) for part in PARTS), EVERYTHING]
    parts += [Parts.of(LINEAR, kind) for kind in KINDS]
    for noise in ("frozen", "none"):
        for index in range(chips if noise == "frozen" else 1):
            ops = PartOps(network, library, Chip(0, index, noise))
            for ops.switch.parts in parts:
                start = time.perf_counter()
                found = nearness(network, ops, exact, inputs, "")
                seconds = time.perf_counter() - start
                line = f"{noise} chip {index} {ops.switch.parts!s:40s} {_text(found)}"
                print(f"{line}  ({seconds:.0f} s)", flush=True)


def on_parts(network: Network, library: Library, parts: Parts, chips: int) -> Iterator[Ops]:
    """Yield noisy chips with these parts on and all else exact."""
    for index in range(chips):
        ops = PartOps(network, library, Chip(0, index))
        ops.switch.parts = parts
        yield ops


def whole(network: Network, library: Library, mode: str, chips: int, folder: Path) -> Iterator[Ops]:
    """Yield chips with everything on, kept in a folder."""
    for index in range(chips):
        yield arithmetic(network, library, mode, Chip(0, index), execution=Execution(folder))


def compare(network: Network, chips: Iterable[Ops], windows: int) -> None:
    """Print the perplexity of chips, and how far they are from the published weights in float32."""
    inputs = network.development_samples(windows).inputs
    exact = FloatOps(published_tensors(network))
    for ops in chips:
        print(_text(nearness(network, ops, exact, inputs, "")), end="  ", flush=True)
    print()


def _text(found: Nearness) -> str:
    return f"{found.perplexity:6.2f} (KL {found.divergence:.4f})"


def main() -> None:
    """Read the command line and print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("parts", "settings"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--library", required=True)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--chips", type=int, default=1)
    parser.add_argument(
        "--on", nargs="+", choices=tuple(PARTS), default=["outputs"], help="for settings"
    )
    parser.add_argument("--kind", default="", help="only layers with this in their name")
    parser.add_argument("--setting", action="append", help='"KEY=VALUE ...", in place of the list')
    parser.add_argument("--chips-dir", type=Path, help="for settings: whole chips, kept there")
    parser.add_argument("--mode", default="noisy", help="of whole chips")
    given = parser.parse_args()
    library = Library.from_hdf5(given.library)
    rows = library.technology.column.rows
    if given.table == "parts":
        network = load_network(given.model, tile_rows=rows)
        attribute(network, library, given.windows, given.chips)
        return
    parts = Parts.of(given.on, given.kind)
    for setting in given.setting or SETTINGS:
        print(setting or "as shipped", end=": ", flush=True)
        choices = mapping_overrides(setting.split())
        network = load_network(given.model, tile_rows=rows, overrides=choices)
        if given.chips_dir:
            chips = whole(network, library, given.mode, given.chips, given.chips_dir)
        else:
            chips = on_parts(network, library, parts, given.chips)
        compare(network, chips, given.windows)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

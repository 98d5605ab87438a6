"""One forward pass of a model of Llama-3.2-1B's shape, layer by layer, and the memory it takes.

    python -m benchmarks.stream --library library.h5 --folder DIR

Weights are normal with the standard deviation that Llama begins training with, in 16 bits, in a
directory like one of Hugging Face; the tokenizer is that of SmolLM2, whose ids are in the
vocabulary. Ranges are calibrated and the chip is programmed as for any directory. DIR takes about
13 GB and can be deleted; what is in it already is used again.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from safetensors.numpy import save_file

from behavioral.library import Library
from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from system.hardware import Chip
from system.inference import Execution, arithmetic
from system.models.language import LanguageModel
from system.models.llama import LlamaConfig
from system.networks import load_network

SHAPE = "llama-3.2-1b"
SIGMA = 0.02  # initializer_range in config.json of meta-llama/Llama-3.2-1B
TOKENS = 128


def shape(layers: int) -> LlamaConfig:
    """Return the shape of the model, with fewer blocks if asked."""
    table = tomllib.loads((files("system.cost") / "shapes.toml").read_text())[SHAPE]
    fields = {key: value for key, value in table.items() if key != "source"}
    return LlamaConfig.from_dict({"model_type": "llama", **fields, "num_hidden_layers": layers})


def build(folder: Path, config: LlamaConfig) -> None:
    """Write a directory with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, stored = np.random.default_rng(0), {}
    for name, size in config.shapes().items():
        values = rng.standard_normal(size, np.float32) * np.float32(SIGMA)
        if len(size) == 1:
            values = np.ones(size, np.float32)  # of norms
        stored[name] = values.astype(np.float16)
    save_file(stored, folder / "model.safetensors")
    tokenizer = load_network("smollm2-135m", tile_rows=None).checkpoint.tokenizer
    assert tokenizer is not None
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))  # last: all is there


def memory() -> str:
    """Return the largest memory of this process so far; mapped files count while in memory."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most so far"


def run(library: Library, folder: Path, layers: int) -> None:
    """Calibrate, program and compute; print seconds and memory of each."""
    model = folder / f"{SHAPE}-{layers}"
    if not (model / "config.json").exists():
        build(model, shape(layers))
    start = process_time()
    network = load_network(str(model), tile_rows=library.technology.column.rows)
    assert isinstance(network.model, LanguageModel)
    count = sum(tensor.size for tensor in network.checkpoint.tensors.values())
    print(f"{count / 1e9:.3f} billion weights; loaded, calibrated: {process_time() - start:.0f} s")
    print(memory(), flush=True)
    tokens = network.samples(1).inputs[:, :TOKENS]
    ops = arithmetic(network, library, "noisy", Chip(), None, Execution(folder / "chips", True))
    for name in ("first pass, programming included", "second pass"):
        start, wall = process_time(), perf_counter()
        with one_blas_thread():
            logits = network.model.forward(tokens, ops)
        assert np.isfinite(logits).all()
        took = f"{process_time() - start:.0f} s of processor time, {perf_counter() - wall:.0f} s"
        print(f"{name}: {took}, {memory()}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--library", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--layers", type=int, default=16, help="blocks (default: 16, all of them)")
    args = parser.parse_args()
    run(Library.from_hdf5(args.library), args.folder, args.layers)


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

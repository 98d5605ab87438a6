"""One programmed column four ways: x @ w, the fast model, Newton's method, and ngspice.

nldpe characterize --out library.h5
python examples/column_against_ngspice.py --library library.h5
"""

import argparse
from time import perf_counter

import numpy as np

from behavioral import reference
from behavioral.crossbar import CrossbarModel
from behavioral.library import Library
from circuits import crossbar


def main() -> None:
    """Print the outputs for a few inputs, and the error of each model in LSB."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", default="library.h5")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    library = Library.from_hdf5(args.library)
    model = CrossbarModel(library)
    rng = np.random.default_rng(args.seed)
    w = np.clip(rng.normal(0, 0.3, (model.max_rows, 1)), -1, 1).astype(np.float32)
    drawn = np.maximum(rng.normal(0, 0.4, (48 + args.samples, model.max_rows)), 0).clip(0, 1)
    typical, x = np.split(drawn.astype(np.float32), [48])
    array = model.program(w, seed=args.seed, inputs=typical, keep_devices=True)

    # The four arrays of the column: main +, main -, error +, error - (divided by k).
    start = perf_counter()
    g = array.devices[:, :, 0].astype(float)
    current = crossbar.replay(library.device, library.technology, g, x * model.v_read)
    seconds = perf_counter() - start
    k = array.error_scale[0]
    truth = current @ np.array([1, -1, 1 / k, -1 / k]) / (model.v_read * model.span)

    found = {
        "x @ w": (x @ w)[:, 0],
        "fast": model.multiply(array, x)[:, 0],
        "Newton": reference.multiply(model, array, x)[:, 0],
    }
    print("  ".join(f"{name:>9}" for name in (*found, "ngspice")))
    for row in zip(*found.values(), truth, strict=True):
        print("  ".join(f"{value:9.5f}" for value in row))
    lsb = np.ptp(truth) / 256
    print(f"\nngspice: {seconds:.2f} s for {g.shape[0]} columns x {args.samples} inputs")
    for name, y in found.items():
        error = (y - truth) / lsb
        print(f"{name:7} error: {np.sqrt(np.mean(error**2)):.4f} LSB rms, "
              f"{np.abs(error).max():.4f} max")  # fmt: skip
    print("The first holds programming and read noise too; the others know the devices.")


if __name__ == "__main__":
    main()

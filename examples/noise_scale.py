"""Accuracy of LeNet-5 as the devices' programming and read noise grows.

    nldpe characterize --out library.h5
    python examples/noise_scale.py lenet-mnist lenet-mnist-float --library library.h5

Noise is a property of the device card, not of the circuit tables: no new characterisation.
"""

import argparse
import math
from dataclasses import replace

from matplotlib.figure import Figure

from behavioral.library import Library
from system.inference import evaluate
from system.networks import load_network


def scaled(library: Library, factor: float) -> Library:
    """Return the library with both standard deviations multiplied."""
    device, shift = library.device, math.log(factor)
    device = replace(
        device,
        write_noise_log_scale=device.write_noise_log_scale + shift,
        read_noise_log_scale=device.read_noise_log_scale + shift,
    )
    return replace(library, device=device)


def main() -> None:
    """Print and draw accuracy against the noise scale, mean and spread over chips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--library", default="library.h5")
    parser.add_argument("--data", help="folder with the MNIST files")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.25, 0.5, 1.0, 1.5, 2.0])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--chips", type=int, default=3)
    parser.add_argument("--plot", default="noise_scale.png")
    args = parser.parse_args()

    library = Library.from_hdf5(args.library)
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.add_subplot()
    for name in args.models:
        network = load_network(name, tile_rows=library.technology.column.rows, data=args.data)
        means, spreads = [], []
        for scale in args.scales:
            result = evaluate(
                network, scaled(library, scale), mode="noisy", samples=args.samples,
                chips=args.chips,
            )  # fmt: skip
            means.append(100 * result.mean)
            spreads.append(100 * result.std)
            print(f"{name} noise x {scale:g}: {means[-1]:.2f} +/- {spreads[-1]:.2f} %")
        ax.errorbar(args.scales, means, spreads, fmt="o-", capsize=3, label=name)
    ax.set(xlabel="noise scale", ylabel="accuracy [%]")
    ax.legend(fontsize=8)
    figure.savefig(args.plot, dpi=120)
    print(f"{args.plot} written")


if __name__ == "__main__":
    main()

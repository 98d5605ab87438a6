"""Characterise two devices and compare where they put the bounds of the ACAM cell.

    python examples/compare_devices.py taox my_rram.toml

A device is a name in netlists/devices or a TOML file of your own. Needs ngspice; half a
minute the first time, seconds from the cache.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from circuits import acam
from circuits.parameters import load_parameters


def main() -> None:
    """Print the span of both data lines and draw the thresholds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", nargs="?", default="taox")
    parser.add_argument("second", nargs="?", default="ideal")
    parser.add_argument("--quick", action="store_true", help="13 conductances in place of 61")
    parser.add_argument("--plot", default="thresholds.png")
    args = parser.parse_args()

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.add_subplot()
    print(f"{'device':12} {'bound':6} {'at g_min':>9} {'at g_max':>9}  noise at 1 uS")
    for name, colour in ((args.first, "C0"), (args.second, "C3")):
        device, technology = load_parameters(name, "lp16", [])
        data = acam.characterize(device, technology, quick=args.quick)
        usable = (data.g >= device.g_min_s) & (data.g <= device.g_max_s)
        for bound, style in (("lower", "-"), ("upper", "--")):
            v = getattr(data, f"{bound}_v")
            ends = np.interp(np.log([device.g_min_s, device.g_max_s]), np.log(data.g), v)
            slope = np.interp(np.log(1e-6), np.log(data.g), np.gradient(v, data.g))
            sigma = np.exp(device.write_noise_log_scale) * 1e-6  # of the programming law at 1 uS
            print(
                f"{device.name:12} {bound:6} {ends[0]:8.3f}V {ends[1]:8.3f}V"
                f"  {1e3 * slope * sigma:.2f} mV"
            )
            ax.semilogx(data.g[usable] * 1e6, v[usable], style, color=colour,
                        label=f"{device.name}, {bound}")  # fmt: skip
    ax.set(xlabel="conductance [uS]", ylabel="threshold on the data line [V]")
    ax.legend(fontsize=8)
    figure.savefig(args.plot, dpi=120)
    print(f"{args.plot} written")


if __name__ == "__main__":
    main()

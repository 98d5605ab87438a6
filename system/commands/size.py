"""nldpe size: sizes and biases of a cell for a target; writes a technology."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from circuits.sizing import Design, Target

UPPER_G = 5e-6  # from here on the published law is a transistor's [S]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from system.commands.options import count, natural, temperature

    parser.add_argument("cell", choices=("acam",), help="what to size")
    parser.add_argument(
        "--target", default="published", metavar="published|A,B,C",
        help="threshold law exp(A ln G[uS] + B) + C in volts (default: NL-DPE's)",
    )  # fmt: skip
    parser.add_argument(
        "--g-range", default="0.01u,150u", metavar="LOW,HIGH", help="conductances that count [S]"
    )
    parser.add_argument(
        "--energy-j", default="0.44f", metavar="J", help="of a search of one cell (default: 0.44f)"
    )
    parser.add_argument(
        "--energy-weight-v", type=temperature, default=0.0, metavar="V",
        help="what a factor e above it costs, as threshold error (default: 0, thresholds only)",
    )  # fmt: skip
    parser.add_argument("--device", default="taox", metavar="NAME|FILE.toml")
    parser.add_argument("--technology", default="lp16", metavar="NAME|FILE.toml")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change one key of either card first; repeatable",
    )  # fmt: skip
    parser.add_argument("--evaluations", type=count, default=300, help="cells to simulate, about")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
    parser.add_argument("--out", metavar="FILE.toml", help="write the technology with this cell")


def run(args: argparse.Namespace) -> int:
    """Size the cell, say how close it comes, write the technology."""
    from dataclasses import replace

    from circuits.parameters import load_parameters
    from circuits.sizing import bounds, size_cell
    from system.commands.options import output_file, write_text

    out = output_file(args.out, "--out") if args.out else None
    device, technology = load_parameters(args.device, args.technology, args.overrides)
    target = read_target(args)
    limits = bounds(technology).items()
    print("bounds: " + ", ".join(f"{k} {a:g} to {b:g}" for k, (a, b) in limits))
    design = size_cell(
        device, technology, target, evaluations=args.evaluations, seed=args.seed, report=print,
        workers=args.workers,
    )  # fmt: skip
    print(describe(design, target))
    if out:
        lo, hi = line_range(design.threshold_v)
        sized = replace(
            design.technology,
            name=out.stem,
            source=f"{technology.source}; cell sized by nldpe size acam --target {args.target}",
            readout=replace(design.technology.readout, v_dl_lo_v=lo, v_dl_hi_v=hi),
        )
        write_text(out, sized.to_toml())
        print(
            f"{out}: written; data line {lo:g} to {hi:g} V. Next: nldpe characterize --technology"
            f" {out}"
        )
    return 0


def read_target(args: argparse.Namespace) -> Target:
    """Read the law, the range and the energy.

    Raises
    ------
    ParameterError
        They are not what the options ask for.
    """
    import numpy as np

    from circuits.errors import ParameterError
    from circuits.sizing import PUBLISHED, Target
    from circuits.units import parse_number

    law = PUBLISHED
    if args.target != "published":
        a, b, c = _numbers(args.target, 3, "--target", "published, or three numbers A,B,C")
        law = (a, b, c)
    low, high = _numbers(args.g_range, 2, "--g-range", "two conductances, 0.01u,150u")
    if not 1e-12 <= low < high <= 1.0:
        raise ParameterError(f"--g-range {args.g_range}: lower first, within 1p to 1 S")
    energy = parse_number(args.energy_j)
    if not energy > 0:
        raise ParameterError(f"--energy-j {args.energy_j}: give more than 0 J")
    return Target(law, np.geomspace(low, high, 9), energy, args.energy_weight_v)


def _numbers(text: str, count: int, option: str, wanted: str) -> tuple[float, ...]:
    from circuits.errors import ParameterError
    from circuits.units import parse_number

    try:
        values = tuple(parse_number(part) for part in text.split(","))
    except ParameterError as error:
        raise ParameterError(f"{option} {text!r}: {error}") from None
    if len(values) != count:
        raise ParameterError(f"{option} {text!r}: give {wanted}")
    return values


def describe(design: Design, target: Target) -> str:
    """Return the sizes, the thresholds beside the law, and the energy."""
    import numpy as np

    from circuits.sizing import SHARES, fit_ekv

    acam, errors = design.technology.acam, design.errors(target) * 1e3
    lines = [
        ", ".join(f"{key} {getattr(acam, key):.4g}" for key in SHARES),
        "   G [uS]   law [V]   lower [V]  error [mV]   upper [V]  error [mV]",
    ]
    law = target.threshold(target.g)
    for k, g in enumerate(target.g):
        lower, upper = design.threshold_v[:, k]
        lines.append(
            f"{g * 1e6:9.3g} {law[k]:9.4f} {lower:11.4f} {errors[0, k]:11.1f} {upper:11.4f}"
            f" {errors[1, k]:11.1f}"
        )
    for side, half in enumerate(("lower", "upper")):
        above = target.g >= UPPER_G
        (v0, n, g0), residual = fit_ekv(target.g, design.threshold_v[side])
        lines.append(
            f"{half}: {_rms(errors[side]):.1f} mV rms, {np.nanmax(np.abs(errors[side])):.1f} mV at"
            f" most; from 5 uS on {_rms(errors[side][above]):.1f} mV rms. The EKV inverse fits the"
            f" cell within {residual * 1e3:.1f} mV rms (V0 {v0:.3f} V, n {n * 1e3:.1f} mV,"
            f" G0 {g0 * 1e6:.2f} uS)"
        )
    energy = design.energy_j * 1e15
    lines.append(
        f"energy of a search, bounds spread evenly over the law's span: {np.nanmean(energy):.2f} fJ"
        f" ({np.nanmin(energy):.2f} to {np.nanmax(energy):.2f}), wanted"
        f" {target.energy_j * 1e15:.2f} fJ"
    )
    seen = design.delay_s[np.isfinite(design.delay_s) & (design.delay_s > 0)] * 1e12
    lines.append(
        f"decision {acam.t_sense_s * 1e12:.0f} ps after the precharge, by definition of the"
        " thresholds; mismatches of these searches are seen "
        + (f"after {seen.min():.0f} to {seen.max():.0f} ps" if seen.size else "at once")
    )
    if design.failed:
        lines.append(f"{design.failed} simulations failed; see the kept netlists")
    return "\n".join(lines)


def _rms(values: NDArray[np.float64]) -> float:
    import numpy as np

    return float(np.sqrt(np.nanmean(values**2))) if values.size else float("nan")


def line_range(threshold_v: NDArray[np.float64]) -> tuple[float, float]:
    """Return the data-line range that both bounds reach, to a millivolt inwards [V].

    Raises
    ------
    ParameterError
        They share none.
    """
    import numpy as np

    from circuits.errors import ParameterError

    low = float(np.ceil(np.nanmin(threshold_v, axis=1).max() * 1e3)) / 1e3
    high = float(np.floor(np.nanmax(threshold_v, axis=1).min() * 1e3)) / 1e3
    if not low < high:
        raise ParameterError(
            f"the bounds of this cell share no data-line voltage ({low:g} to {high:g} V);"
            " nothing is written. Give --evaluations more, or another --g-range"
        )
    return low, high

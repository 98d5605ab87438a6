"""nldpe devices: list, show, compare, check and fit device cards; write and read-disturb cells."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuits.parameters import Device

FEWEST_TO_FIT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_reading_actions(actions, "device", "taox")
    compared = actions.add_parser("diff", help="the keys in which two cards differ")
    compared.add_argument("first", metavar="A", help="name or file")
    compared.add_argument("second", metavar="B", help="name or file")
    fit = actions.add_parser(
        "fit",
        help="fit noise and I-V laws to measurements and write a card",
        description="Fits the laws of a card to a CSV table with the columns target_s [S] and "
        "measured_s [S]; for I-V curves voltage_v [V] and current_a [A]; and, where a programmed "
        "state has several rows, its name in cell, or the number of the read in read_index.",
    )
    fit.add_argument("data", metavar="DATA.csv")
    fit.add_argument("--out", required=True, metavar="FILE.toml", help="the card")
    fit.add_argument("--plot", metavar="FILE.png", help="data and fitted laws (default: FILE.png)")
    fit.add_argument("--name", help="of the device (default: that of the file)")
    fit.add_argument(
        "--base", default="ideal", metavar="NAME|FILE.toml",
        help="card of what the data do not tell (default: ideal, which leaves it out)",
    )  # fmt: skip
    add_experiments(actions)


def add_experiments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare program and disturb, for devices with a dynamic model."""
    from system.commands.options import count, natural

    program = actions.add_parser(
        "program",
        help="write cells by pulses and reads in ngspice: spread and number of pulses",
        description="Writes 1T1R cells, dynamic RRAM and transistor-level access device, to target "
        "conductances by the pulses of the card's section [programming]. What was simulated before "
        "comes from the cache, so that an interrupted run resumes.",
    )
    program.add_argument(
        "--targets-us", default=None, metavar="A..B|LIST",
        help="targets [uS], log-spaced or listed (default: the device's range)",
    )  # fmt: skip
    program.add_argument("--levels", type=count, default=8, help="targets of A..B (default: 8)")
    program.add_argument("--cells", type=count, default=20, help="cells per target (default: 20)")
    program.add_argument(
        "--start-us", type=float, metavar="G", help="before the first pulse (default: g_max)"
    )
    program.add_argument("--seed", type=natural, default=0, help="of the spread between pulses")
    disturb = actions.add_parser(
        "disturb",
        help="drift of states under reads, extrapolated from rates in ngspice",
        description="Measures the rate of the state at the read voltage in ngspice and integrates "
        "it over all reads (docs/devices.md says how and what is assumed).",
    )
    disturb.add_argument(
        "--states-us", default=None, metavar="A..B|LIST",
        help="states before the first read [uS] (default: four over the device's range)",
    )  # fmt: skip
    disturb.add_argument(
        "--voltages-v", metavar="LIST",
        help="of the row above the bit line (default: the technology's row swing, both signs)",
    )  # fmt: skip
    disturb.add_argument("--reads", type=float, default=1e6, help="how many (default: 1e6)")
    for action, folder in ((program, "programmed"), (disturb, "disturbed")):
        action.add_argument("card", metavar="NAME|FILE.toml", help="sky130 and vteam have a model")
        action.add_argument("--technology", default="lp16", metavar="NAME|FILE.toml")
        action.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
            help="change one key of either card, for example programming.tolerance=0.02",
        )  # fmt: skip
        action.add_argument("--workers", type=count, help="ngspice processes (default: all cores)")
        action.add_argument("--out", default=folder, metavar="DIR", help=f"(default: {folder})")


def add_reading_actions(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], noun: str, example: str
) -> None:
    """Declare list, show and check, which devices and technologies share."""
    actions.add_parser("list", help=f"the shipped {noun} cards")
    show = actions.add_parser("show", help="every key with value, unit, meaning and source")
    show.add_argument("card", metavar="NAME|FILE.toml", help=f"for example {example}")
    check = actions.add_parser("check", help="say all that is wrong with a file")
    check.add_argument("card", metavar="FILE.toml")


def run(args: argparse.Namespace) -> int:
    """Carry out the action."""
    from circuits.parameters import Device
    from system import cards

    if args.action == "list":
        print(cards.list_cards(Device))
    elif args.action == "show":
        print(cards.show_card(Device, args.card))
        print("\n" + cards.describe_noise(Device.from_toml(args.card)))
    elif args.action == "diff":
        print(cards.compare_cards(Device, args.first, args.second))
    elif args.action == "check":
        device = Device.from_toml(args.card)
        print(f"{args.card}: a valid device card, {device.name}\n{cards.describe_noise(device)}")
    elif args.action == "program":
        return program(args)
    elif args.action == "disturb":
        return disturb(args)
    else:
        print(fit(args))
    return 0


def program(args: argparse.Namespace) -> int:
    """Write cells; 1 where some did not reach their target."""
    import numpy as np

    from circuits.parameters import load_parameters
    from circuits.programming import program as write
    from system import device_experiments as experiments
    from system.commands.options import output_folder

    device, technology = load_parameters(args.card, args.technology, args.overrides)
    text = args.targets_us or f"{device.g_min_s * 1e6 * 1.01:g}..{device.g_max_s * 1e6 * 0.98:g}"
    levels = experiments.read_levels(text, args.levels, "--targets-us")
    targets, out = np.repeat(levels, args.cells), output_folder(args.out, "--out")
    start = None if args.start_us is None else args.start_us * 1e-6
    options = {"workers": args.workers, "progress": "ngspice"}
    written = write(device, technology, targets, start_s=start, seed=args.seed, **options)
    names = experiments.write_programming(out, written, device)
    print(f"{experiments.describe_programming(written)}\n{out}: {', '.join(names)}")
    if np.isfinite(written.g_s).sum() >= FEWEST_TO_FIT:
        print(f"As a law of programming noise: nldpe devices fit {out}/measurements.csv"
              f" --base {args.card} --out {device.name}-written.toml")  # fmt: skip
    return 0 if written.done.all() else 1


def disturb(args: argparse.Namespace) -> int:
    """Print and write the drift of states under reads."""
    from circuits.disturb import disturb as drift
    from circuits.errors import ParameterError
    from circuits.parameters import load_parameters
    from system import device_experiments as experiments
    from system.commands.options import output_folder

    if not 10 <= args.reads <= 1e18:
        raise ParameterError(f"--reads {args.reads:g} is out of range; permitted 10 to 1e18")
    device, technology = load_parameters(args.card, args.technology, args.overrides)
    text = args.states_us or f"{device.g_min_s * 1e6 * 1.1:g}..{device.g_max_s * 1e6 * 0.9:g}"
    states = experiments.read_levels(text, 4, "--states-us")
    voltages = experiments.read_voltages(args.voltages_v, technology)
    out = output_folder(args.out, "--out")
    found = drift(
        device, technology, states, voltages, reads=args.reads,
        workers=args.workers, progress="ngspice",
    )  # fmt: skip
    names = experiments.write_disturb(out, found, device)
    print(f"{experiments.describe_disturb(found)}\n{out}: {', '.join(names)}")
    return 0


def fit(args: argparse.Namespace) -> str:
    """Fit, write the card and the plot; return the report."""
    from datetime import date
    from pathlib import Path

    from behavioral.fitting import fit_device
    from behavioral.measurements import Measurements
    from circuits.parameters import Device
    from system import device_fit
    from system.commands.options import output_file, picture_file, write_text

    out = output_file(args.out, "--out")
    plot = picture_file(args.plot or str(out.with_suffix(".png")), "--plot")
    base: Device = Device.from_toml(args.base)
    data = Measurements.from_csv(args.data)
    found = fit_device(data)
    source = (
        f"fitted from {Path(args.data).name} ({data.target_s.size} rows, {found.states} programmed"
        f" states) on {date.today().isoformat()} by nldpe devices fit"
    )
    device = device_fit.to_device(found, base, args.name or out.stem, source)
    write_text(out, device_fit.to_toml(device, found, args.base))
    device_fit.draw(data, found, device, plot)
    return "\n".join([device_fit.report(device, found), f"{out}: written", f"{plot}: drawn"])

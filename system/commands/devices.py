"""nldpe devices: list, show, compare, check and fit device cards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuits.parameters import Device


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
    fit.add_argument("--plot", metavar="FILE.png", help="draw data and fitted laws")
    fit.add_argument("--name", help="of the device (default: that of the file)")
    fit.add_argument(
        "--base", default="ideal", metavar="NAME|FILE.toml",
        help="card of what the data do not tell (default: ideal, which leaves it out)",
    )  # fmt: skip


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
    else:
        print(fit(args))
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
    plot = picture_file(args.plot, "--plot") if args.plot else None
    base: Device = Device.from_toml(args.base)
    data = Measurements.from_csv(args.data)
    found = fit_device(data)
    source = (
        f"fitted from {Path(args.data).name} ({data.target_s.size} rows, {found.states} programmed"
        f" states) on {date.today().isoformat()} by nldpe devices fit"
    )
    device = device_fit.to_device(found, base, args.name or out.stem, source)
    write_text(out, device_fit.to_toml(device, found, args.base))
    lines = [device_fit.report(device, found), f"{out}: written"]
    if plot:
        device_fit.draw(data, found, device, plot)
        lines.append(f"{plot}: drawn")
    return "\n".join(lines)

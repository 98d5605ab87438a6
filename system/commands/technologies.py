"""nldpe technologies: list, show and check technology files."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    from system.commands.devices import add_reading_actions

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_reading_actions(actions, "technology", "lp16")


def run(args: argparse.Namespace) -> int:
    """Carry out the action."""
    from circuits.netlist import cards_text
    from circuits.parameters import Technology
    from system import cards

    if args.action == "list":
        print(cards.list_cards(Technology))
    elif args.action == "show":
        print(cards.show_card(Technology, args.card))
    else:
        technology = Technology.from_toml(args.card)
        cards_text(technology)  # the transistor cards: file, section, names of the models
        print(
            f"{args.card}: a valid technology, {technology.name}; transistor cards"
            f" {technology.cards.nmos} and {technology.cards.pmos} of {technology.cards_path()}"
        )
    return 0

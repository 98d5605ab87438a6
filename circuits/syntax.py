"""Finds the malformed netlist lines that ngspice accepts without a word.

Seen with ngspice 39: a resistor, capacitor, inductor or source with a missing node or value gets a
default (``r1 a b`` is 1 mohm), ``x1 a b cell gg=1u`` runs with the sub-circuit's default of ``g``,
and ``.param q`` is skipped. Everything else it reports itself, and the session listens.
"""

import re
from collections.abc import Iterator

_TWO_TERMINALS = "rclvi"
_SUFFIXED = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?[a-z]*", re.IGNORECASE)


def find_faults(netlist: str) -> list[str]:
    """Return a message for each line of a netlist that would be read as something else.

    Parameters
    ----------
    netlist : str
        Complete SPICE text; the first line is the title. Included files are not opened.
    """
    lines = list(logical_lines(netlist))
    declared = {name: keys for name, keys in map(_declaration, lines) if name}
    faults = []
    for line in lines:
        words = _words(line)
        kind = words[0][0].lower() if words else ""
        fault = ""
        if kind and kind in _TWO_TERMINALS:
            fault = _two_terminal_fault(words)
        elif kind == "x":
            fault = _instance_fault(words, declared)
        elif words and words[0].lower() == ".param" and not all("=" in w for w in words[1:]):
            fault = "a parameter needs a value: name=value"
        if fault:
            faults.append(f"{line.strip()!r}: {fault}")
    return faults


def logical_lines(netlist: str) -> Iterator[str]:
    """Yield the lines after the title, continuations joined, comments and ``.control`` left out."""
    joined: list[str] = []
    control = False
    for raw in netlist.splitlines()[1:]:
        line = re.split(r"\s\$|;", raw)[0].strip()
        word = line.partition(" ")[0].lower()
        control = word == ".control" or (control and word != ".endc")
        if word == ".end":
            break
        if not line or line.startswith("*") or control or word == ".endc":
            continue
        if line.startswith("+") and joined:
            joined[-1] += " " + line[1:]
        else:
            joined.append(line)
    yield from joined


def _words(line: str) -> list[str]:
    """Split a line; an expression in braces or quotes, and ``key = value``, is one word."""
    line = re.sub(r"\{[^}]*\}|'[^']*'", lambda found: found[0].replace(" ", ""), line)
    return re.sub(r"\s*=\s*", "=", line).split()


def _declaration(line: str) -> tuple[str, set[str]]:
    """Return name and parameters that a ``.subckt`` line declares; an empty name for others."""
    words = _words(line)
    if len(words) < 2 or words[0].lower() != ".subckt":
        return "", set()
    return words[1].lower(), {w.partition("=")[0].lower() for w in words[2:] if "=" in w}


def _two_terminal_fault(words: list[str]) -> str:
    if len(words) < 4:
        example = {"v": "0", "i": "0"}.get(words[0][0].lower(), "1k")
        return f"two nodes and a value are needed, for example {words[0]} a b {example}"
    numbers = [word for word in words[3:5] if _SUFFIXED.fullmatch(word)]
    if words[0][0].lower() in "rcl" and len(numbers) == 2:
        return f"two values, {numbers[0]} and {numbers[1]}; one is needed"
    return ""


def _instance_fault(words: list[str], declared: dict[str, set[str]]) -> str:
    from circuits.toml_file import nearest

    places = [w for w in words[1:] if "=" not in w and w.lower() != "params:"]
    keys = [w.partition("=")[0].lower() for w in words[1:] if "=" in w]
    if not places or places[-1].lower() not in declared:
        return ""  # defined in an included file, or unknown: then ngspice says so
    known = declared[places[-1].lower()] | {"m"}
    unknown = [key for key in keys if key not in known]
    if not unknown:
        return ""
    similar = nearest(unknown[0], sorted(known))
    return f"sub-circuit {places[-1]} has no parameter {unknown[0]}{similar}"

"""Device and technology files as people read them: lists, keys with sources, differences."""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from behavioral.noise import MICRO, NoiseLaw
from circuits.parameters import Device, Technology
from circuits.toml_file import TomlFile, key_comments, key_table, locate, read_text, shipped_names

Card = Device | Technology

WIDTH = 110
CONDUCTANCES_US = (0.01, 0.1, 1.0, 10.0, 100.0)


def list_cards(kind: type[TomlFile]) -> str:
    """Return name and description of the shipped files, a line each."""
    cards = [(name, kind.from_toml(name)) for name in shipped_names(kind.folder)]
    return "\n".join(f"{name:10} {card.description}" for name, card in cards)  # type: ignore[attr-defined]


def show_card(kind: type[TomlFile], name_or_path: str) -> str:
    """Return every key of a file: value, unit, meaning, and the comment that gives its source."""
    card = kind.from_toml(name_or_path)
    comments = key_comments(read_text(locate(name_or_path, kind.folder)))
    lines: list[str] = []
    for key, item, value in keys_of(card):
        if key in ("name", "description", "source"):
            lines += textwrap.wrap(f"{key:12} {value}", WIDTH, subsequent_indent=" " * 13)
            continue
        meaning, unit = split_unit(item.metadata["text"])
        lines += ["", f"{key} = {show_value(value)}{' ' + unit if unit else ''}"]
        lines += textwrap.wrap(meaning, WIDTH, initial_indent="    ", subsequent_indent="    ")
        note = comments.get(key) or "no comment in the file; see its source above"
        lines += textwrap.wrap(note, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
    return "\n".join(lines)


def compare_cards(kind: type[TomlFile], first: str, second: str) -> str:
    """Return the keys in which two files differ, with both values and their ratio."""
    left, right = (
        {key: (item, value) for key, item, value in keys_of(kind.from_toml(name))}
        for name in (first, second)
    )
    rows = [("key", first, second, "second / first")]
    for key in left | right:  # a key of a section that one of them lacks shows as "none"
        item, a = left.get(key) or (right[key][0], "none")
        b = right.get(key, (item, "none"))[1]
        if a != b and key not in ("description", "source"):
            _, unit = split_unit(item.metadata["text"])
            rows.append((f"{key} {unit}".strip(), show_value(a), show_value(b), _ratio(a, b)))
    if len(rows) == 1:
        return f"{first} and {second} have the same parameters"
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "\n".join(
        "  ".join([*(row[k].ljust(widths[k]) for k in range(3)), row[3]]).rstrip() for row in rows
    )


def describe_noise(device: Device) -> str:
    """Return what the laws of a device come to: sigma over its range, bend of a read."""
    write, read = NoiseLaw.write(device), NoiseLaw.read(device)
    rows = ["conductance      programming noise   read noise"]
    for g in _conductances(device):
        sigmas = [float(law.sigma(g)) for law in (write, read)]
        shares = "   ".join(f"{s / MICRO:9.4g} uS ({s / g:5.1%})" for s in sigmas)
        rows.append(f"{g / MICRO:9.4g} uS {shares}")
    rows.append(f"at 0.2 V a read is {_bend(device, 0.2):+.1%} off the ohmic current")
    return "\n".join(rows)


def keys_of(card: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (full key, its declaration, its value) of a file, sections last."""
    sections = []
    for name, item in key_table(type(card)).items():
        value = getattr(card, name)
        if value is None:
            continue
        if item.metadata["kind"] == "section":
            sections.append((f"{name}.", value))
        else:
            yield prefix + name, item, value
    for name, section in sections:
        yield from keys_of(section, name)


def split_unit(text: str) -> tuple[str, str]:
    """Split a declared meaning, ``"wire [ohm]"``, into meaning and unit; [-] is no unit."""
    found = re.fullmatch(r"(.*?)\s*\[([^\]]*)\]", text)
    if found is None:
        return text, ""
    return found[1], "" if found[2] == "-" else found[2]


def show_value(value: object) -> str:
    """Return a number in six digits, a text as it is, an empty one as quotes."""
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _conductances(device: Device) -> list[float]:
    inside = [
        g * MICRO for g in CONDUCTANCES_US if device.g_min_s < g * MICRO < 0.999 * device.g_max_s
    ]
    return [device.g_min_s, *inside, device.g_max_s]


def _bend(device: Device, v: float) -> float:
    from math import sinh

    scaled = v / device.v_sinh_v
    return sinh(scaled) / scaled - 1 if scaled else 0.0


def _ratio(a: object, b: object) -> str:
    if isinstance(a, str) or isinstance(b, str):
        return ""
    try:
        return f"{float(b) / float(a):.4g}"  # type: ignore[arg-type]
    except ZeroDivisionError:
        return ""

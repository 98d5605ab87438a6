"""The axes of a sweep: `KEY=VALUES` of the command line as settings of a point.

A setting is a full key with a text: "device.g_max_s", "technology.column.rows", "map.slices", and
what no card can say, because crossbars and ACAM units of a chip share one device card:
"noise.crossbar", "noise.acam", "stuck.crossbar", "stuck.acam"; and "mode", "mismatch".
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuits.errors import ParameterError
from circuits.parameters import parameter_keys
from circuits.units import parse_number
from system.quantization import Mapping

LONGEST_RANGE = 64  # points of a range of whole numbers without a count
ROUND_RANGE = (4, 12)  # points of any other without one: as few as round steps give


@dataclass(frozen=True)
class Alias:
    """A short key: the settings that take its value, its name in CSV and on plots."""

    targets: tuple[str, ...]
    column: str
    label: str


TEMPERATURE = Alias(("technology.temperature_c",), "temperature_c", "temperature [Celsius]")
ALIASES = {
    "bits": Alias(
        ("map.input_bits", "map.output_bits", "map.weight_bits"), "bits",
        "bits of DAC, ACAM and weights",
    ),
    "noise-scale": Alias(
        ("noise.crossbar", "noise.acam"), "noise_scale", "scale of all device noise"
    ),
    "crossbar-noise": Alias(("noise.crossbar",), "crossbar_noise", "scale of crossbar noise"),
    "acam-noise": Alias(("noise.acam",), "acam_noise", "scale of ACAM noise"),
    "stuck": Alias(
        ("stuck.crossbar", "stuck.acam"), "stuck_off_rate", "share of devices stuck off"
    ),
    "crossbar-stuck": Alias(
        ("stuck.crossbar",), "crossbar_stuck_off_rate", "share of crossbar devices stuck off"
    ),
    "acam-stuck": Alias(
        ("stuck.acam",), "acam_stuck_off_rate", "share of ACAM devices stuck off"
    ),
    "wire-ohm": Alias(
        ("technology.column.r_wire_ohm_per_cell",), "r_wire_ohm_per_cell",
        "bit-line wire [ohm per cell]",
    ),
    "row-wire-ohm": Alias(
        ("technology.column.r_row_wire_ohm_per_cell",), "r_row_wire_ohm_per_cell",
        "row-line wire [ohm per cell]",
    ),
    "rows": Alias(("technology.column.rows",), "rows", "rows of a column"),
    "g-max": Alias(("device.g_max_s",), "g_max_s", "g_max [S]"),
    "temperature-c": TEMPERATURE,
    "temperature": TEMPERATURE,
    "mode": Alias(("mode",), "mode", "mode"),
    "mismatch": Alias(("mismatch",), "mismatch", "mismatch of transistors"),
}  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """One swept key.

    Attributes
    ----------
    key : as the user wrote it.
    column, label : its name in CSV and on plots.
    targets : settings that take the value.
    values : texts, numbers in one form whatever the user wrote ("150u": "0.00015").
    """

    key: str
    column: str
    label: str
    targets: tuple[str, ...]
    values: tuple[str, ...]

    @classmethod
    def from_text(cls, text: str) -> Axis:
        """Read `KEY=VALUES`, for example "bits=6,7,8" or "noise-scale=0.5..2:4".

        Raises
        ------
        ParameterError
            Unknown or ambiguous key, no values, a value twice, or a range that cannot be read.
        """
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not key or not values.strip():
            raise ParameterError(f"--over {text!r}: write KEY=VALUES, for example bits=6,7,8")
        alias = find_key(key)
        found = tuple(_read_values(key, values))
        if len(set(found)) < len(found):
            raise ParameterError(f"--over {text!r}: a value stands there twice")
        return cls(key, alias.column, alias.label, alias.targets, found)

    @property
    def numbers(self) -> list[float] | None:
        """The values as numbers; None if one is none."""
        try:
            return [parse_number(value) for value in self.values]
        except ParameterError:
            return None


def read_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Return the axes of a grid.

    Raises
    ------
    ParameterError
        See `Axis.from_text`; also for two axes that set the same thing.
    """
    axes = tuple(Axis.from_text(text) for text in texts)
    setter: dict[str, str] = {}
    for axis in axes:
        for target in axis.targets:
            other = setter.setdefault(target, axis.key)
            if other != axis.key or [a.key for a in axes].count(axis.key) > 1:
                raise ParameterError(
                    f"--over {axis.key} and --over {other} both set {target}; keep one of them"
                )
    return axes


def find_key(key: str) -> Alias:
    """Return what a key of the command line stands for.

    Raises
    ------
    ParameterError
        It is no short key, no key of the mapping and of no card, or of several.
    """
    if key in ALIASES:
        return ALIASES[key]
    choices = [f"map.{name}" for name in Mapping().to_dict() if name != "layers"]
    parts = key.split(".")
    if parts[0] == "map" and f"map.{parts[-1]}" in choices:  # between them: names of layers
        return Alias((key,), key, key)
    known = list(parameter_keys())
    found = [name for name in known if name == key or name.endswith("." + key)]
    if len(found) == 1:
        leaf = found[0].rpartition(".")[2]
        unique = sum(name.endswith("." + leaf) for name in known) == 1
        return Alias((found[0],), leaf if unique else key, key)
    if found:
        raise ParameterError(f"--over {key}: the key is ambiguous: {', '.join(found)}")
    names = {name.rpartition(".")[2]: name for name in known}
    names |= {name.removeprefix("map."): name for name in choices}
    names |= {name: name for name in ALIASES}
    near = difflib.get_close_matches(key.rpartition(".")[2], names, n=3, cutoff=0.5)
    nearest = [names[name] for name in near] or [*ALIASES]
    raise ParameterError(
        f"--over {key}: unknown key; nearest: {', '.join(nearest)} (also map.KEY, and every key "
        "of a device or technology file)"
    )


def read_choice(text: str) -> Any:
    """Return the value of a mapping's choice: JSON where it can be, the text otherwise."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def canonical(text: str) -> str:
    """Return a number in one form, other text as it is."""
    try:
        return f"{parse_number(text):.12g}"
    except ParameterError:
        return text.strip()


def _read_values(key: str, text: str) -> list[str]:
    values: list[str] = []
    for part in text.split(","):
        if ".." in part:
            values += _read_range(key, part.strip())
        elif part.strip():
            values.append(canonical(part))
        else:
            raise ParameterError(f"--over {key}={text}: a value is missing")
    return values


def _read_range(key: str, text: str) -> list[str]:
    """Return the values of a range: "0.5..2:4", four, evenly spaced; without a count natural ones.

    "4..9" whole numbers, "64..512" doublings where these are many, "0..0.05" round steps.
    """
    form = re.fullmatch(r"(.+?)\.\.(.+?)(?::(\d+))?", text)
    if form is None:
        raise ParameterError(f"--over {key}={text}: write a range as 4..9 or 0.5..2:4")
    low, high = parse_number(form[1]), parse_number(form[2])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"--over {key}={text}: a range goes from a number to a larger one")
    if form[3] is None and (doubled := _doublings(low, high)):
        return doubled
    count = int(form[3]) if form[3] is not None else _natural_count(low, high)
    if count is None:
        raise ParameterError(
            f"--over {key}={text}: how many values? For example {text}:4; without a count: whole "
            f"numbers, at most {LONGEST_RANGE}, or doublings, as 64..512, or {ROUND_RANGE[0]} to "
            f"{ROUND_RANGE[1]} round steps"
        )
    if not 2 <= count <= 1000:
        raise ParameterError(f"--over {key}={text}: {count} values; permitted: 2 to 1000")
    return [f"{value:.12g}" for value in np.linspace(low, high, count)]


def _doublings(low: float, high: float) -> list[str]:
    """Return 64, 128, 256, 512 of 64..512; nothing if steps of one are few, or it does not fit."""
    if low <= 0 or low % 1 or high - low < LONGEST_RANGE or math.log2(high / low) % 1:
        return []
    return [f"{low * 2**k:.12g}" for k in range(int(math.log2(high / low)) + 1)]


def _natural_count(low: float, high: float) -> int | None:
    """Return how many whole numbers, or else steps of 1, 2 or 5 tens, a range has; None: too many.

    0.5..2 goes in steps of 0.5, 0..0.05 in steps of 0.01.
    """
    width = high - low
    if not (low % 1 or high % 1):
        return int(width) + 1 if width < LONGEST_RANGE else None
    ten = 10.0 ** math.floor(math.log10(width))
    for step in (5 * ten, 2 * ten, ten, ten / 2, ten / 5, ten / 10):
        count = round(width / step) + 1
        if ROUND_RANGE[0] <= count and abs(width / step - (count - 1)) < 1e-6:
            return count if count <= ROUND_RANGE[1] else None
    return None

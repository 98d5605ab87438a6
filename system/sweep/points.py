"""Points of a grid, and what each asks of cards, mapping and mode."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from behavioral.noise import NoiseLaw
from behavioral.programming import Noise
from behavioral.variation import Variation
from circuits.errors import ParameterError
from circuits.parameters import Device, Technology
from circuits.units import parse_number
from system.engine import MODES
from system.sweep.axes import Axis, read_choice

# Keys of a device card that no netlist knows: they act when a chip is programmed.
AT_PROGRAMMING = (
    "write_noise_exponent",
    "write_noise_log_scale",
    "write_noise_clip_s",
    "read_noise_exponent",
    "read_noise_log_scale",
    "read_noise_clip_s",
    "noise_floor_s",
    "stuck_off_rate",
    "drift_shift_s",
    "drift_spread_s",
    "drift_spread_growth_s",
    "drift_time_s",
)


@dataclass(frozen=True)
class Conditions:
    """What all points of a run share.

    Attributes
    ----------
    samples : images or windows; None: as `nldpe infer` without the option.
    chips : in mode "noisy"; other modes have one.
    mismatch : "none", "open" or "trimmed", see `behavioral.variation`.
    mapping : choices that replace those of every network; an axis wins over them.
    """

    samples: int | None = None
    chips: int = 5
    seed: int = 0
    mode: str = "noisy"
    read_noise: Noise = "frozen"
    data: str | None = None
    mismatch: str = "none"
    mapping: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Point:
    """One network with one value of every axis.

    Attributes
    ----------
    model : a network as `load_network` knows it.
    values : texts, in the order of the axes.
    settings : what they set, by full key.
    """

    model: str
    values: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]

    def part(self, *prefixes: str) -> dict[str, str]:
        """Return the settings below prefixes, with their full keys."""
        return {k: v for k, v in self.settings if k.startswith(prefixes)}

    def mode(self, conditions: Conditions) -> str:
        """Return the mode of the point."""
        return dict(self.settings).get("mode", conditions.mode)

    def mismatch(self, conditions: Conditions) -> str:
        """Return the mismatch of the point; modes without circuits have none."""
        if self.mode(conditions) not in ("ideal-analog", "noisy"):
            return "none"
        return dict(self.settings).get("mismatch", conditions.mismatch)

    def chips(self, conditions: Conditions) -> int:
        """Return how many chips differ."""
        return conditions.chips if self.mode(conditions) == "noisy" else 1

    def mapping(self, conditions: Conditions) -> dict[str, Any]:
        """Return the choices of the mapping that differ from the network's own."""
        chosen = {k.removeprefix("map."): read_choice(v) for k, v in self.part("map.").items()}
        return {**dict(conditions.mapping), **chosen}

    def cards(self, device: Device, technology: Technology) -> tuple[Device, Technology]:
        """Return the cards whose circuits the point runs on; noise as in `device`.

        Raises
        ------
        ParameterError
            A value is out of range, of the wrong kind, or contradicts another key.
        """
        late = {f"device.{key}" for key in AT_PROGRAMMING}
        of_device, of_technology = (
            {k.removeprefix(root): v for k, v in self.part(root).items() if k not in late}
            for root in ("device.", "technology.")
        )
        return device.override(of_device), technology.override(of_technology)

    def programmed(self, device: Device) -> tuple[Device, Device]:
        """Return the cards by whose noise and stuck devices crossbars and ACAM units are written.

        Parameters
        ----------
        device : Device
            Of the point's circuits, see `cards`.
        """
        late = {f"device.{key}": key for key in AT_PROGRAMMING}
        device = device.override({late[k]: v for k, v in self.settings if k in late})
        settings = dict(self.settings)
        cards = []
        for part in ("crossbar", "acam"):
            card = device
            if f"noise.{part}" in settings:
                card = scaled(card, _number(settings[f"noise.{part}"], part + " noise", math.inf))
            if f"stuck.{part}" in settings:
                rate = _number(settings[f"stuck.{part}"], part + " stuck rate", 1.0)
                card = replace(card, stuck_off_rate=rate)
            cards.append(card)
        return cards[0], cards[1]

    def check(self, device: Device, technology: Technology, conditions: Conditions) -> None:
        """Refuse values that no card and no mode has, before any work is done."""
        self.programmed(self.cards(device, technology)[0])
        if self.mode(conditions) not in MODES:
            raise ParameterError(
                f"mode {self.mode(conditions)!r} is not known; permitted: {', '.join(MODES)}"
            )
        Variation(self.mismatch(conditions))  # type: ignore[arg-type]


def scaled(device: Device, factor: float) -> Device:
    """Return a card with both standard deviations multiplied."""
    return replace(
        device,
        write_noise_log_scale=NoiseLaw.write(device).scaled(factor).log_scale,
        read_noise_log_scale=NoiseLaw.read(device).scaled(factor).log_scale,
    )


def grid(models: Sequence[str], axes: Sequence[Axis]) -> list[Point]:
    """Return every combination of values for every network, the last axis fastest."""
    points = []
    for model, *values in itertools.product(models, *(axis.values for axis in axes)):
        settings = {
            target: value
            for axis, value in zip(axes, values, strict=True)
            for target in axis.targets
        }
        points.append(Point(model, tuple(values), tuple(sorted(settings.items()))))
    return points


def described(conditions: Conditions, samples: int) -> dict[str, Any]:
    """Return what a result depends on besides network, circuits, settings and chip."""
    return {**asdict(conditions), "samples": samples, "chips": None, "mode": None, "mismatch": None}


def label(point: Point, axes: Sequence[Axis], among: Table[str, int] | None = None) -> str:
    """Return a point in words: its network, and the values of some axes (all, without `among`)."""
    named = [
        f"{axis.key}={value}"
        for axis, value in zip(axes, point.values, strict=True)
        if among is None or axis.key in among
    ]
    return ", ".join([point.model, *named])


def _number(text: str, name: str, highest: float) -> float:
    value = parse_number(text)
    if not 0.0 <= value <= highest or not math.isfinite(value):
        top = "" if math.isinf(highest) else f" and at most {highest:g}"
        raise ParameterError(f"{name} {text} is out of range; permitted: at least 0{top}")
    return value

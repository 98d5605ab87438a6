"""Devices and technologies: what their TOML files hold.

A TOML key, a field name and a ``--set`` name are the same word and carry the unit:
``r_wire_ohm_per_cell``. The documentation of every key stands in its declaration below and in the
comments of the shipped files.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import ClassVar, Self, cast

from circuits.acam_sizes import Acam, Unit
from circuits.driver_sizes import CIRCUITS, Driver
from circuits.dynamics import Dynamics, Programming, Stanford, Vteam
from circuits.errors import ParameterError
from circuits.readout_sizes import Amplifier, Readout
from circuits.toml_file import (
    TomlFile,
    key_table,
    nearest,
    number_key,
    section_key,
    shipped_names,
    text_key,
)
from circuits.wire import Wire

__all__ = [
    "Acam",
    "Amplifier",
    "Cards",
    "Column",
    "Device",
    "Driver",
    "Process",
    "Programming",
    "Readout",
    "Technology",
    "Unit",
    "Wire",
    "apply_overrides",
    "describe_key",
    "load_parameters",
    "parameter_keys",
    "parse_overrides",
    "shipped_names",
]

AMPLIFIERS = ("model", "two-stage")
CELLS = ("6t2m", "10t2m")
CORNERS = ("tt", "ff", "ss", "fs", "sf")
WIRE_KEYS = ("column.r_wire_ohm_per_cell", "column.c_wire_f_per_cell")
T_NOMINAL_C = 27.0  # at which conductances are stated


@dataclass(frozen=True)
class Cards:
    """Transistor cards: the file and the names of the two models in it."""

    file: str = text_key("file with .model cards, in netlists/cards or relative to the TOML file")
    nmos: str = text_key("name of the n-channel .model (a sub-circuit is not supported)")
    pmos: str = text_key("name of the p-channel .model")
    section: str = text_key("section of a .lib file; empty: the file is included whole", "")
    section_ff: str = text_key("section of the corner ff: n and p devices fast", "")
    section_ss: str = text_key("section of the corner ss: n and p devices slow", "")
    section_fs: str = text_key("section of the corner fs: n fast, p slow", "")
    section_sf: str = text_key("section of the corner sf: n slow, p fast", "")


@dataclass(frozen=True)
class Process:
    """Spread of the process: the corner that is simulated, how far corners lie, mismatch."""

    corner: str = text_key("corner: tt, ff, ss, fs or sf; n device first", "tt")
    vth_shift_n_v: float = number_key(
        "threshold of an n device at tt less that of a fast one [V]", 0.0, 0.5, 0.025
    )
    vth_shift_p_v: float = number_key(
        "threshold of a p device at tt less that of a fast one [V]", 0.0, 0.5, 0.025
    )
    mobility_shift_n: float = number_key(
        "mobility of a fast n device over that at tt, less 1 [-]", 0.0, 0.9, 0.1
    )
    mobility_shift_p: float = number_key(
        "mobility of a fast p device over that at tt, less 1 [-]", 0.0, 0.9, 0.1
    )
    a_vt_v_m: float = number_key(
        "mismatch: sd of a threshold times sqrt(W L) [V m]", 0.0, 1e-6, 1.25e-9
    )
    a_beta_m: float = number_key(
        "mismatch: sd of ln(current factor) times sqrt(W L) [m]", 0.0, 1e-6, 3.44e-9
    )


@dataclass(frozen=True)
class Column:
    """The 1T1R column: cells, word line, rows and wires."""

    rows: int = number_key("cells on a bit line", 1, 4096, kind="int")
    w_access_m: float = number_key("width of the access transistor [m]", 1e-9, 1e-4)
    l_access_m: float = number_key("length of the access transistor [m]", 1e-9, 1e-4)
    v_word_line_v: float = number_key("word line when selected [V]", 0.0, 10.0)
    v_cm_v: float = number_key("virtual ground of the array and row rest level [V]", 0.0, 5.0)
    v_read_v: float = number_key("row swing: v_cm - v_read to v_cm + v_read [V]", 1e-4, 5.0)
    r_wire_ohm_per_cell: float = number_key(
        "bit-line resistance between two rows; left out, it follows from [wire] [ohm]",
        0.0, 1e4, math.nan,
    )  # fmt: skip
    c_wire_f_per_cell: float = number_key(
        "bit-line capacitance per row; left out, it follows from [wire] [F]", 0.0, 1e-12, math.nan
    )
    r_row_wire_ohm_per_cell: float = number_key(
        "row-line resistance between two columns; 0: rows are ideal [ohm]",
        0.0, 1e4, 0.0, written=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Device(TomlFile):
    """A resistive memory: range, non-linearity and noise.

    The current is ``I = G v_sinh sinh(V / v_sinh)``; an infinite ``v_sinh_v`` makes it linear. Both
    noises follow ``sigma[uS] = exp(exponent ln(clip(G[uS], floor, clip)) + log_scale)`` (NL-DPE's
    released code); a log scale of ``-inf`` means no noise.
    """

    name: str = text_key("short name")
    description: str = text_key("one line")
    source: str = text_key("where the figures come from")
    g_min_s: float = number_key("lowest programmed conductance [S]", 1e-12, 1.0)
    g_max_s: float = number_key("highest programmed conductance [S]", 1e-12, 1.0)
    v_sinh_v: float = number_key("voltage of the sinh law; inf: linear [V]", 0.02, math.inf)
    write_noise_exponent: float = number_key("programming noise, exponent of G [-]", -10.0, 10.0)
    write_noise_log_scale: float = number_key(
        "programming noise, ln of sigma[uS] at 1 uS", -math.inf, 20.0
    )
    write_noise_clip_s: float = number_key("programming noise grows up to this G [S]", 1e-15, 1.0)
    read_noise_exponent: float = number_key("read noise, exponent of G [-]", -10.0, 10.0)
    read_noise_log_scale: float = number_key("read noise, ln of sigma[uS] at 1 uS", -math.inf, 20.0)
    read_noise_clip_s: float = number_key("read noise grows up to this G [S]", 1e-15, 1.0)
    noise_floor_s: float = number_key("both laws use at least this G [S]", 1e-21, 1.0, 1e-15)
    stuck_off_rate: float = number_key(
        "share of cells stuck at zero conductance [-]", 0.0, 1.0, 0.0
    )
    g_temperature_per_k: float = number_key(
        "relative change of a conductance per kelvin above 27 C [1/K]", -0.005, 0.005, 0.0
    )
    drift_shift_s: float = number_key(
        "mean shift of a conductance per unit of ln(time / 1 s) [S]", -1.0, 1.0, 0.0, written=False
    )
    drift_spread_s: float = number_key(
        "standard deviation of its drift after 1 s [S]", 0.0, 1.0, 0.0, written=False
    )
    drift_spread_growth_s: float = number_key(
        "growth of that per unit of ln(time / 1 s) [S]", 0.0, 1.0, 0.0, written=False
    )
    drift_time_s: float = number_key(
        "time since programming; below 1 s nothing has drifted [s]", 0.0, 1e12, 0.0, written=False
    )

    stanford: Stanford | None = section_key(Stanford, default=None)  # noqa: RUF009
    vteam: Vteam | None = section_key(Vteam, default=None)  # noqa: RUF009
    programming: Programming | None = section_key(Programming, default=None)  # noqa: RUF009

    folder = "devices"

    def temperature_factor(self, temperature_c: float) -> float:
        """Return the conductance at a temperature over the stated one, which is that at 27 C."""
        return 1.0 + self.g_temperature_per_k * (temperature_c - T_NOMINAL_C)

    @property
    def dynamics(self) -> Dynamics:
        """The dynamic model of the device.

        Raises
        ------
        ParameterError
            The card has none.
        """
        model = self.stanford or self.vteam
        if model is None:
            raise ParameterError(
                f"device {self.name!r} has no dynamic model: its file has neither a section"
                " [stanford] nor [vteam]; sky130 and vteam have one"
            )
        return model

    def _check(self, where: str) -> None:
        if self.stanford and self.vteam:
            raise ParameterError(f"{where}: a device has [stanford] or [vteam], not both")
        for model in (self.stanford, self.vteam):
            if model and (fault := model.fault()):
                raise ParameterError(f"{where}: {fault}")
        if self.programming and (fault := self.programming.fault()):
            raise ParameterError(f"{where}: {fault}")
        if self.g_min_s >= self.g_max_s:
            raise ParameterError(
                f"{where}: g_min_s = {self.g_min_s:g} must be below g_max_s = {self.g_max_s:g}"
            )
        low = min(self.write_noise_clip_s, self.read_noise_clip_s)
        if self.noise_floor_s > low:
            raise ParameterError(
                f"{where}: noise_floor_s = {self.noise_floor_s:g} must not exceed"
                f" write_noise_clip_s and read_noise_clip_s (smallest {low:g})"
            )


@dataclass(frozen=True)
class Technology(TomlFile):
    """A CMOS technology with the circuits sized in it."""

    name: str = text_key("short name")
    description: str = text_key("one line")
    source: str = text_key("where the figures come from")
    vdd_v: float = number_key("core supply [V]", 0.1, 5.0)
    temperature_c: float = number_key("temperature [Celsius]", -55.0, 175.0)
    cards: Cards = section_key(Cards)  # noqa: RUF009
    column: Column = section_key(Column)  # noqa: RUF009
    readout: Readout = section_key(Readout)  # noqa: RUF009
    acam: Acam = section_key(Acam)  # noqa: RUF009
    process: Process = section_key(Process, default=Process())  # noqa: RUF009
    amplifier: Amplifier = section_key(Amplifier, default=Amplifier())  # noqa: RUF009
    unit: Unit = section_key(Unit, default=Unit(), written=False)  # noqa: RUF009
    driver: Driver = section_key(Driver, default=Driver(), written=False)  # noqa: RUF009
    wire: Wire | None = section_key(Wire, default=None)  # noqa: RUF009

    folder = "technologies"
    moved: ClassVar = {"amplifier.pelgrom_v_m": "process.a_vt_v_m"}

    def _completed(self, changed: Collection[str]) -> Self:
        """Fill in the wire of a cell from [wire]; figures given by override take its place."""
        if self.wire is None:
            return self
        if any(key in changed for key in WIRE_KEYS):
            return replace(self, wire=None)
        return replace(
            self,
            column=replace(
                self.column,
                r_wire_ohm_per_cell=self.wire.r_ohm_per_cell,
                c_wire_f_per_cell=self.wire.c_f_per_cell,
            ),
        )

    def _check_given(self, where: str) -> None:
        """Refuse a wire that is given twice and differently, or not at all."""
        for key in WIRE_KEYS:
            name = key.removeprefix("column.")
            given = getattr(self.column, name)
            if self.wire is None and math.isnan(given):
                raise ParameterError(
                    f"{where}: missing key {key!r}; give it, or the wire's geometry in a section"
                    f" [wire] with {', '.join(key_table(Wire))}"
                )
            if self.wire is None or math.isnan(given):
                continue
            follows = getattr(self.wire, name.replace("_wire", ""))
            if not math.isclose(given, follows):
                raise ParameterError(
                    f"{where}: {key} = {given:g}, but [wire] gives {follows:g}; leave out one of"
                    " them"
                )

    def _check(self, where: str) -> None:
        low, high = self.readout.v_dl_lo_v, self.readout.v_dl_hi_v
        if low >= high:
            raise ParameterError(
                f"{where}: readout.v_dl_lo_v = {low:g} must be below readout.v_dl_hi_v = {high:g}"
            )
        for key, value, permitted in (
            ("process.corner", self.process.corner, CORNERS),
            ("readout.amplifier", self.readout.amplifier, AMPLIFIERS),
            ("acam.cell", self.acam.cell, CELLS),
            ("driver.circuit", self.driver.circuit, CIRCUITS),
        ):
            if value not in permitted:
                raise ParameterError(
                    f"{where}: {key} = {value!r} is not known; permitted: {', '.join(permitted)}"
                )
        if self.acam.v_sl_lo_v >= self.acam.v_sl_hi_v:
            raise ParameterError(
                f"{where}: acam.v_sl_lo_v = {self.acam.v_sl_lo_v:g} must be below"
                f" acam.v_sl_hi_v = {self.acam.v_sl_hi_v:g}"
            )
        if self.acam.v_sense_v >= self.vdd_v:
            raise ParameterError(
                f"{where}: acam.v_sense_v = {self.acam.v_sense_v:g} must be below vdd_v ="
                f" {self.vdd_v:g}, or no match line is ever sensed high"
            )

    def _resolve(self, folder: Path) -> Self:
        """Make a user's card file absolute; shipped cards keep their bare name."""
        beside = (folder / self.cards.file).expanduser()
        if beside.is_file():
            return replace(self, cards=replace(self.cards, file=str(beside.resolve())))
        self.cards_path()
        return self

    def cards_path(self) -> Path:
        """Return the file with the transistor cards.

        Raises
        ------
        ParameterError
            When neither the shipped folder nor the given path has it.
        """
        shipped = Path(str(resources.files("netlists"))) / "cards" / self.cards.file
        given = Path(self.cards.file).expanduser()
        for path in (given, shipped) if given.is_absolute() else (shipped, given):
            if path.is_file():
                return path
        names = sorted(p.name for p in shipped.parent.glob("*.lib"))
        raise ParameterError(
            f"cards.file = {self.cards.file!r} of technology {self.name!r} does not exist;"
            f" shipped cards: {', '.join(names)}; or give the path of your own library"
        )


def load_parameters(
    device: str, technology: str, overrides: Sequence[str] = ()
) -> tuple[Device, Technology]:
    """Read a device and a technology and apply ``key=value`` overrides.

    Parameters
    ----------
    device, technology : str
        Name of a shipped file, or a path.
    overrides : sequence of str
        ``"column.r_wire_ohm_per_cell=2.5"``, or the leaf name alone when it is unique.

    Raises
    ------
    ParameterError
        See ``from_toml``; also for an unknown or ambiguous key.
    """
    loaded: tuple[Device, Technology] = Device.from_toml(device), Technology.from_toml(technology)
    return apply_overrides(*loaded, overrides)


def apply_overrides(
    device: Device, technology: Technology, overrides: Sequence[str]
) -> tuple[Device, Technology]:
    """Return both with ``key=value`` overrides applied; see ``load_parameters``."""
    values = parse_overrides(overrides)
    of_device = {k.removeprefix("device."): v for k, v in values.items() if k.startswith("device.")}
    of_technology = {
        k.removeprefix("technology."): v for k, v in values.items() if k.startswith("technology.")
    }
    return device.override(of_device), technology.override(of_technology)


def parse_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """Turn ``key=value`` texts into ``{full key: text}``, the key led by device. or technology."""
    known = list(parameter_keys())
    values = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not key or not text.strip():
            raise ParameterError(f"--set {item!r}: write key=value, for example g_max_s=100u")
        found = [k for k in known if k == key or k.endswith("." + key)]
        if not found:
            raise ParameterError(f"--set {item!r}: unknown key {key!r}{nearest(key, known)}")
        if len(found) > 1:
            raise ParameterError(f"--set {item!r}: {key!r} is ambiguous: {', '.join(found)}")
        values[found[0]] = text.strip()
    return values


def parameter_keys() -> Iterator[str]:
    """Yield every full key, ``device.g_min_s`` to ``technology.acam.i_trip_a``."""
    for root, cls in (("device", Device), ("technology", Technology)):
        for item in key_table(cls).values():
            if item.metadata["kind"] == "section":
                section = cast(type, item.metadata["section"])
                yield from (f"{root}.{item.name}.{leaf}" for leaf in key_table(section))
            else:
                yield f"{root}.{item.name}"


def describe_key(key: str) -> str:
    """Return the meaning and unit of a full key, as in ``parameter_keys``."""
    root, *parts = key.split(".")
    cls: type = {"device": Device, "technology": Technology}[root]
    for part in parts[:-1]:
        cls = key_table(cls)[part].metadata["section"]
    return str(key_table(cls)[parts[-1]].metadata["text"])

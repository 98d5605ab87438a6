"""Devices and technologies: frozen dataclasses read from TOML, with errors that help.

A TOML key, a field name and a ``--set`` name are the same word and carry the unit:
``r_wire_ohm_per_cell``. The documentation of every key stands in the field's metadata below and in
the comments of the shipped files.
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Self, cast

from circuits.errors import ParameterError
from circuits.units import parse_number


def _number(
    text: str, low: float, high: float, default: float | None = None, *, kind: str = "float"
) -> Any:
    """Declare a numeric key: meaning with unit, permitted range, kind."""
    meta = {"text": text, "low": low, "high": high, "kind": kind}
    if default is None:
        return field(metadata=meta)
    return field(default=default, metadata=meta)


def _text(text: str, default: str | None = None) -> Any:
    meta = {"text": text, "kind": "str"}
    return field(metadata=meta) if default is None else field(default=default, metadata=meta)


def _section(cls: type) -> Any:
    return field(metadata={"text": cls.__doc__ or "", "kind": "section", "section": cls})


@dataclass(frozen=True)
class Cards:
    """Transistor cards: the file and the names of the two models in it."""

    file: str = _text("file with .model cards, in netlists/cards or relative to the TOML file")
    nmos: str = _text("name of the n-channel model (or sub-circuit prefix x is not supported)")
    pmos: str = _text("name of the p-channel model")
    section: str = _text("section of a .lib file; empty: the file is included whole", "")


@dataclass(frozen=True)
class Column:
    """The 1T1R column: cells, word line, rows and wires."""

    rows: int = _number("cells on a bit line", 1, 4096, kind="int")
    w_access_m: float = _number("width of the access transistor [m]", 1e-9, 1e-4)
    l_access_m: float = _number("length of the access transistor [m]", 1e-9, 1e-4)
    v_word_line_v: float = _number("word line when selected [V]", 0.0, 10.0)
    v_cm_v: float = _number("virtual ground of the array and row rest level [V]", 0.0, 5.0)
    v_read_v: float = _number("row swing: v_cm - v_read to v_cm + v_read [V]", 1e-4, 5.0)
    r_wire_ohm_per_cell: float = _number("bit-line resistance between two rows [ohm]", 0.0, 1e4)
    c_wire_f_per_cell: float = _number("bit-line capacitance per row [F]", 0.0, 1e-12)


@dataclass(frozen=True)
class Readout:
    """Transimpedance stage of each bit line and the stage that sums four bit lines."""

    r_feedback_ohm: float = _number("feedback resistor of each bit line's stage [ohm]", 1.0, 1e8)
    opamp_gain: float = _number("open-loop gain of the amplifiers [V/V]", 10.0, 1e9)
    opamp_gbw_hz: float = _number("gain-bandwidth product of the amplifiers [Hz]", 1e3, 1e13)
    r_output_ohm: float = _number("output resistance of the amplifiers [ohm]", 1e-3, 1e6)
    r_sum_ohm: float = _number("input resistors of the summing stage [ohm]", 10.0, 1e9)
    c_load_f: float = _number(
        "load of the data line: wire and ACAM gates of a column [F]", 0.0, 1e-9
    )
    error_scale: float = _number("k: the error pair enters the sum divided by k [-]", 1.0, 1e6)
    i_full_scale_a: float = _number(
        "span of I_p - I_n that fills the data-line range [A]", 1e-9, 1.0
    )
    v_dl_lo_v: float = _number("lower end of the data-line range [V]", -5.0, 5.0)
    v_dl_hi_v: float = _number("upper end of the data-line range [V]", -5.0, 5.0)


@dataclass(frozen=True)
class Acam:
    """The 6T2M cell, its match line, precharge and sense."""

    w1_m: float = _number("width of M1 and M3 (gate: data line) [m]", 1e-9, 1e-4)
    l1_m: float = _number("length of M1 and M3 [m]", 1e-9, 1e-4)
    w2_m: float = _number("width of M2, M6 (pull-downs) and M5 (inverter n) [m]", 1e-9, 1e-4)
    l2_m: float = _number("length of M2, M4, M5, M6 and the precharge device [m]", 1e-9, 1e-4)
    wp_m: float = _number("width of M4 (inverter p) [m]", 1e-9, 1e-4)
    w_precharge_m: float = _number("width of the precharge device of a match line [m]", 1e-9, 1e-4)
    v_sl_hi_v: float = _number("upper search line [V]", 0.0, 5.0)
    v_sl_lo_v: float = _number("lower search line [V]", -1.0, 5.0)
    c_ml_f_per_cell: float = _number("match-line wire capacitance per cell [F]", 0.0, 1e-12)
    c_sense_f: float = _number("input capacitance of the sense amplifier [F]", 0.0, 1e-12)
    c_node_f: float = _number("wire capacitance of the inner nodes n1, n2 [F]", 0.0, 1e-12)
    cells_per_row: int = _number("cells on a match line", 1, 4096, kind="int")
    match_lines: int = _number("1: both halves on one line; 2: a line for each", 1, 2, kind="int")
    t_precharge_s: float = _number("length of the precharge phase [s]", 1e-12, 1e-3)
    t_sense_s: float = _number("end of precharge to sense decision [s]", 1e-12, 1e-3)
    v_sense_v: float = _number("sense threshold on the match line [V]", 0.0, 5.0)
    i_trip_a: float = _number(
        "pull-down current that defines the static threshold [A]", 1e-12, 1e-2
    )


class _FromToml:
    """Reading, overriding and writing shared by ``Device`` and ``Technology``."""

    folder = ""

    @classmethod
    def from_toml(cls, name_or_path: str | Path) -> Self:
        """Read a shipped file by its name, or any file by its path.

        Raises
        ------
        ParameterError
            Unknown name, unreadable file, invalid TOML, or a key that is unknown, missing, of the
            wrong type or out of range.
        """
        path = _locate(str(name_or_path), cls.folder)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read {path}: {error}") from error
        loaded = cls.from_text(text, where=str(path))
        return loaded._resolve(path.parent)

    @classmethod
    def from_text(cls, text: str, where: str = "text") -> Self:
        """Read TOML text; ``where`` names its origin in error messages."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ParameterError(f"{where}: not valid TOML: {error}") from error
        return cast(Self, _build(cls, table, where, ""))

    def override(self, values: Mapping[str, str], where: str = "--set") -> Self:
        """Return a copy with ``{dotted key: text}`` replaced; texts may carry SPICE suffixes."""
        changed: Any = self
        for key, text in values.items():
            section, _, leaf = key.rpartition(".")
            if section:
                part = getattr(changed, section)
                value = _convert(_spec(type(part))[leaf], text, where, key)
                changed = replace(changed, **{section: replace(part, **{leaf: value})})
            else:
                value = _convert(_spec(type(self))[leaf], text, where, key)
                changed = replace(changed, **{leaf: value})
        return cast(Self, _checked(changed, where))

    def to_toml(self) -> str:
        """Return canonical TOML text: same parameters, same text. Hash this for provenance."""
        plain, tables = [], []
        for item in _fields(type(self)):
            value = getattr(self, item.name)
            if item.metadata["kind"] == "section":
                lines = [
                    f"{f.name} = {_format(getattr(value, f.name))}" for f in _fields(type(value))
                ]
                tables.append("\n".join([f"\n[{item.name}]", *lines]))
            else:
                plain.append(f"{item.name} = {_format(value)}")
        return "\n".join(plain + tables) + "\n"

    def _resolve(self, folder: Path) -> Self:
        return self

    def _check(self, where: str) -> None:
        """Check what concerns several keys."""


@dataclass(frozen=True)
class Device(_FromToml):
    """A resistive memory: range, non-linearity and noise.

    The current is ``I = G v_sinh sinh(V / v_sinh)``; an infinite ``v_sinh_v`` makes it linear. Both
    noises follow ``sigma[uS] = exp(exponent ln(clip(G[uS], floor, clip)) + log_scale)`` (NL-DPE's
    released code); a log scale of ``-inf`` means no noise.
    """

    name: str = _text("short name")
    description: str = _text("one line")
    source: str = _text("where the figures come from")
    g_min_s: float = _number("lowest programmed conductance [S]", 1e-12, 1.0)
    g_max_s: float = _number("highest programmed conductance [S]", 1e-12, 1.0)
    v_sinh_v: float = _number("voltage of the sinh law; inf: linear [V]", 0.02, math.inf)
    write_noise_exponent: float = _number("programming noise, exponent of G [-]", -10.0, 10.0)
    write_noise_log_scale: float = _number(
        "programming noise, ln of sigma[uS] at 1 uS", -math.inf, 20.0
    )
    write_noise_clip_s: float = _number("programming noise grows up to this G [S]", 1e-15, 1.0)
    read_noise_exponent: float = _number("read noise, exponent of G [-]", -10.0, 10.0)
    read_noise_log_scale: float = _number("read noise, ln of sigma[uS] at 1 uS", -math.inf, 20.0)
    read_noise_clip_s: float = _number("read noise grows up to this G [S]", 1e-15, 1.0)
    noise_floor_s: float = _number("both laws use at least this G [S]", 1e-21, 1.0, 1e-15)
    stuck_off_rate: float = _number("share of cells stuck at zero conductance [-]", 0.0, 1.0, 0.0)

    folder = "devices"

    def _check(self, where: str) -> None:
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
class Technology(_FromToml):
    """A CMOS technology with the circuits sized in it."""

    name: str = _text("short name")
    description: str = _text("one line")
    source: str = _text("where the figures come from")
    vdd_v: float = _number("core supply [V]", 0.1, 5.0)
    temperature_c: float = _number("temperature [Celsius]", -55.0, 175.0)
    cards: Cards = _section(Cards)  # noqa: RUF009
    column: Column = _section(Column)  # noqa: RUF009
    readout: Readout = _section(Readout)  # noqa: RUF009
    acam: Acam = _section(Acam)  # noqa: RUF009

    folder = "technologies"

    def _check(self, where: str) -> None:
        low, high = self.readout.v_dl_lo_v, self.readout.v_dl_hi_v
        if low >= high:
            raise ParameterError(
                f"{where}: readout.v_dl_lo_v = {low:g} must be below readout.v_dl_hi_v = {high:g}"
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
            raise ParameterError(f"--set {item!r}: unknown key {key!r}{_nearest(key, known)}")
        if len(found) > 1:
            raise ParameterError(f"--set {item!r}: {key!r} is ambiguous: {', '.join(found)}")
        values[found[0]] = text.strip()
    return values


def parameter_keys() -> Iterator[str]:
    """Yield every full key, ``device.g_min_s`` to ``technology.acam.i_trip_a``."""
    for root, cls in (("device", Device), ("technology", Technology)):
        for item in _fields(cls):
            if item.metadata["kind"] == "section":
                section = cast(type, item.metadata["section"])
                yield from (f"{root}.{item.name}.{leaf.name}" for leaf in _fields(section))
            else:
                yield f"{root}.{item.name}"


def describe_key(key: str) -> str:
    """Return the meaning and unit of a full key, as in ``parameter_keys``."""
    root, *parts = key.split(".")
    cls: type = {"device": Device, "technology": Technology}[root]
    for part in parts[:-1]:
        cls = _spec(cls)[part].metadata["section"]
    return str(_spec(cls)[parts[-1]].metadata["text"])


def shipped_names(folder: str) -> list[str]:
    """Return the names of the shipped ``devices`` or ``technologies``."""
    entries = resources.files("netlists").joinpath(folder).iterdir()
    return sorted(e.name.removesuffix(".toml") for e in entries if e.name.endswith(".toml"))


def _locate(name_or_path: str, folder: str) -> Path:
    shipped = Path(str(resources.files("netlists"))) / folder / f"{name_or_path}.toml"
    if name_or_path in shipped_names(folder):
        return shipped
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    names = shipped_names(folder)
    raise ParameterError(
        f"no file {name_or_path!r}, and no shipped {folder} of that name"
        f"{_nearest(name_or_path, names)}; shipped: {', '.join(names)}"
    )


def _build(cls: type, table: Mapping[str, Any], where: str, prefix: str) -> Any:
    spec = _spec(cls)
    for key in table:
        if key not in spec:
            raise ParameterError(
                f"{where}: unknown key {prefix + key!r}{_nearest(key, list(spec), prefix)}"
            )
    values = {}
    for key, item in spec.items():
        if key not in table:
            if item.default is dataclasses.MISSING:
                kind = "section" if item.metadata["kind"] == "section" else "key"
                raise ParameterError(
                    f"{where}: missing {kind} {prefix + key!r} ({item.metadata['text']})"
                )
            values[key] = item.default
        else:
            values[key] = _convert(item, table[key], where, prefix + key)
    return _checked(cls(**values), where)


def _convert(item: "dataclasses.Field[Any]", value: Any, where: str, key: str) -> Any:
    kind = item.metadata["kind"]
    if kind == "section":
        if not isinstance(value, Mapping):
            raise ParameterError(f"{where}: {key!r} must be a section [{key}]")
        return _build(item.metadata["section"], value, where, f"{key}.")
    if kind == "str":
        if not isinstance(value, str):
            raise ParameterError(f"{where}: {key} = {value!r} must be a text in quotes")
        return value
    return _convert_number(item, value, where, key)


def _convert_number(item: "dataclasses.Field[Any]", value: Any, where: str, key: str) -> float:
    low, high = item.metadata["low"], item.metadata["high"]
    if isinstance(value, str):
        try:
            value = parse_number(value)
        except ParameterError as error:
            raise ParameterError(f"{where}: {key}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParameterError(f"{where}: {key} = {value!r} must be a number")
    if item.metadata["kind"] == "int" and value != int(value if math.isfinite(value) else 0):
        raise ParameterError(f"{where}: {key} = {value!r} must be a whole number")
    if not low <= value <= high:
        raise ParameterError(
            f"{where}: {key} = {value:g} is out of range; permitted {low:g} to {high:g}"
            f" ({item.metadata['text']})"
        )
    return int(value) if item.metadata["kind"] == "int" else float(value)


def _checked(built: Any, where: str) -> Any:
    if isinstance(built, _FromToml):
        built._check(where)
    return built


def _fields(cls: type) -> "tuple[dataclasses.Field[Any], ...]":
    return dataclasses.fields(cls)


def _spec(cls: type) -> "dict[str, dataclasses.Field[Any]]":
    return {item.name: item for item in _fields(cls)}


def _nearest(key: str, known: Sequence[str], prefix: str = "") -> str:
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=3, cutoff=0.5)
    return "; nearest: " + ", ".join(prefix + leaves[name] for name in close) if close else ""


def _format(value: float | int | str) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)

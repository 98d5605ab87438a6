"""Fills the SPICE texts of ``netlists/`` with the parameters of a device and a technology."""

import hashlib
import math
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template

from circuits.corners import cards_at_corner, corner_section
from circuits.errors import ParameterError
from circuits.parameters import Device, Technology
from circuits.toml_file import key_table

# Numbers of the transistors of a half of each cell, as in netlists/acam_*.cir.
CELL_TRANSISTORS = {
    "6t2m": {"lower": (1, 2), "upper": (3, 4, 5, 6)},
    "10t2m": {"lower": (1, 7, 8, 9, 10, 2), "upper": (3, 4, 5, 6)},
}
SUPPLIED = {"6t2m": ("upper",), "10t2m": ("lower", "upper")}  # halves with inverters

# Below it a bit line is a short: through 1 uohm a microvolt of error drives an ampere, and a
# transient needs minutes. 256 cells of 10 uohm cost 0.01 LSB.
R_WIRE_LEAST = 1e-5


def render(template: str, **fields: str | float) -> str:
    """Return ``netlists/<template>.cir`` with its ``$fields`` filled.

    Raises
    ------
    KeyError
        When a field is missing: a fault of this package, not of the user.
    """
    texts = {k: v if isinstance(v, str) else number(v) for k, v in fields.items()}
    return Template(_read(template)).substitute(texts)


def number(value: float) -> str:
    """Write a float so that ngspice reads back the same double."""
    return repr(float(value))


def cards_text(technology: Technology) -> str:
    """Return the transistor cards at their corner: our own inlined, a user's library as a line.

    A library with sections has one for each corner. In plain cards the corner moves ``vth0`` and
    ``u0``.

    Raises
    ------
    ParameterError
        When the file is missing, lacks the models or the section that the technology names, or
        cannot be taken to the corner.
    """
    path, cards = technology.cards_path(), technology.cards
    text = path.read_text(encoding="utf-8", errors="replace")
    section = corner_section(technology)
    if section:
        if not re.search(rf"^\s*\.lib\s+['\"]?{re.escape(section)}['\"]?\s*$", text, re.I | re.M):
            found = re.findall(r"^\s*\.lib\s+['\"]?([\w.]+)['\"]?\s*$", text, re.I | re.M)
            raise ParameterError(
                f"{path} has no section {section!r}; it has: {', '.join(found) or 'none'}"
            )
        return f"* {_digest(path)}\n.lib '{path}' {section}"
    if re.search(r"^\s*\.(include|inc|lib)\b", text, re.I | re.M):
        if technology.process.corner != "tt":
            raise ParameterError(
                f"{path} includes other files, so its cards cannot be moved to the corner"
                f" {technology.process.corner}; give it sections and name them in [cards]"
            )
        return f"* {_digest(path)}\n.include '{path}'"
    models = {name.lower() for name in re.findall(r"^\s*\.model\s+(\S+)", text, re.I | re.M)}
    for key, name in (("cards.nmos", cards.nmos), ("cards.pmos", cards.pmos)):
        if name.lower() not in models:
            raise ParameterError(
                f"{key} = {name!r} is not a model in {path}; it has: {', '.join(sorted(models))}"
            )
    return cards_at_corner(text.strip(), technology)


def column_models(device: Device, technology: Technology, *, draws: bool = False) -> str:
    """Return cards, parameters and subcircuits of the column and its transimpedance stage.

    With ``draws`` every access transistor takes a threshold shift ``vt1`` and a mobility factor
    ``mu1`` of its own.
    """
    column = technology.column
    values = {
        "v_word_line": column.v_word_line_v,
        "v_cm": column.v_cm_v,
        "v_read": column.v_read_v,
        "w_access": column.w_access_m,
        "l_access": column.l_access_m,
        "r_wire": column.r_wire_ohm_per_cell,
        "c_wire": column.c_wire_f_per_cell,
        **_amplifier(technology),
        "r_feedback": technology.readout.r_feedback_ohm,
    }
    wire = "r1 a b {r_wire}" if column.r_wire_ohm_per_cell >= R_WIRE_LEAST else "v1 a b 0"
    drawn = {
        "draws": " vt1=0 mu1=1" if draws else "",
        "drawn": " delvto={vt1} mulu0={mu1}" if draws else "",
    }
    parts = [
        _rram(device, technology, values),
        render("column", nmos=technology.cards.nmos, wire=wire, **drawn),
        _readout_text(technology),
        cards_text(technology),
    ]
    return _parameters({**values, **_summing(technology)}) + "\n".join(parts)


def readout_models(technology: Technology) -> str:
    """Return parameters and subcircuits of the read-out; cards only where it has transistors."""
    values = {
        "v_cm": technology.column.v_cm_v,
        "r_feedback": technology.readout.r_feedback_ohm,
        **_amplifier(technology),
        **_summing(technology),
    }
    parts = [_readout_text(technology)]
    if technology.readout.amplifier != "model":
        parts.append(cards_text(technology))
    return _parameters(values) + "\n".join(parts)


def acam_models(
    device: Device, technology: Technology, t_eval: float, t_edge: float, *, draws: bool = False
) -> str:
    """Return cards, parameters and subcircuits of the ACAM cell and its match line.

    With ``draws`` every transistor of a half takes a threshold shift ``vtK`` and a mobility factor
    ``muK`` of its own, K its number.
    """
    acam = technology.acam
    values = {
        "vdd": technology.vdd_v,
        "v_sl_hi": acam.v_sl_hi_v,
        "v_sl_lo": acam.v_sl_lo_v,
        "w1": acam.w1_m,
        "l1": acam.l1_m,
        "w2": acam.w2_m,
        "l2": acam.l2_m,
        "wp": acam.wp_m,
        "w_precharge": acam.w_precharge_m,
        "c_ml": acam.c_ml_f_per_cell * acam.cells_per_row + acam.c_sense_f,
        "c_node": acam.c_node_f,
        "idle_cells": acam.cells_per_row - 1,
        "t_eval": t_eval,
        "t_edge": t_edge,
        "t_sense": acam.t_sense_s,
        "t_precharge": acam.t_precharge_s,
    }
    names = {"nmos": technology.cards.nmos, "pmos": technology.cards.pmos}
    for half, numbers in CELL_TRANSISTORS[acam.cell].items():
        names[f"{half}_draws"] = "".join(f" vt{k}=0 mu{k}=1" for k in numbers if draws)
        names |= {f"m{k}": f" delvto={{vt{k}}} mulu0={{mu{k}}}" if draws else "" for k in numbers}
    circuits = (render(f"acam_{acam.cell}", **names), render("match_line", **names))
    parts = [_rram(device, technology, values), *circuits, cards_text(technology)]
    return _parameters(values) + "\n".join(parts)


def half_cell(
    technology: Technology, half: str, g: float, nodes: str, *, name: str, vdd: str = "vdd"
) -> str:
    """Return the line of half a cell.

    Parameters
    ----------
    nodes : str
        Data line, match line, upper and lower search line.
    name : str
        Of the instance, without its x.
    vdd : str
        Supply of the inverters, in halves that have some.
    """
    supply = f" {vdd}" if half in SUPPLIED[technology.acam.cell] else ""
    return f"x{name} {nodes}{supply} acam_{half} g={number(g)}"


def program_models(device: Device, technology: Technology) -> str:
    """Return cards, parameters and subcircuits of a 1T1R cell with the device's dynamic RRAM."""
    model, column = device.dynamics, technology.column
    values = {
        "w_access": column.w_access_m,
        "l_access": column.l_access_m,
        **model.parameters(technology.temperature_c),
    }
    cell = render("cell_program", terminals=model.terminals, nmos=technology.cards.nmos)
    parts = [render(model.template), cell, cards_text(technology)]
    return _parameters(values) + "\n".join(parts)


def chunks(count: int, size: int) -> Iterable[slice]:
    """Yield slices of at most ``size`` that cover ``range(count)``, as even as possible."""
    pieces = max(1, math.ceil(count / size))
    edges = [round(k * count / pieces) for k in range(pieces + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _digest(path: Path, seen: set[Path] | None = None) -> str:
    """Hash a library and what it includes: an edited library meets no cached result."""
    seen = set() if seen is None else seen
    if path in seen or not path.is_file():
        return ""
    seen.add(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    names = re.findall(r"^\s*\.(?:include|inc|lib)\s+['\"]?([^'\"\s]+)", text, re.I | re.M)
    parts = [text, *(_digest(path.parent / name, seen) for name in names)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _rram(device: Device, technology: Technology, values: dict[str, float]) -> str:
    """Return the RRAM subcircuit; its parameters, if it has some, are entered into ``values``."""
    g, factor = "g", device.temperature_factor(technology.temperature_c)
    if factor != 1.0:
        g, values["g_temperature"] = "g*g_temperature", factor
    if math.isinf(device.v_sinh_v):
        return render("rram_linear", g=g)
    values["v_sinh"] = device.v_sinh_v
    return render("rram_sinh", g=g)


def _readout_text(technology: Technology) -> str:
    """Return the sub-circuits ``amplifier``, as the technology chooses it, ``tia``, ``summing``."""
    if technology.readout.amplifier == "model":
        feedback = {"stage_capacitor": "", "sum_capacitor": ""}
        return render("amplifier_model") + "\n" + render("readout", **feedback)
    names = {"nmos": technology.cards.nmos, "pmos": technology.cards.pmos}
    feedback = {
        "stage_capacitor": "cf in out {c_feedback}",
        "sum_capacitor": "cf vm dl {c_sum}",
    }
    return render("amplifier_two_stage", **names) + "\n" + render("readout", **feedback)


def _amplifier(technology: Technology) -> dict[str, float]:
    """Return the parameters of the chosen amplifier and of its feedback."""
    readout, sized = technology.readout, technology.amplifier
    if readout.amplifier == "model":
        return {
            "opamp_gain": readout.opamp_gain,
            "opamp_gbw": readout.opamp_gbw_hz,
            "r_output": readout.r_output_ohm,
            "c_miller_sum": 0.0,
        }
    leaves = key_table(type(sized))
    values = {re.sub("_[mvaf]$", "", name): getattr(sized, name) for name in leaves}
    return values


def _summing(technology: Technology) -> dict[str, float]:
    readout = technology.readout
    span = readout.v_dl_hi_v - readout.v_dl_lo_v
    return {
        "r_sum": readout.r_sum_ohm,
        "error_scale": readout.error_scale,
        "c_load": readout.c_load_f,
        "sum_gain": span / (readout.i_full_scale_a * readout.r_feedback_ohm),
        "v_ref": (readout.v_dl_lo_v + readout.v_dl_hi_v) / 2,
    }


def _parameters(values: dict[str, float]) -> str:
    return "".join(f".param {name}={number(value)}\n" for name, value in values.items())


@cache
def _read(template: str) -> str:
    return (
        resources.files("netlists").joinpath(f"{template}.cir").read_text(encoding="utf-8").rstrip()
    )

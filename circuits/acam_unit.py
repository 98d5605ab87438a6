"""A whole ACAM unit at transistor level: one conversion from data line to output code.

Rows of cells, their match lines and sense amplifiers, an OR line for each output bit and the Gray
decoder, in one netlist and one transient. Logic is at transistor level as well: the decoder has
seven gates, so a model of them would save nothing.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits import plan
from circuits.errors import ParameterError, SimulationError
from circuits.netlist import acam_models, half_cell, number, render
from circuits.parameters import Device, Technology
from circuits.plan import Job, Result
from circuits.search import T_EDGE, T_EVAL, Floats

PARTS = ("cells", "match lines", "sense amplifiers", "OR lines and decoder", "clocks")
# Constant supplies of each part, and clock drivers; a supply's name is that of its source.
SUPPLIES = (("vslhi", "vsllo", "vddc"), ("vddp",), ("vsa", "vref"), ("vlogic",))
CLOCKS = ("vpcb", "vseb", "vclk")


@dataclass(frozen=True)
class Rows:
    """What is programmed into a unit.

    Attributes
    ----------
    g_lo, g_hi : (rows,) float arrays [S]
        RRAM conductances of the lower and the upper half; 0 stands for a bound that is off, and is
        simulated as the device's least (lower) or largest (upper) conductance.
    bit : (rows,) int array
        Output bit of each row.
    bits : int
        Width of the code.
    gray : bool
        The rows hold bits of the Gray code, and a decoder follows.
    """

    g_lo: Floats
    g_hi: Floats
    bit: NDArray[np.int64]
    bits: int
    gray: bool = True

    def __post_init__(self) -> None:
        rows = len(self.bit)
        if not len(self.g_lo) == len(self.g_hi) == rows or not rows:
            raise ParameterError(
                f"g_lo ({len(self.g_lo)}), g_hi ({len(self.g_hi)}) and bit ({rows}) need one value"
                " for each row, and at least one row"
            )


@dataclass(frozen=True)
class Conversions:
    """What ngspice gave for a sweep of inputs.

    Attributes
    ----------
    codes : (n,) int array
        Output code at the end of the cycle; -1 where the simulation failed.
    energy_j : (n, parts) float array [J]
        From each part's supplies over one whole cycle, in the order of ``PARTS``.
    latency_s : (n,) float array [s]
        Start of the evaluation to the last edge of an output bit; the strobe alone if none moves.
    margin_v : (n,) float array [V]
        Distance of the least certain output bit from half its supply.
    """

    codes: NDArray[np.int64]
    energy_j: Floats
    latency_s: Floats
    margin_v: Floats


def cycle_time(technology: Technology) -> float:
    """Return the time [s] from one conversion to the next, without settling of the data line."""
    acam = technology.acam
    return acam.t_sense_s + technology.unit.t_hold_s + acam.t_precharge_s


def convert(
    device: Device, technology: Technology, rows: Rows, v_dl: ArrayLike, **run_options: Any
) -> Conversions:
    """Simulate conversions, each from a settled data line, one transient per input.

    Parameters
    ----------
    device, technology : Device, Technology
    rows : Rows
    v_dl : (n,) float array [V]
        Data line.
    **run_options
        As ``circuits.plan.run``.
    """
    bench = UnitBench(device, technology, rows)
    volts = np.atleast_1d(np.asarray(v_dl, float))
    jobs = [bench.job(v) for v in volts]
    found = [bench.read(result) for result in plan.run(jobs, **run_options)]
    codes, energy, latency, margin = (np.array(column) for column in zip(*found, strict=True))
    return Conversions(codes.astype(np.int64), energy, latency, margin)


class UnitBench:
    """Netlists of one programmed unit."""

    def __init__(self, device: Device, technology: Technology, rows: Rows) -> None:
        self.device, self.technology, self.rows = device, technology, rows
        self.models = unit_models(device, technology)
        self.bits = tuple(f"b{k}" for k in range(rows.bits))
        self.vectors = (
            "time", *(f"v({b})" for b in self.bits),
            *(f"i({name})" for part in SUPPLIES for name in part),
            *(f"i({name})" for name in CLOCKS),
        )  # fmt: skip

    def job(self, v_dl: float, extra: tuple[str, ...] = ()) -> Job:
        """Return the netlist of one conversion; ``extra`` are further vectors."""
        vectors = (*self.vectors, *extra)
        acam = self.technology.acam
        text = render(
            "bench_unit",
            title="acam-unit",
            models=self.models,
            v_dl=v_dl,
            cells="\n".join([*self._rows(), *self._or_lines(), *self._decoder()]),
            temperature=self.technology.temperature_c,
            save=" ".join(vectors[1:]),
            step=min(2e-12 * max(acam.t_sense_s / 300e-12, 1.0), acam.t_sense_s / 50),
            stop=T_EVAL + cycle_time(self.technology),
        )
        return Job("acam-unit", text, vectors)

    def _rows(self) -> list[str]:
        """Return cells, match lines, sense amplifiers and pull-downs on the OR lines."""
        lines: list[str] = []
        off = self.device.g_min_s, self.device.g_max_s
        shared = self.technology.acam.match_lines == 1
        for k, (lo, hi) in enumerate(zip(self.rows.g_lo, self.rows.g_hi, strict=True)):
            upper = f"l{k}" if shared else f"u{k}"
            for half, ml, g in (
                ("lower", f"l{k}", lo or off[0]),
                ("upper", upper, hi or off[1]),
            ):
                nodes, name = f"dl {ml} slhi sllo", f"{half[0]}{k}"
                lines.append(half_cell(self.technology, half, g, nodes, name=name, vdd="vddc"))
            for ml in dict.fromkeys((f"l{k}", upper)):
                lines += [
                    f"xm{ml} {ml} pcb vddp match_line",
                    f"xs{ml} {ml} ref seb q{ml} n{ml} vsa sense_amplifier",
                ]
            lines.append(
                f"xo{k} ql{k} {self._places[k]} input_on_or_line"
                if shared
                else f"xo{k} ql{k} qu{k} {self._places[k]} clk vddl row_on_or_line"
            )
        return lines

    def _or_lines(self) -> list[str]:
        """Return the OR of every bit: one line, or lines of some rows and one that joins them."""
        word = "g" if self.rows.gray else "b"
        lines = []
        for k in range(self.rows.bits):
            mine = np.flatnonzero(self.rows.bit == k)
            parts = list(dict.fromkeys(self._places[row] for row in mine))
            if len(parts) == 1:
                lines.append(f"xg{k} {parts[0]} clk {word}{k} vddl or_line")
                continue
            for j, part in enumerate(parts):
                lines.append(f"xp{k}_{j} {part} clk p{k}_{j} vddl or_line")
                lines.append(f"xq{k}_{j} p{k}_{j} or{k} foot{k} input_on_or_line")
            lines.append(f"xg{k} or{k} foot{k} clk {word}{k} vddl or_line")
        return lines

    @property
    def _places(self) -> list[str]:
        """OR line and its foot of every row."""
        most, seen, places = self.technology.unit.rows_per_or_line, dict[int, int](), []
        for bit in self.rows.bit.tolist():
            count = seen[bit] = seen.get(bit, -1) + 1
            places.append(f"or{bit}_{count // most} foot{bit}_{count // most}")
        return places

    def _decoder(self) -> list[str]:
        """Return the Gray decoder: each bit is the exclusive or of its Gray bit and the next."""
        if not self.rows.gray:
            return []
        top = self.rows.bits - 1
        gates = [f"xd{k} b{k + 1} g{k} b{k} vddl xor2" for k in reversed(range(top))]
        return [f"vtop b{top} g{top} 0", *gates]

    def read(self, result: Result) -> tuple[int, Floats, float, float]:
        """Return code, energy of each part, latency and margin of one conversion."""
        if result.status == 2:
            return -1, np.full(len(PARTS), np.nan), np.nan, np.nan
        half = self.technology.unit.v_supply_v / 2
        v = np.stack([result.vectors[f"v({b})"] for b in self.bits])
        code = sum(1 << k for k, bit in enumerate(v[:, -1] > half) if bit)
        return code, self._energy(result), self._latency(result, v), abs(v[:, -1] - half).min()

    def _energy(self, result: Result) -> Floats:
        acam, vdd = self.technology.acam, self.technology.vdd_v
        unit = self.technology.unit
        volts = {"vslhi": acam.v_sl_hi_v, "vsllo": acam.v_sl_lo_v, "vref": unit.v_reference_v}
        volts |= dict.fromkeys(("vsa", "vseb", "vclk", "vlogic"), unit.v_supply_v)
        time = result.vectors["time"]
        cycle = time >= T_EVAL - T_EDGE / 2

        def joules(source: str, clock: bool = False) -> float:
            current = -result.vectors[f"i({source})"][cycle]
            if clock:  # a driver takes the charge from its supply and dumps it to ground
                current = np.maximum(current, 0.0)
            return float(volts.get(source, vdd) * np.trapezoid(current, time[cycle]))

        parts = [sum(joules(name) for name in part) for part in SUPPLIES]
        return np.array([*parts, sum(joules(name, clock=True) for name in CLOCKS)])

    def _latency(self, result: Result, v: Floats) -> float:
        time, half = result.vectors["time"], self.technology.unit.v_supply_v / 2
        strobe = T_EVAL + self.technology.acam.t_sense_s
        moves = np.diff(np.signbit(v - half), axis=1).any(axis=0) & (time[1:] > strobe)
        last = time[1:][moves].max() if moves.any() else strobe
        return float(last - T_EVAL)


def sense_parameters(technology: Technology) -> dict[str, float]:
    """Return the netlist parameters of sense amplifiers, OR lines and decoder."""
    unit = technology.unit
    return {
        "us_supply": unit.v_supply_v,
        "us_reference": unit.v_reference_v,
        "us_tail": unit.w_tail_m,
        "us_pair": unit.w_pair_m,
        "us_cross_p": unit.w_cross_p_m,
        "us_cross_n": unit.w_cross_n_m,
        "us_reset": unit.w_reset_m,
        "us_or": unit.w_or_m,
        "us_foot": unit.w_foot_m,
        "us_or_precharge": unit.w_or_precharge_m,
        "us_keeper": unit.w_keeper_m,
        "us_gate_n": unit.w_gate_n_m,
        "us_gate_p": unit.w_gate_p_m,
        "us_l": unit.l_m,
        "us_c_or": unit.c_or_f_per_row,
        "us_c_gate": unit.c_gate_f,
        "us_t_or": unit.t_or_s,
        "t_strobe": T_EVAL + technology.acam.t_sense_s,
        "t_next": T_EVAL + technology.acam.t_sense_s + unit.t_hold_s,
    }


def unit_models(device: Device, technology: Technology, *, draws: bool = False) -> str:
    """Return cards, parameters and subcircuits of a unit.

    With ``draws`` the first seven transistors of a sense amplifier take draws ``vtK``, ``muK``.

    Raises
    ------
    ParameterError
        The sense amplifier's gate is said to be more than the sense input that contains it, or its
        devices are shorter than those of the cell.
    """
    if technology.unit.l_m < technology.acam.l2_m:
        raise ParameterError(
            f"unit.l_m = {technology.unit.l_m:g} is below acam.l2_m = {technology.acam.l2_m:g}: the"
            f" unit's sizes are those of lp16; give {technology.name!r} a section [unit]"
        )
    wire = technology.acam.c_sense_f - technology.unit.c_input_f
    if wire < 0:
        raise ParameterError(
            f"unit.c_input_f = {technology.unit.c_input_f:g} is part of acam.c_sense_f ="
            f" {technology.acam.c_sense_f:g} and cannot exceed it"
        )
    cells = replace(technology, acam=replace(technology.acam, c_sense_f=wire))
    names = {"nmos": technology.cards.nmos, "pmos": technology.cards.pmos}
    shifts = {f"m{k}": f" delvto={{vt{k}}} mulu0={{mu{k}}}" if draws else "" for k in range(1, 8)}
    shifts["draws"] = "".join(f" vt{k}=0 mu{k}=1" for k in range(1, 8) if draws)
    values = sense_parameters(technology)
    parameters = "".join(f".param {name}={number(value)}\n" for name, value in values.items())
    return parameters + "\n".join(
        [
            acam_models(device, cells, T_EVAL, T_EDGE),
            render("sense_amplifier", **names, **shifts),
            render("acam_unit", **names),
        ]
    )


def require_codes(found: Conversions) -> None:
    """Raise SimulationError if a conversion failed."""
    failed = int((found.codes < 0).sum())
    if failed:
        raise SimulationError(
            f"ngspice failed on {failed} of {len(found.codes)} conversions of the unit; the kept"
            " netlists are listed above"
        )

"""Row drivers at transistor level: from the 8-bit code of an input to the voltage of a row.

By level: a resistor string, a tree of switches that picks one tap, and buffers that make the row
follow it. By pulses: two switches put the row at its read or its rest voltage, bit after bit.
Inference takes the row voltage as ideal; what is measured here is how far that is from the circuit.
"""

import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits import plan
from circuits.errors import SimulationError
from circuits.netlist import cards_text, number, render
from circuits.parameters import Technology
from circuits.plan import Job, Result

Floats = NDArray[np.float64]

BITS = 8
CODES = 1 << BITS
T_START = 200e-12  # rest before the first edge [s]
T_EDGE = 10e-12
SETTLE_S = 10e-9  # longest wait for a step of the string
STEPS = ((0, 255), (255, 0), (127, 128), (128, 127), (128, 129))  # from code, to code
LOADS = (0.0, 0.5, 1.0, 1.5)  # of driver.g_row_s
PATTERN = (0, 1, 0, 1, 1, 0, 0)  # every pair of neighbouring bits


@dataclass(frozen=True)
class StringData:
    """The driver with a resistor string.

    Attributes
    ----------
    row_v : (loads, 256) float array [V]
        Row voltage of every code, above the virtual ground, for rows of conductance ``load_s``.
    load_s : (loads,) float array [S]
    ideal_v : (256,) float array [V]
        What inference assumes: ``v_read (code - 128) / 128``.
    settle_s : (steps,) float array [s]
        Of ``STEPS``: until the row stays within half a step of a code; inf if it never does.
    energy_j : (steps,) float array [J]
        From the supplies of buffers and bit lines until then, all buffers of the row.
    power_w, string_w : float [W]
        Of all buffers at mid-scale, and of the string, which many rows may share.
    mismatch_lsb : (2, 2) float array
        Largest INL and DNL of the string alone over its resistors' mismatch: mean and 99th
        percentile of 1,000 strings.
    """

    row_v: Floats
    load_s: Floats
    ideal_v: Floats
    settle_s: Floats
    energy_j: Floats
    power_w: float
    string_w: float
    mismatch_lsb: Floats


@dataclass(frozen=True)
class PulseData:
    """The bit-serial driver.

    Attributes
    ----------
    area_vs, end_v : (2, 2) float arrays [V s], [V]
        Area of a bit's slot over the rest voltage and the row at the slot's end, by the bit before
        and the bit.
    rise_s, fall_s : float [s]
        From the middle of the bit's edge until the row stays within half a step of its end.
    level_v, ideal_v : float [V]
        Settled pulse above the rest voltage, and ``v_read``.
    r_on_ohm : float
        Of the switch at that current.
    toggle_j : (2, 2) float array [J]
        From the supply of the gates in the slot, by the bit before and the bit.
    read_j : float [J]
        From the reference of the read voltage in the slot of a one after a zero: what the cells
        take, and the line's charge.
    t_bit_s : float [s]
        Length of a slot.
    """

    area_vs: Floats
    end_v: Floats
    rise_s: float
    fall_s: float
    level_v: float
    ideal_v: float
    r_on_ohm: float
    toggle_j: Floats
    read_j: float
    t_bit_s: float

    def row_v(self, *, sampled: bool) -> Floats:
        """Return the row voltage of all codes, (256,) [V], bits weighted by powers of two.

        The least significant bit comes first, after a zero. A bit counts by the row's voltage at
        the end of its slot (sampled), or by the mean over the slot (integrated).
        """
        counted = self.end_v if sampled else self.area_vs / self.t_bit_s
        bits = np.arange(CODES)[:, None] >> np.arange(BITS) & 1
        before = np.column_stack([np.zeros(CODES, np.int64), bits[:, :-1]])
        return np.asarray(counted[before, bits] @ 2.0 ** np.arange(BITS)) / (CODES - 1)


def nonlinearity(volts: Floats) -> tuple[Floats, Floats]:
    """Return INL and DNL in steps (LSB), from the straight line through the ends.

    Parameters
    ----------
    volts : (codes,) float array [V]

    Returns
    -------
    INL (codes,) and DNL (codes - 1,)
    """
    step = (volts[-1] - volts[0]) / (len(volts) - 1)
    inl = (volts - volts[0]) / step - np.arange(len(volts))
    return inl, np.diff(volts) / step - 1.0


def models(technology: Technology, g_row: float, share: int = 1) -> str:
    """Return cards, parameters and sub-circuits of both drivers.

    Parameters
    ----------
    technology : Technology
    g_row : float
        Conductance of the row [S].
    share : int
        Buffers that share the row; one of them is simulated, with its part of the load.
    """
    driver, sized = technology.driver, technology.amplifier
    values = {re.sub("_[mvaf]$", "", f.name): getattr(sized, f.name) for f in fields(sized)}
    values |= {
        "w_sink": driver.w_sink_m,
        "v_cm": technology.column.v_cm_v,
        "d_supply": driver.v_supply_v,
        "d_tap": driver.w_tap_m,
        "d_row": driver.w_row_m,
        "d_gate_n": driver.w_gate_n_m,
        "d_gate_p": driver.w_gate_p_m,
        "d_l": driver.l_m,
        "d_miller": driver.c_miller_f,
        "d_c_row": driver.cells * technology.column.c_wire_f_per_cell / share,
        "d_g_row": g_row / share,
    }
    names = {"nmos": technology.cards.nmos, "pmos": technology.cards.pmos}
    parameters = "".join(f".param {name}={number(value)}\n" for name, value in values.items())
    # stages of the read-out are not in this circuit
    amplifier = render("amplifier_two_stage", **names).partition("* what a transimpedance")[0]
    return parameters + "\n".join(
        [amplifier, render("row_driver", **names), cards_text(technology)]
    )


def string_lines(technology: Technology) -> list[str]:
    """Return string, tree, buffer and row."""
    r = number(technology.driver.r_unit_ohm)
    lines = [f"r{k} {_tap(k)} {'hi' if k + 1 == CODES else _tap(k + 1)} {r}" for k in range(CODES)]
    for level in range(BITS):
        for k in range(CODES >> level):
            below = _tap(k) if level == 0 else f"n{level}_{k}"
            above = "tap" if level == BITS - 1 else f"n{level + 1}_{k // 2}"
            on = f"{'yes' if k % 2 else 'no'}{level}"
            lines.append(f"xs{level}_{k} {below} {above} {on} tap_switch")
    lines += [f"xb{k} bit{k} yes{k} no{k} vddl bit_lines" for k in range(BITS)]
    return [*lines, "xo tap row row_buffer", "xl row cm row_line"]


def _tap(k: int) -> str:
    return "lo" if k == 0 else f"s{k}"


class DriverBench:
    """Netlists of one technology's row drivers."""

    def __init__(self, technology: Technology, options: dict[str, Any]) -> None:
        self.technology, self.options = technology, options
        self.driver = technology.driver

    def run(self, jobs: list[Job]) -> list[Result]:
        """Run jobs; all must succeed."""
        results = plan.run(jobs, **self.options)
        for result in results:
            if result.status == 2:
                raise SimulationError(f"ngspice failed on a row driver: {result.message}")
        return results

    def job(
        self, what: str, bits: list[str], circuit: list[str], analysis: str,
        vectors: tuple[str, ...], g_row: float, share: int = 1, rest: float | None = None,
    ) -> Job:  # fmt: skip
        """Return a netlist; `rest` is the lower reference, by default a read voltage below."""
        column = self.technology.column
        text = render(
            "bench_driver",
            title=what,
            models=models(self.technology, g_row, share),
            v_hi=column.v_cm_v + column.v_read_v,
            v_lo=column.v_cm_v - column.v_read_v if rest is None else rest,
            bits="\n".join(bits),
            circuit="\n".join(circuit),
            temperature=self.technology.temperature_c,
            save=" ".join(v for v in vectors if v != "time"),
            analysis=analysis,
        )
        return Job(what, text, vectors)

    def sweep(self, g_row: float) -> Job:
        """Return the job that steps through all codes; the tap is ideal, it carries no current."""
        circuit = [
            "vidx idx 0 0", f"etap tap lo t 0 {{1/{CODES}}}", "bt t 0 v=v(idx)*v(hi,lo)",
            "xo tap row row_buffer", "xl row cm row_line",
        ]  # fmt: skip
        vectors = ("v(row)", "v(tap)", "i(vdda)")
        analysis = f".dc vidx 0 {CODES - 1} 1"
        return self.job("driver-sweep", [], circuit, analysis, vectors, g_row, self.driver.buffers)

    def step(self, before: int, after: int) -> Job:
        """Return the job of one step of the string."""
        bits = []
        for k in range(BITS):
            a, b = ((code >> k & 1) * self.driver.v_supply_v for code in (before, after))
            bits.append(f"vb{k} bit{k} 0 pwl(0 {a} {T_START} {a} {T_START + T_EDGE} {b})")
        vectors = ("time", "v(row)", "i(vdda)", "i(vlogic)", "i(vhi)", "i(vlo)")
        return self.job(
            "driver-step", bits, string_lines(self.technology), f".tran 20p {SETTLE_S} 0 20p",
            vectors, self.driver.g_row_s, self.driver.buffers,
        )  # fmt: skip

    def pulses(self) -> Job:
        """Return the job of a bit-serial row that sends ``PATTERN``."""
        slot, supply = self.driver.t_bit_s, self.driver.v_supply_v
        points = [f"0 {PATTERN[0] * supply}"]
        for k, bit in enumerate(PATTERN[1:], 1):
            at = T_START + k * slot
            points.append(f"{at - T_EDGE / 2} {PATTERN[k - 1] * supply}")
            points.append(f"{at + T_EDGE / 2} {bit * supply}")
        circuit = [
            "xb bit yes no vddl bit_lines", "xr yes no row hi lo row_switch", "xl row cm row_line",
        ]  # fmt: skip
        stop = T_START + len(PATTERN) * slot
        return self.job(
            "driver-pulses", [f"vb bit 0 pwl({' '.join(points)})"], circuit,
            f".tran 1p {stop} 0 1p", ("time", "v(row)", "i(vlogic)", "i(vhi)"),
            self.driver.g_row_s, rest=self.technology.column.v_cm_v,
        )  # fmt: skip


def measure_string(technology: Technology, **run_options: Any) -> StringData:
    """Measure the driver with a resistor string.

    Parameters
    ----------
    technology : Technology
        Sizes in its section [driver]; the buffer's in [amplifier].
    **run_options
        As ``circuits.plan.run``.

    Raises
    ------
    SimulationError
        ngspice failed.
    """
    bench, driver = DriverBench(technology, run_options), technology.driver
    load = np.array(LOADS) * driver.g_row_s
    jobs = [*(bench.sweep(g) for g in load), *(bench.step(*codes) for codes in STEPS)]
    results = bench.run(jobs)
    sweeps, steps = results[: len(load)], results[len(load) :]
    v_cm, v_read = technology.column.v_cm_v, technology.column.v_read_v
    half_step = v_read / CODES
    supply = technology.amplifier.v_supply_v
    settle, energy = np.full(len(steps), np.inf), np.full(len(steps), np.nan)
    for k, result in enumerate(steps):
        time, row = result.vectors["time"] - T_START, result.vectors["v(row)"]
        settle[k] = settling(time, row, half_step)
        part = (time >= 0) & (time <= settle[k])
        buffers = -supply * np.trapezoid(result.vectors["i(vdda)"][part], time[part])
        gates = -driver.v_supply_v * np.trapezoid(result.vectors["i(vlogic)"][part], time[part])
        energy[k] = driver.buffers * buffers + gates
    at_rest = sweeps[-1].vectors["i(vdda)"][CODES // 2]
    return StringData(
        row_v=np.stack([sweep.vectors["v(row)"] for sweep in sweeps]) - v_cm,
        load_s=load,
        ideal_v=np.asarray(v_read * (np.arange(CODES) - CODES / 2) / (CODES / 2)),
        settle_s=settle,
        energy_j=energy,
        power_w=float(-supply * at_rest) * driver.buffers,
        string_w=(2 * v_read) ** 2 / (CODES * driver.r_unit_ohm),
        mismatch_lsb=string_mismatch(driver.r_unit_sigma),
    )


def string_mismatch(sigma: float, strings: int = 1000, seed: int = 0) -> Floats:
    """Return mean and 99th percentile of the largest INL and DNL of a string, (2, 2) [steps].

    Its taps carry no current, so they follow from the resistances.
    """
    draws = np.random.default_rng(seed).normal(1.0, sigma, (strings, CODES))
    taps = np.cumsum(np.pad(draws, ((0, 0), (1, 0))), axis=1)[:, :CODES]
    worst = [[np.abs(x).max() for x in nonlinearity(string)] for string in taps]
    return np.stack([np.mean(worst, axis=0), np.percentile(worst, 99, axis=0)], axis=1)


def measure_pulses(technology: Technology, **run_options: Any) -> PulseData:
    """Measure the bit-serial driver; parameters and errors as for `measure_string`."""
    bench, driver = DriverBench(technology, run_options), technology.driver
    found = bench.run([bench.pulses()])[0].vectors
    v_read, slot = technology.column.v_read_v, driver.t_bit_s
    time = found["time"] - T_START
    row = found["v(row)"] - technology.column.v_cm_v
    area, end, toggle = (np.full((2, 2), np.nan) for _ in range(3))
    for k in range(1, len(PATTERN)):
        part = (time >= k * slot - T_EDGE / 2) & (time < (k + 1) * slot - T_EDGE / 2)
        where = PATTERN[k - 1], PATTERN[k]
        area[where] = np.trapezoid(row[part], time[part])
        end[where] = row[time < (k + 1) * slot - T_EDGE][-1]
        gates = np.trapezoid(found["i(vlogic)"][part], time[part])
        toggle[where] = -driver.v_supply_v * gates
    edges = {(0, 1): 1, (1, 0): 2}  # slots of the first rise and fall in PATTERN
    delay = {}
    for where, k in edges.items():
        part = (time >= k * slot) & (time < (k + 1) * slot - T_EDGE)
        delay[where] = settling(time[part] - k * slot, row[part], v_read / CODES)
    one = (time >= slot) & (time < 2 * slot - T_EDGE)
    level = float(end[0, 1])
    v_hi = technology.column.v_cm_v + v_read
    return PulseData(
        area_vs=area,
        end_v=end,
        rise_s=delay[0, 1],
        fall_s=delay[1, 0],
        level_v=level,
        ideal_v=v_read,
        r_on_ohm=(v_read - level) / (level * driver.g_row_s) if driver.g_row_s else np.nan,
        toggle_j=toggle,
        read_j=float(-v_hi * np.trapezoid(found["i(vhi)"][one], time[one])),
        t_bit_s=slot,
    )


def settling(time: Floats, volts: Floats, tolerance: float) -> float:
    """Return the time after which volts stay within a tolerance of their last value; else inf."""
    outside = np.flatnonzero(np.abs(volts - volts[-1]) > tolerance)
    if not outside.size:
        return 0.0
    last = int(outside[-1])
    return float(time[last + 1]) if last + 1 < len(time) - 1 else float("inf")

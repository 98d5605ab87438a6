"""What drives the rows of crossbars: a DAC of the component table, or a simulated driver."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behavioral.library import Library
from circuits.errors import NldpeError, SimulationError
from circuits.parameters import Technology
from circuits.row_driver import PulseData, StringData, measure_pulses, measure_string
from system.cost.components import Components

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RowDriver:
    """Energy, time and area of one row of a core, in all its arrays.

    Attributes
    ----------
    conversion_j : of one input code, settling of the driver included.
    power_w : while the row is read.
    settle_s : before the columns begin to settle.
    reads : of the columns for one product: one, or one for every bit of a code.
    slot_s : least time of one of them.
    area_m2
    """

    conversion_j: float
    power_w: float
    settle_s: float
    reads: int
    slot_s: float
    area_m2: float


@dataclass(frozen=True)
class MeasuredDriver:
    """The driver that a library's technology chooses, as ngspice measured it.

    Every array has drivers of its own, as in inference. Area is that of drawn gates and
    capacitors, as for the read-out's amplifiers: resistors, wells and wires are not known.

    Attributes
    ----------
    data : StringData or PulseData
    technology : Technology
    """

    data: StringData | PulseData
    technology: Technology

    def of(self, components: Components, rows: int, arrays: int, bits: int) -> RowDriver:
        """Return a row of a core.

        Parameters
        ----------
        components : for the area of gates and capacitors.
        rows : of the core; they share one string.
        arrays : of the core.
        bits : of a code. A string is measured with 8; for more its tree of switches grows, and
            nothing else.
        """
        part = components["amplifier"]
        if isinstance(self.data, PulseData):
            gates = self._bit_lines(1) + 2 * self.technology.driver.w_row_m
            return RowDriver(
                arrays * bits * float(self.data.toggle_j.mean()), 0.0, 0.0, bits,
                self.data.t_bit_s,
                arrays * gates * self.technology.driver.l_m * part["layout_factor"],
            )  # fmt: skip
        slowest = float(self.data.settle_s.max())
        idle = self.data.power_w * (slowest - self.data.settle_s)  # the other codes wait for it
        shared = self.data.string_w / rows
        return RowDriver(
            arrays * float((self.data.energy_j + idle).mean()) + shared * slowest,
            arrays * self.data.power_w + shared, slowest, 1, 0.0,
            arrays * self._string_area(components, bits),
        )  # fmt: skip

    def _string_area(self, components: Components, bits: int) -> float:
        """Return the area of the tree, its bit lines and the buffers of a row of one array [m2]."""
        part, driver = components["amplifier"], self.technology.driver
        amplifier = replace(self.technology.amplifier, w_sink_m=driver.w_sink_m)
        tree = (2 ** (bits + 1) - 2) * driver.w_tap_m + self._bit_lines(bits)
        gates = tree * driver.l_m + driver.buffers * sum(amplifier.gate_areas_m2())
        capacitors = driver.buffers * driver.c_miller_f / part["capacitor_f_per_m2"]
        return float(gates * part["layout_factor"] + capacitors)

    def _bit_lines(self, bits: int) -> float:
        """Return the width of the inverters that drive so many bit lines [m]."""
        return bits * 2 * (self.technology.driver.w_gate_n_m + self.technology.driver.w_gate_p_m)


def measured_driver(library: Library) -> tuple[MeasuredDriver | None, str]:
    """Measure the chosen driver, or say why that cannot be; ideal drivers have nothing to measure.

    Returns
    -------
    the driver or None, and the reason where one is chosen and None is returned
    """
    technology = library.technology
    if technology.driver.circuit == "ideal":
        return None, ""
    data: StringData | PulseData
    try:
        if technology.driver.circuit == "pulses":
            data = measure_pulses(technology, progress="row driver")
        else:
            data = measure_string(technology, progress="row driver")
            if not np.isfinite(data.settle_s).all():
                raise SimulationError("the row driver does not settle within 10 ns")
    except NldpeError as error:
        return None, str(error)
    return MeasuredDriver(data, technology), ""


def pulse_drives(drive: Floats, bits: int) -> list[Floats]:
    """Return what rows do bit after bit for drives in [-1, 1]: +1 or -1 for a one, else 0."""
    codes = np.rint(np.abs(drive) * ((1 << bits) - 1)).astype(np.int64)
    return [np.sign(drive) * (codes >> k & 1) for k in range(bits)]

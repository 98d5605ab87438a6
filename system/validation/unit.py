"""A whole ACAM unit in ngspice against the behavioural model: codes, energy, time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit, Windows
from behavioral.library import Library
from circuits import acam_unit, unit_energy
from circuits.errors import ParameterError
from system.cost.conversion import ConversionEnergy
from system.cost.spice import search_time
from system.layer_spec import FUNCTIONS

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

BY_NAME = {name or "identity": f for name, f in FUNCTIONS.items()}
X_RANGE = (-4.0, 4.0)  # of all functions but the identity: where their bends lie
NEAR_LSB = (
    0.6  # of an edge: there the sense amplifier's offset decides (docs/circuits/acam-unit.md)
)


@dataclass(frozen=True)
class UnitReport:
    """Conversions of one unit, the model beside ngspice.

    Attributes
    ----------
    function, bits, rows : what is programmed.
    u : (n,) positions on the data line.
    edge_lsb : (n,) distance to the nearest edge of a row, in 1/256 of the line.
    model, spice : (n,) codes.
    energy_j : (n, parts) of `circuits.acam_unit.PARTS`.
    predicted_j : (n, parts) as `nldpe cost` counts them.
    latency_s : (n,) evaluation to the last edge of the output.
    cycle_s, search_s : period of the unit, and precharge with evaluation alone.
    """

    function: str
    bits: int
    rows: int
    u: Floats
    edge_lsb: Floats
    model: Codes
    spice: Codes
    energy_j: Floats
    predicted_j: Floats
    latency_s: Floats
    cycle_s: float
    search_s: float

    def text(self) -> str:
        """Return the report."""
        far = self.edge_lsb > NEAR_LSB
        equal = self.model == self.spice
        step = np.abs(self.model - self.spice)
        mean, told = (x.mean(axis=0) * 1e15 for x in (self.energy_j, self.predicted_j))
        lines = [
            f"unit: {self.function}, {self.bits} bits, {self.rows} rows, Gray code; "
            f"{len(self.u)} conversions in ngspice",
            f"codes equal to the model's: {equal.sum()} of {len(self.u)}; further than"
            f" {NEAR_LSB} LSB from an edge {equal[far].sum()} of {far.sum()};"
            f" equal or adjacent {(step <= 1).sum()} of {len(self.u)}",
            "energy per conversion [fJ], mean: "
            + ", ".join(f"{name} {x:.0f}" for name, x in zip(acam_unit.PARTS, mean, strict=True))
            + f"; together {mean.sum():.0f}",
            "the same by the library's tables and short units (nldpe cost): "
            + ", ".join(f"{name} {x:.0f}" for name, x in zip(acam_unit.PARTS, told, strict=True))
            + f"; together {told.sum():.0f}",
            f"evaluation to code {self.latency_s.min() * 1e12:.0f} to"
            f" {self.latency_s.max() * 1e12:.0f} ps; one conversion every {self.cycle_s * 1e12:.0f}"
            f" ps (precharge and evaluation alone: {self.search_s * 1e12:.0f} ps)",
        ]
        wrong = np.flatnonzero(~equal)
        lines += [
            f"  u {self.u[k]:.5f}: model {self.model[k]}, ngspice {self.spice[k]},"
            f" edge {self.edge_lsb[k]:.2f} LSB away"
            for k in wrong[:12]
        ]
        return "\n".join(lines)

    def table(self) -> str:
        """Return all conversions as CSV."""
        names = [name.replace(" ", "_") + "_j" for name in acam_unit.PARTS]
        head = ["u", "edge_lsb", "model", "ngspice", *names, "predicted_j", "latency_s"]
        rows = zip(
            self.u, self.edge_lsb, self.model, self.spice, *self.energy_j.T,
            self.predicted_j.sum(axis=1),
            self.latency_s, strict=True,
        )  # fmt: skip
        return "\n".join([",".join(head), *(",".join(f"{x:.6g}" for x in row) for row in rows)])


def check_unit(
    library: Library,
    *,
    function: str = "identity",
    bits: int = 8,
    inputs: int = 16,
    seed: int = 0,
    noise: bool = False,
    **run_options: Any,
) -> UnitReport:
    """Program a function and convert inputs that are drawn evenly over the data line.

    Parameters
    ----------
    library : Library
    function : of `BY_NAME`.
    bits : width of the code, 1 to 8.
    inputs : number of conversions.
    seed : of inputs and of programming noise.
    noise : programming and read noise in the cells.
    **run_options
        As `circuits.plan.run`.

    Raises
    ------
    ParameterError
        An unknown function, or bits out of range.
    SimulationError
        A conversion failed in ngspice.
    """
    model = AcamModel.from_library(library)
    unit = program(model, function, bits, noise=noise, seed=seed)
    u = stratified(inputs, seed)
    assert unit.g_lo is not None
    assert unit.g_hi is not None
    rows = acam_unit.Rows(
        unit.g_lo[0].astype(float), unit.g_hi[0].astype(float), unit.bit, bits, unit.gray
    )
    volts = model.voltage(u)
    found = acam_unit.convert(library.device, library.technology, rows, volts, **run_options)
    acam_unit.require_codes(found)
    around = unit_energy.measure(library.device, library.technology, **run_options)
    return UnitReport(
        function=function,
        bits=bits,
        rows=len(unit.bit),
        u=u,
        edge_lsb=edge_distance(unit, u) * 256,
        model=model.search(unit, u[:, None])[:, 0].astype(np.int64),
        spice=found.codes,
        energy_j=found.energy_j,
        predicted_j=ConversionEnergy(library, model, around).parts(unit, 0, u),
        latency_s=found.latency_s,
        cycle_s=acam_unit.cycle_time(library.technology),
        search_s=search_time(library),
    )


def program(
    model: AcamModel, function: str, bits: int, *, noise: bool = False, seed: int = 0
) -> AcamUnit:
    """Return one unit that computes a function, with its conductances."""
    if function not in BY_NAME:
        raise ParameterError(f"function {function!r} is not known; use {', '.join(BY_NAME)}")
    if not 1 <= bits <= 8:
        raise ParameterError(f"bits = {bits}: a unit at transistor level has 1 to 8 bits")
    x_range = (0.0, 1.0) if function == "identity" else X_RANGE
    windows = Windows.from_function(BY_NAME[function], x_range, bits=bits)
    lo, hi = windows.on_data_line()
    return model.program(lo, hi, windows.bit, bits, seed=seed, noise=noise, keep_conductances=True)


def stratified(count: int, seed: int) -> Floats:
    """Return one random position in each of `count` equal parts of the data line, as float32."""
    draws = np.random.default_rng(seed).random(count)
    return ((np.arange(count) + draws) / count).astype(np.float32).astype(np.float64)


def edge_distance(unit: AcamUnit, u: Floats) -> Floats:
    """Return the distance of positions u (n,) to the nearest bound of any row."""
    assert unit.lo is not None
    assert unit.hi is not None
    edges = np.concatenate([unit.lo[0], unit.hi[0]]).astype(float)
    edges = edges[np.isfinite(edges)]
    return np.asarray(np.abs(u[:, None] - edges).min(axis=1))


def draw_unit(report: UnitReport, path: Path) -> None:
    """Draw codes, their differences, energy and latency over the data line."""
    from matplotlib.figure import Figure

    from circuits.files import write_picture

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    codes, energy, time = figure.subplots(1, 3)
    codes.plot(report.u, report.model, ".", ms=9, color="#d8dee9", label="AcamModel")
    codes.plot(report.u, report.spice, "x", ms=4, color="#2e3440", label="ngspice")
    codes.set(xlabel="data line u", ylabel="output code")
    codes.legend()
    bottom = np.zeros(len(report.u))
    for name, part in zip(acam_unit.PARTS, report.energy_j.T * 1e15, strict=True):
        energy.bar(report.u, part, 0.8 / len(report.u), bottom, label=name)
        bottom += part
    told = report.predicted_j.sum(axis=1) * 1e15
    energy.plot(report.u, told, "k_", label="as nldpe cost counts it")
    energy.set(xlabel="data line u", ylabel="energy of a conversion [fJ]")
    energy.legend(fontsize=7)
    time.plot(report.u, report.latency_s * 1e12, ".")
    time.set(xlabel="data line u", ylabel="evaluation to code [ps]")
    write_picture(path, figure, dpi=120)

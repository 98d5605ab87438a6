"""Energy of the log and exp units, on the codes of recorded operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit, Windows
from behavioral.log_units import LevelFunction, Placed, as_exact
from behavioral.noise import seed_path
from system.cost.conversion import ConversionEnergy
from system.models.ops import Array
from system.product_levels import converted_levels, exact_units, product_functions
from system.quantization import Mapping

Floats = NDArray[np.float64]

UNITS = 16  # programmed units an energy is averaged over


@dataclass(frozen=True)
class ProductFigures:
    """Mean energy of one conversion [J] of the log and of the exp units, and the rows of each.

    Units in parallel may round at staggered places: means over them.
    """

    log_j: float
    exp_j: float
    log_rows: float
    exp_rows: float


def measure_products(
    operands: tuple[Array, ...],
    ceilings: tuple[Array, ...],
    mapping: Mapping,
    acam: AcamModel,
    energy: ConversionEnergy,
    seed: tuple[int, ...],
    placed: Placed = as_exact,
) -> ProductFigures:
    """Return the mean energies of a conversion in one block of products.

    Parameters
    ----------
    operands : (a, b) of an element-wise product, (T, channels) each; or (q, k, v) of attention,
        (1, heads, T, D) each.
    ceilings : largest magnitude of each operand's code, per channel or per head.
    mapping : of the block. Levels are those without noise: they depend little on it.
    acam, energy : the characterised cell.
    seed : of the programmed units.
    placed : their windows.
    """
    functions = product_functions(mapping)
    last = functions.exp.codes.shape[1] - 1
    logs, exps = converted_levels(operands, ceilings, exact_units(mapping), last)
    log_units = _programmed(functions.log, acam, (*seed_path(seed), ord("l")), placed)
    exp_units = _programmed(functions.exp, acam, (*seed_path(seed), ord("e")), placed)
    logs /= 2**mapping.input_bits - 1
    return ProductFigures(
        log_j=float(np.mean([_mean(energy, unit, logs) for unit in log_units])),
        exp_j=float(np.mean([_mean(energy, unit, exps / last) for unit in exp_units])),
        log_rows=float(np.mean([len(unit.bit) for unit in log_units])),
        exp_rows=float(np.mean([len(unit.bit) for unit in exp_units])),
    )


def _programmed(
    function: LevelFunction, acam: AcamModel, key: tuple[int, ...], placed: Placed
) -> list[AcamUnit]:
    """Program units as inference does, one at each place, keeping their conductances."""

    def unit(number: int, windows: Windows) -> AcamUnit:
        return acam.program(
            *windows.on_data_line(), windows.bit, windows.bits, columns=UNITS,
            seed=(*key, number) if number else key, levels=function.codes.shape[1],
            keep_conductances=True,
        )  # fmt: skip

    return [unit(i, windows) for i, (_, windows) in enumerate(function.windows(placed=placed))]


def _mean(energy: ConversionEnergy, unit: AcamUnit, u: Floats) -> float:
    levels, counts = np.unique(u, return_counts=True)
    curves = [energy.column(unit, k, levels) for k in range(UNITS)]
    return float(np.average(np.mean(curves, axis=0), weights=counts))

"""Energy of the log and exp units, on the codes of recorded operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, AcamUnit, Windows
from behavioral.log_units import exp_codes, log_codes
from behavioral.noise import seed_path
from behavioral.products import ProductModel
from system.cost.conversion import ConversionEnergy
from system.models.ops import Array
from system.product_levels import converted_levels

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
    model: ProductModel,
    acam: AcamModel,
    energy: ConversionEnergy,
    seed: tuple[int, ...],
) -> ProductFigures:
    """Return the mean energies of a conversion in one block of products.

    Parameters
    ----------
    operands : (a, b) of an element-wise product, (T, channels) each; or (q, k, v) of attention,
        (1, heads, T, D) each.
    ceilings : largest magnitude of each operand's code, per channel or per head.
    model : ProductModel
        Its codes without noise: which level a unit sees depends little on noise. Its copies are
        the units in parallel.
    acam, energy : the characterised cell.
    seed : of the programmed units.
    """
    last = int(np.count_nonzero(model.exps[0][: model.zero])) + 1
    logs, exps = converted_levels(operands, ceilings, model, last)
    log_units, exp_units = _programmed(model, acam, seed, last)
    logs /= 2**model.in_bits - 1
    return ProductFigures(
        log_j=float(np.mean([_mean(energy, unit, logs) for unit in log_units])),
        exp_j=float(np.mean([_mean(energy, unit, exps / last) for unit in exp_units])),
        log_rows=float(np.mean([len(unit.bit) for unit in log_units])),
        exp_rows=float(np.mean([len(unit.bit) for unit in exp_units])),
    )


def _programmed(
    model: ProductModel, acam: AcamModel, seed: tuple[int, ...], last: int
) -> tuple[list[AcamUnit], list[AcamUnit]]:
    """Program log and exp units as `ProductModel.program` does, keeping their conductances.

    Parameters
    ----------
    last : attenuation at the lower end of the exp units' data line.

    Returns
    -------
    log and exp units of each copy that rounds at another place
    """
    logs = log_codes(model.in_bits, model.bits, model.finer * model.delta, model.finer)
    exps = exp_codes(model.out_bits, np.arange(last + 1) * model.delta, model.copies)

    def unit(name: str, codes: NDArray[np.int64], bits: int, copy: int) -> AcamUnit:
        windows = Windows.from_levels(codes[::-1], (0.0, 1.0), (0.0, 1.0), bits=bits)
        key = (*seed_path(seed), ord(name[0]))
        return acam.program(
            *windows.on_data_line(), windows.bit, bits, seed=(*key, copy) if copy else key,
            columns=UNITS, levels=codes.size, keep_conductances=True,
        )  # fmt: skip

    return (
        [unit("log", codes, model.bits, i) for i, codes in enumerate(logs)],
        [unit("exp", codes, model.out_bits, i) for i, codes in enumerate(exps)],
    )


def _mean(energy: ConversionEnergy, unit: AcamUnit, u: Floats) -> float:
    levels, counts = np.unique(u, return_counts=True)
    curves = [energy.column(unit, k, levels) for k in range(UNITS)]
    return float(np.average(np.mean(curves, axis=0), weights=counts))

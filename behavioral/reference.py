"""Columns solved in full by Newton's method from the cell table: slow, the bridge to SPICE."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.array import ProgrammedArray
from behavioral.crossbar import TILE_COLUMNS, CrossbarModel
from behavioral.kernels import newton
from behavioral.row_transfer import follow
from behavioral.row_wires import exact_laws
from circuits.errors import ParameterError, SimulationError

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]

TOLERANCE, ITERATIONS = 1e-9, 30  # of bit-line voltages, over v_read


def multiply(model: CrossbarModel, array: ProgrammedArray, x: ArrayLike) -> NDArray[np.float64]:
    """Return what `CrossbarModel.multiply` approximates; per-read noise is not drawn.

    Parameters
    ----------
    model : CrossbarModel
    array : ProgrammedArray
        Programmed with ``keep_devices=True``.
    x : (batch, rows) array
        Normalised row voltages.

    Returns
    -------
    (batch, cols) float array
        Normalised output currents.

    Raises
    ------
    ParameterError
        The array keeps no devices.
    """
    if array.devices is None:
        raise ParameterError("this array keeps no devices: program(..., keep_devices=True)")
    unit = model.v_read * model.span
    currents = [_solve(model, device, np.asarray(x, float)) / unit for device in array.devices]
    y = currents[0] - currents[1]
    if len(currents) == 4:
        scale = np.repeat(array.error_scale, TILE_COLUMNS)[: array.cols]
        y += (currents[2] - currents[3]) / scale
    return np.asarray(y)


def row_voltages(model: CrossbarModel, g: Float32, x: FloatArray) -> FloatArray:
    """Return what the row drivers of one array give.

    Parameters
    ----------
    model : CrossbarModel
    g : (rows, cols) array
        RRAM conductances [S] of an array of up to 256 columns.
    x : (samples, rows) array
        Normalised row voltages that are asked for.

    Returns
    -------
    (samples, rows) float array [V]
    """
    if model.row_transfer is None:
        return x * model.v_read
    levels = model.row_transfer.levels(model.cell.cell_conductance(g).sum(axis=1))
    row, _ = follow(np.asarray(x, np.float32), slice(0, len(g)), levels)
    return row.astype(float) * model.v_read


def _solve(model: CrossbarModel, g: Float32, x: FloatArray) -> FloatArray:
    """Return the currents (samples, cols) [A] of an array, or of several side by side."""
    answer = _solve_rows if model.wires.r_row else _solve_columns
    if model.row_transfer is None:
        return answer(model, g, x * model.v_read)
    parts = [g[:, lo : lo + TILE_COLUMNS] for lo in range(0, g.shape[1], TILE_COLUMNS)]
    found = [answer(model, part, row_voltages(model, part, x)) for part in parts]
    return np.concatenate(found, axis=1) if found else np.zeros((len(x), 0))


def _solve_columns(model: CrossbarModel, g: Float32, v: FloatArray) -> FloatArray:
    return solve(model, g.T, v)


def _solve_rows(model: CrossbarModel, g: Float32, v: FloatArray) -> FloatArray:
    """Return the currents (samples, cols) [A] of an array with resistive row lines."""
    parts, x = [], v / model.v_read
    for lo in range(0, g.shape[1], TILE_COLUMNS):
        some = g[:, lo : lo + TILE_COLUMNS]
        laws = exact_laws(model.cell, some, model.span)
        cells = (model.cell.cell_conductance(some) / model.span).astype(np.float32)
        parts.append(model.wires.outputs(laws, cells, x, model.rest))
    y = np.concatenate(parts, axis=1) if parts else np.zeros((len(v), 0))
    return np.asarray(y * (model.v_read * model.span) + model.cell.leakage(g).sum(axis=0))


def solve(model: CrossbarModel, g: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
    """Return the read-out currents of single columns.

    Parameters
    ----------
    model : CrossbarModel
    g : (columns, rows) array
        RRAM conductances [S].
    v : (samples, rows) array
        Row voltages relative to the virtual ground [V].

    Returns
    -------
    (samples, columns) float array
        Currents into the read-out [A]: what ``circuits.crossbar.replay`` measures.

    Raises
    ------
    ParameterError
        NaN or mismatched shapes.
    SimulationError
        The iteration did not converge.
    """
    cell = model.cell
    g = np.ascontiguousarray(g, dtype=np.float64)
    x = np.ascontiguousarray(np.asarray(v, float) / model.v_read)
    if g.ndim != 2 or x.ndim != 2 or g.shape[1] != x.shape[1]:
        raise ParameterError(f"conductances {g.shape} and voltages {x.shape} do not fit")
    if not (np.isfinite(g).all() and np.isfinite(x).all()):
        raise ParameterError("conductances and voltages must be finite")
    y, change = np.empty((x.shape[0], g.shape[0])), np.zeros(g.shape[0])
    wires = model.wires.r, model.wires.r_end, model.rest
    coef = cell.coef / model.span
    newton.newton(
        g, cell.ln_g, coef, cell.degree, *wires, x, TOLERANCE, ITERATIONS, y, change
    )  # fmt: skip
    if change.size and not change.max() < 1e-6:
        raise SimulationError(
            f"Newton iteration: bit lines still move by {change.max():.2g} v_read; are the "
            f"conductances within {cell.conductance_range} S and |v| <= {model.v_read} V?"
        )
    return np.asarray(y * (model.v_read * model.span) + cell.leakage(g).sum(axis=1))

"""Programming: from normalised weights to the conductances of main and error pairs.

Normalised as in :mod:`behavioral.crossbar`.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from behavioral.cell import ProgrammingTables
from behavioral.cell_mismatch import CellMismatch
from behavioral.drift import Drift
from behavioral.kernels import ladder
from behavioral.kernels import noise as kernels
from behavioral.noise import quantiles, stream_key
from behavioral.row_wires import Wires
from behavioral.wire_grid import node_resistance

Float32 = NDArray[np.float32]
Noise = Literal["none", "frozen", "per-read"]

PREDISTORTION_STEPS = 6
ROW_WIRE_TURNS = 3  # with resistive row lines: lines on their own, then twice beside the network


@dataclass(frozen=True)
class Job:
    """How one array is to be programmed.

    Attributes
    ----------
    seed : tuple of int
        Names the random streams.
    noise : "none", "frozen" or "per-read"
    slices : 1 or 2
    predistort : bool
        Choose conductances so that the effective matrix, wires included, is the target.
    gain : float32
        Mean gain of the non-linear cells.
    inverse : (float, (n,) float32 array) or None
        Conductances of even responses and the step of these: `Cell.inverse`. None: all cells have
        the mean gain.
    """

    seed: tuple[int, ...]
    noise: Noise
    slices: int
    predistort: bool
    gain: np.float32
    inverse: tuple[float, Float32] | None = None

    def conductance(self, response: Float32) -> Float32:
        """Return the conductances of cells that respond as wanted."""
        if self.inverse is None:
            return response / self.gain
        found, (step, table) = np.empty_like(response), self.inverse
        kernels.look_up(response.ravel(), step, table, found.reshape(-1))
        return found

    def response(self, conductance: float | np.float32) -> np.float32:
        """Return the response of one cell."""
        if self.inverse is None:
            return np.float32(conductance) * self.gain
        step, table = self.inverse
        return np.float32(np.interp(conductance, table, step * np.arange(table.size)))

    @property
    def of_error(self) -> "Job":
        """Return that of the error pair, whose cells count as ohmic: it weighs little."""
        return replace(self, inverse=None)


@dataclass(frozen=True)
class Written:
    """One array after programming; conductances normalised, ``device`` in S.

    The variance is that of every read; empty where read noise is not drawn per read.
    """

    device: Float32
    written: Float32
    read: Float32
    z: Float32
    variance: Float32


@dataclass(frozen=True)
class Group:
    """Columns that share one error-slice gain.

    Attributes
    ----------
    pair : (rows, cols) float32 arrays
        Cell conductances of the positive and negative main array.
    effective : (rows, cols) float32 array
        Ohmic matrix of all arrays.
    extra : (rows, cols) float32 array or None
        The share of the error pair in it.
    variance : (rows, cols) float32 array
        Per-read variance of the matrix; empty where read noise is not drawn per read.
    devices : (2 slices, rows, cols) float32 array [S]
    error_scale : float
    clipped : int
        Cells whose target lay above g_max.
    """

    pair: tuple[Float32, Float32]
    effective: Float32
    extra: Float32 | None
    variance: Float32
    devices: Float32
    error_scale: float
    clipped: int


@dataclass(frozen=True)
class Programmer:
    """Writes arrays of one device and technology.

    Attributes
    ----------
    tables : ProgrammingTables
        Conductance ratios and noise of the device.
    span : float
        Conductance unit [S].
    g_min : float32
        Smallest cell conductance, normalised.
    wires : Wires
        Wire resistances, normalised.
    stuck_off_rate : float
    drift : Drift
        Of what has been verified.
    mismatch : CellMismatch or None
        Of the access transistors; ``device`` does not show it.
    """

    tables: ProgrammingTables
    span: float
    g_min: np.float32
    wires: Wires
    stuck_off_rate: float
    drift: Drift
    mismatch: CellMismatch | None = None

    def transfer(self, g: Float32) -> Float32:
        """Return the share of each cell's current that reaches the read-out, (rows, cols)."""
        return self.wires.transfer(g)

    def targets(self, w: Float32, job: Job) -> tuple[Float32, Float32, int]:
        """Cell conductances of a pair whose effective matrix is w, within the reachable range."""
        low, top = self.g_min, self.g_min + np.float32(1.0)
        if job.predistort:
            low, top = job.response(self.g_min), job.response(self.g_min) + job.response(1.0)
        g_pos, g_neg = np.empty_like(w), np.empty_like(w)
        steps = PREDISTORTION_STEPS if job.predistort and not self.wires.r_row else 0
        clipped = ladder.predistort(
            w, low, top, self.wires.r, self.wires.r_end, steps, g_pos, g_neg
        )
        if self.wires.r_row and job.predistort:
            clipped = self._predistort_rows(w, low, top, g_pos, g_neg)
        if not job.predistort:
            return g_pos, g_neg, int(clipped)
        return job.conductance(g_pos), job.conductance(g_neg), int(clipped)

    def _predistort_rows(
        self, w: Float32, low: np.float32, top: np.float32, g_pos: Float32, g_neg: Float32
    ) -> int:
        """Do the same with resistive row lines: the network seldom, single lines in between."""
        wires, clipped = self.wires, 0
        beyond = [np.ones_like(g_pos), np.ones_like(g_neg)]
        for turn in range(ROW_WIRE_TURNS):
            if turn:
                beyond = [wires.transfer(g) / wires.ladders(g) for g in (g_pos, g_neg)]
            for _ in range(PREDISTORTION_STEPS):
                z_pos, z_neg = wires.ladders(g_pos) * beyond[0], wires.ladders(g_neg) * beyond[1]
                clipped = ladder.retarget(w, low, top, z_pos, z_neg, g_pos, g_neg)
        return clipped

    def write(self, g: Float32, label: str, column: int, job: Job) -> Written:
        """Write one array to its target cell conductances."""
        tables, quiet = self.tables, job.noise == "none"
        names = [f"{what}/{label}" for what in ("write", "read", "stuck", "drift")]
        keys = np.array([stream_key(job.seed, name) for name in names], np.uint64)
        device, written, read = (np.empty_like(g) for _ in range(3))
        deviation = np.empty(g.shape if job.noise == "per-read" else (0, 0), np.float32)
        with np.errstate(over="ignore"):  # 64-bit wrap-around is meant
            kernels.write(
                g,
                self.span,
                tables.to_rram,
                tables.to_cell,
                tables.steps,
                tables.sigma_write * (not quiet),
                tables.sigma_read * (not quiet),
                np.array([self.drift.shift, self.drift.spread], np.float32) * (not quiet),
                quantiles(),
                keys,
                0.0 if quiet else self.stuck_off_rate,
                column,
                job.noise == "frozen",
                tables.lowest,
                tables.highest,
                device,
                written,
                read,
                deviation,
            )
        if self.mismatch is not None:
            factor = self.mismatch.factors(written, job.seed, label, column)
            read *= factor
            if deviation.size:
                deviation *= factor
        z = self.transfer(read * job.gain)
        if job.noise != "per-read":
            return Written(device, written, read, z, deviation)
        if g.size:  # a cell's own current lifts its bit line
            mean = read.mean(axis=1, keepdims=True) * job.gain
            own = node_resistance(mean, self.wires.r, self.wires.r_end).astype(np.float32)
            deviation *= 1.0 - own * read * job.gain
        return Written(device, written, read, z, (z * deviation * job.gain) ** 2)

    def program(self, w: Float32, lo: int, job: Job) -> Group:
        """Program columns that share one error-slice gain; the first of them is column lo."""
        target_pos, target_neg, clipped = self.targets(w, job)
        pos = self.write(target_pos, "main+", lo, job)
        neg = self.write(target_neg, "main-", lo, job)
        pair = (pos.read, neg.read)
        effective = (pos.read * pos.z - neg.read * neg.z) * job.gain
        if job.slices == 1:
            devices = np.stack([pos.device, neg.device])
            variance = pos.variance + neg.variance
            return Group(pair, effective, None, variance, devices, 1.0, clipped)
        weight_pos, weight_neg = (pos.z, neg.z) if job.predistort else (1.0, 1.0)
        error = (pos.written - target_pos) * weight_pos - (neg.written - target_neg) * weight_neg
        largest = float(np.abs(error).max(initial=0.0))
        scale = np.float32(1.0 / largest if largest > 0.0 else 1.0 / self.g_min)
        error_pos, error_neg, more = self.targets(np.clip(-error * scale, -1.0, 1.0), job.of_error)
        extra_pos = self.write(error_pos, "error+", lo, job)
        extra_neg = self.write(error_neg, "error-", lo, job)
        extra = (extra_pos.read * extra_pos.z - extra_neg.read * extra_neg.z) * job.gain / scale
        variance = pos.variance + neg.variance
        variance += (extra_pos.variance + extra_neg.variance) / scale**2
        devices = np.stack([pos.device, neg.device, extra_pos.device, extra_neg.device])
        return Group(
            pair, effective + extra, extra, variance, devices, float(scale), clipped + more
        )

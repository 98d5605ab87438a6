"""CrossbarModel: programs weights into conductances; :mod:`behavioral.reading` multiplies.

Units are normalised as in ``docs/architecture.md`` section 1: voltages over ``v_read``, cell
conductances over ``span = g_max - g_min``, currents over their product; ideally ``y = x @ w``.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.array import ProgrammedArray
from behavioral.cell import Cell
from behavioral.cell_mismatch import CellMismatch
from behavioral.correction import Correction, no_correction
from behavioral.correction_fit import KINDS, Kind, fit
from behavioral.drift import Drift
from behavioral.first_order import gain_per_alpha, mean_gain, squared_share
from behavioral.kernels import dac
from behavioral.noise import NoiseLaw, generator, seed_path
from behavioral.programming import Group, Job, Noise, Programmer
from behavioral.reading import ArrayReader, Policy
from behavioral.readout_offset import ReadoutOffset
from behavioral.row_transfer import RowTransfer, follow
from behavioral.row_wires import Wires
from behavioral.spread import Spread
from circuits.errors import ParameterError

if TYPE_CHECKING:
    from behavioral.library import Library

Float32 = NDArray[np.float32]

TILE_COLUMNS = 256  # columns that share one error-slice gain k
FIT_SAMPLES = 48


class CrossbarModel(ArrayReader):
    """Crossbar of one characterised technology and device.

    Parameters
    ----------
    library : Library
        Or any object with ``device``, ``technology``, ``crossbar`` and ``readout``.
    noise_scale : float
        Multiplies the standard deviations of the device card (0.5x to 2x sweeps).
    policy : "clip" or "error"
        What inputs outside [-1, 1] do: drive the rail and count, or raise.

    Attributes
    ----------
    g_min, g_max : float
        Range of *cell* conductance that weights map to [S].
    rest : float
        Virtual ground of the read-out relative to v_cm, over v_read: amplifiers have finite gain.
    clipped_inputs : int
        Inputs clipped so far.
    wires : Wires
        Resistances between two cells of a row and of a bit line, and from the last cell to the
        virtual ground, times span.
    row_transfer : RowTransfer or None
        What row drivers give; None: what is asked for.
    """

    def __init__(
        self,
        library: "Library",
        *,
        noise_scale: float = 1.0,
        policy: Policy = "clip",
    ) -> None:
        device, column = library.device, library.technology.column
        self.cell = Cell(library.crossbar, column.v_read_v)
        self.max_rows = column.rows
        self.v_read = column.v_read_v
        self.g_min, self.g_max = device.g_min_s, device.g_max_s
        self.span = self.g_max - self.g_min
        self.r_wire = column.r_wire_ohm_per_cell
        self.r_row_wire = column.r_row_wire_ohm_per_cell
        self.r_end = self.r_wire + library.readout.r_input_ohm
        # gain A: the virtual ground lies v_cm/(A + 1) low, and r_input = (R_f + R_out)/(A + 1)
        readout = library.technology.readout
        ratio = library.readout.r_input_ohm / (readout.r_feedback_ohm + readout.r_output_ohm)
        rest = float(-column.v_cm_v * ratio / column.v_read_v)
        if np.size(library.readout.amplifier_offset_v):  # a transistor-level stage: measured
            rest = float(library.readout.amplifier_offset_v[0] / column.v_read_v)
        super().__init__(rest, policy)
        self.stuck_off_rate = device.stuck_off_rate
        self.drift = Drift.of(device)
        self.write_law = NoiseLaw.write(device).scaled(noise_scale)
        self.read_law = NoiseLaw.read(device).scaled(noise_scale)
        data = library.row_transfer
        self.row_transfer = None if data is None else RowTransfer(data, self.v_read)
        self.mismatch = CellMismatch.of(library, self.cell, self.span)
        self.readout_offset = ReadoutOffset.of(library, self.v_read, self.span)
        self._levels = self.cell.levels()
        self._pulses = library.technology.driver.circuit == "pulses"
        self._check()

    def _check(self) -> None:
        top = self.cell.conductance_range[1]
        if self.g_max > top:
            raise ParameterError(
                f"g_max {self.g_max:.4g} S is above the largest cell conductance {top:.4g} S of "
                "the library (RRAM and access transistor in series); lower g_max_s, widen "
                "column.w_access_m, or characterise again: nldpe characterize --out FILE.h5"
            )
        lines = (
            ("r_wire_ohm_per_cell", self.r_wire, "column", self.max_rows),
            ("r_row_wire_ohm_per_cell", self.r_row_wire, "row", TILE_COLUMNS),
        )
        for key, ohms, line, cells in lines:
            if cells * math.sqrt(ohms * self.g_max) > 150.0:
                raise ParameterError(
                    f"{key} {ohms:.4g} ohm: a {line} of {cells} cells of {self.g_max:.4g} S passes "
                    "no current from its far end; lower one of them"
                )
        self.wires = Wires(*(x * self.span for x in (self.r_row_wire, self.r_wire, self.r_end)))
        tables = self.cell.programming_tables(self.write_law, self.read_law)
        low = np.float32(self.g_min / self.span)
        self.programmer = Programmer(
            tables, self.span, low, self.wires, self.stuck_off_rate, self.drift, self.mismatch
        )

    def program(
        self,
        w: ArrayLike,
        *,
        seed: int | tuple[int, ...] = 0,
        noise: Noise = "frozen",
        slices: int = 2,
        predistort: bool = True,
        linearize: bool = False,
        correction: Kind = "auto",
        inputs: ArrayLike | None = None,
        tiles: int = 1,
        keep_devices: bool = False,
    ) -> ProgrammedArray:
        """Program weights: conductances, noise, effective matrix, correction.

        Parameters
        ----------
        w : (rows, cols) array
            Normalised weights in [-1, 1]; at most ``technology.column.rows`` rows.
        seed : int or tuple of int
            For example ``(seed, chip, layer, tile)``; names the random streams.
        noise : "none", "frozen" or "per-read"
            Read noise: frozen into the devices, or drawn at every product. "none" switches
            programming noise and stuck devices off too.
        slices : 1 or 2
            2 adds the error pair of analog slicing.
        predistort : bool
            Choose conductances so that the effective matrix, wires included, is the target.
        linearize : bool
            Rows will be driven by `levels` of what is to be multiplied; with `predistort` every
            cell counts with its own gain at those, not with that of the mean cell.
        correction : "none", "pointwise", "fitted", "fine" or "auto"
            How the non-linearity of the cells enters: not at all; each input bent on its own, and
            per-column terms; bent at the mean bit-line profile; with a second product in addition.
            "auto": the cheapest that a few columns find good enough.
        inputs : (samples, rows) array, optional
            Typical inputs to fit the correction on; default: random bipolar and sparse unipolar.
        tiles : int
            Arrays whose outputs are added up, this among them: `behavioral.spread`; 0: exact noise.
        keep_devices : bool
            Keep the RRAM conductances (validation, `behavioral.reference`).

        Raises
        ------
        ParameterError
            Too many rows, weights outside [-1, 1] or NaN, unknown option.
        """
        weights = self._check_weights(w, noise, slices)
        x = self._check_inputs(inputs, weights.shape[0], correction)
        gain, more, inverse = np.float32(1.0), 0, None
        if self.row_transfer is not None and predistort:
            arrays = max(1, math.ceil(weights.shape[1] / TILE_COLUMNS))
            weights, more = self.row_transfer.raised(weights, arrays, self.g_min, self.span)
        if linearize and self._pulses:
            raise ParameterError(
                "linearize chooses levels of row voltages, but driver.circuit 'pulses' drives rows "
                "at full swing, bit by bit; leave it out, or take driver.circuit 'ideal' or "
                "'string'"
            )
        if linearize:
            inverse = self.cell.inverse(gain_per_alpha(self.cell, x.astype(float)), self.span)
        elif correction != "none":
            gain += np.float32(mean_gain(self.cell, x.astype(float))[0])
        job = Job(seed_path(seed), noise, slices, predistort, gain, inverse)
        groups = [
            self.programmer.program(
                np.ascontiguousarray(weights[:, lo : lo + TILE_COLUMNS]), lo, job
            )
            for lo in range(0, weights.shape[1], TILE_COLUMNS)
        ]
        levels = extra = None
        if self.row_transfer is not None and groups:
            levels, extra = self.row_transfer.program(groups, self.programmer, gain)
            x = follow(x, slice(0, x.shape[1]), levels)[0]
        devices = [group.devices for group in groups] or [np.zeros((0, *weights.shape), np.float32)]
        return ProgrammedArray(
            correction=self._correct(groups, weights, x, correction, extra),
            spread=self._spread(groups, weights, x, tiles) if noise == "per-read" else None,
            devices=np.concatenate(devices, axis=2) if keep_devices else None,
            error_scale=np.array([group.error_scale for group in groups if slices == 2]),
            clipped=sum(group.clipped for group in groups) + more,
            noise=noise,
            levels=levels,
            offset=self._offsets(groups, job),
        )

    def _offsets(self, groups: list[Group], job: Job) -> Float32 | None:
        """Return what the transimpedance stages add to all columns, if their offsets are drawn."""
        if self.readout_offset is None:
            return None
        parts, gain = [np.zeros(0, np.float32)], job.gain
        for group in groups:
            column = sum(part.size for part in parts)
            parts.append(
                self.readout_offset.of_stages(group, self.programmer, gain, job.seed, column)
            )
        return np.concatenate(parts)

    def _check_weights(self, w: ArrayLike, noise: str, slices: int) -> Float32:
        weights = np.ascontiguousarray(w, dtype=np.float32)
        if weights.ndim != 2:
            raise ParameterError(f"weights have {weights.ndim} dimensions, must have 2")
        if weights.shape[0] > self.max_rows:
            raise ParameterError(
                f"{weights.shape[0]} rows of weights, a column has {self.max_rows}: split the "
                "layer into tiles"
            )
        if weights.size and not np.abs(weights).max() <= 1.0:
            raise ParameterError("weights must lie in [-1, 1] and not be NaN: divide by max |w|")
        if noise not in ("none", "frozen", "per-read"):
            raise ParameterError(f"noise {noise!r} is not 'none', 'frozen' or 'per-read'")
        if slices not in (1, 2):
            raise ParameterError(f"slices {slices} must be 1 (main only) or 2 (main and error)")
        return weights

    def _spread(self, groups: list[Group], weights: Float32, x: Float32, tiles: int) -> Spread:
        """Return the noise of the matrix for row voltages, of which bit lines take a share."""
        parts, drive = [], x - np.float32(self.rest)
        for group in groups:
            g = np.mean([array.mean(axis=1, dtype=float) for array in group.pair], axis=0)
            share = squared_share(g, drive, self.wires.r, self.wires.r_end)
            parts.append(group.variance * share[:, None])
        variance = np.concatenate(parts, axis=1) if parts else np.zeros_like(weights)
        return Spread.of(variance, drive, tiles)

    def _check_inputs(self, inputs: ArrayLike | None, rows: int, correction: str) -> Float32:
        if correction not in KINDS:
            raise ParameterError(f"correction {correction!r}; permitted: {', '.join(KINDS)}")
        x = typical_inputs(rows) if inputs is None else np.array(inputs, np.float32, order="C")
        if x.ndim != 2 or x.shape[1] != rows or not np.isfinite(x).all():
            raise ParameterError(f"inputs {x.shape} must be (samples, {rows}) and finite")
        return np.clip(x, -1.0, 1.0)

    def _correct(
        self,
        groups: list[Group],
        weights: Float32,
        x: Float32,
        kind: Kind,
        extra: Float32 | None,
    ) -> Correction:
        """Fit the correction to the main pairs; the error pairs are ohmic (they weigh 1/k)."""
        if kind == "none" or weights.size == 0:
            parts = [group.effective for group in groups]
            matrix = np.concatenate(parts, axis=1) if parts else np.zeros_like(weights)
            return no_correction(matrix if extra is None else matrix + extra)
        found = fit(
            self.cell,
            self.span,
            [group.pair for group in groups],
            x,
            self.wires,
            rest=self.rest,
            kind=kind,
        )
        lo = 0
        for group in groups:
            hi = lo + group.effective.shape[1]
            if group.extra is not None:
                found.matrix[: weights.shape[0], lo:hi] += group.extra
            lo = hi
        if extra is not None:
            found.matrix[: weights.shape[0]] += extra
        return found

    def levels(self, x: ArrayLike) -> Float32:
        """Return the row voltages, normalised, at which the mean cell's current is x.

        Those of a DAC with uneven steps; x (...) in [-1, 1], and what lies beyond is clipped.
        """
        even = np.ascontiguousarray(x, np.float32)
        out = np.empty_like(even)
        dac.place(even.reshape(-1), self._levels, out.reshape(-1))
        return out


def typical_inputs(rows: int, samples: int = FIT_SAMPLES) -> Float32:
    """Inputs the correction is fitted on by default: half bipolar, half sparse and unipolar.

    Amplitudes vary between samples, because activations do.
    """
    rng = generator(0, "typical inputs")
    x = rng.normal(size=(samples, rows)) * rng.uniform(0.15, 0.5, size=(samples, 1))
    x[1::2] = np.maximum(x[1::2], 0.0)
    x[3::4] = rng.uniform(0, 1, size=x[3::4].shape) * rng.uniform(0.3, 1, (x[3::4].shape[0], 1))
    return np.clip(x, -1.0, 1.0).astype(np.float32)

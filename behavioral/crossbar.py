"""CrossbarModel: programs weights into conductances and multiplies as the circuit does.

Units are normalised as in ``docs/architecture.md`` section 1: voltages over ``v_read``, cell
conductances over ``span = g_max - g_min``, currents over their product; ideally ``y = x @ w``.
"""

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.cell import Cell
from behavioral.correction import Correction, fit, mean_gain, no_correction
from behavioral.kernels import crossbar as kernels
from behavioral.noise import NoiseLaw, generator, seed_path, stream_key
from circuits.errors import ParameterError, SimulationError, TableRangeError

if TYPE_CHECKING:
    from behavioral.library import Library

Float32 = NDArray[np.float32]
Noise = Literal["none", "frozen", "per-read"]

TILE_COLUMNS = 256  # columns that share one error-slice gain k
FIT_SAMPLES = 48
PREDISTORTION_STEPS = 6
PARALLEL_FROM = 32768  # outputs below which starting threads costs more than it brings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgrammedArray:
    """One programmed tile (or a row of tiles): everything a product needs.

    Attributes
    ----------
    matrix : (rows or 2 rows, cols) float32 array
        Effective matrix of the four arrays, read-out and wires included; below it the matrix of
        the second product, with correction "fine".
    terms : (4, cols) float32 array
        Correction: y (c0 + c1 q) + s (c2 + c3 q), q mean square cell voltage, s common mode.
    probe : (rows, BASIS + 1) float32 array
        Amplitudes of the mean bit-line profile, and the common-mode current.
    basis : (BASIS, rows) float32 array
        Shapes of the mean bit-line profile.
    laws : (parts, degree + 1, degree + 1) float32 array
        Non-linearity of the mean cell (and of its neighbours), powers of u down, of v across.
    variance : (rows, cols) float32 array or None
        Per-read variance of the effective matrix.
    devices : (2 slices, rows, cols) float32 array or None
        RRAM conductances [S] of main +, main -, error +, error -; kept on request.
    error_scale : (groups,) float array
        k of each group of 256 columns; empty without error slice.
    clipped : int
        Cells whose target lay above g_max.
    error_rms : float
        Residual of the correction on its own fit samples, in LSB of 8 bits over the output range.
    noise : "none", "frozen" or "per-read"
    """

    matrix: Float32
    terms: Float32
    probe: Float32
    basis: Float32
    laws: Float32
    variance: Float32 | None
    devices: Float32 | None
    error_scale: NDArray[np.float64]
    clipped: int
    error_rms: float
    noise: Noise

    @property
    def rows(self) -> int:
        """Rows in use."""
        return int(self.probe.shape[0])

    @property
    def cols(self) -> int:
        """Columns (outputs)."""
        return int(self.matrix.shape[1])

    @property
    def effective(self) -> Float32:
        """Effective matrix (rows, cols), a view: ``y`` is ``x @ effective`` but for corrections."""
        return self.matrix[: self.rows]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays a product needs."""
        parts = (self.matrix, self.terms, self.probe, self.basis, self.laws)
        return sum(a.nbytes for a in parts) + (
            self.variance.nbytes if self.variance is not None else 0
        )


@dataclass(frozen=True)
class _Written:
    """One array after programming; conductances normalised, ``device`` in S."""

    device: Float32
    written: Float32
    read: Float32
    z: Float32
    variance: Float32


@dataclass(frozen=True)
class _Group:
    """Columns that share one error-slice gain."""

    effective: Float32
    variance: Float32
    devices: Float32
    error_scale: float
    clipped: int
    pair: tuple[Float32, Float32]
    extra: Float32 | None = None


@dataclass(frozen=True)
class _Job:
    """How one array is to be programmed."""

    seed: tuple[int, ...]
    noise: Noise
    slices: int
    predistort: bool
    gain: np.float32


class CrossbarModel:
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
    """

    def __init__(
        self,
        library: "Library",
        *,
        noise_scale: float = 1.0,
        policy: Literal["clip", "error"] = "clip",
    ) -> None:
        device, column = library.device, library.technology.column
        self.cell = Cell(library.crossbar, column.v_read_v)
        self.max_rows = column.rows
        self.v_read = column.v_read_v
        self.g_min, self.g_max = device.g_min_s, device.g_max_s
        self.span = self.g_max - self.g_min
        self.r_wire = column.r_wire_ohm_per_cell
        self.r_end = self.r_wire + library.readout.r_input_ohm
        # gain A: the virtual ground lies v_cm/(A + 1) low, and r_input = (R_f + R_out)/(A + 1)
        readout = library.technology.readout
        ratio = library.readout.r_input_ohm / (readout.r_feedback_ohm + readout.r_output_ohm)
        self.rest = float(-column.v_cm_v * ratio / column.v_read_v)
        self.stuck_off_rate = device.stuck_off_rate
        self.write_law = NoiseLaw.write(device).scaled(noise_scale)
        self.read_law = NoiseLaw.read(device).scaled(noise_scale)
        self.policy = policy
        self.clipped_inputs = 0
        self._check()

    def _check(self) -> None:
        top = self.cell.conductance_range[1]
        if self.g_max > top:
            raise ParameterError(
                f"g_max {self.g_max:.4g} S is above the largest cell conductance {top:.4g} S of "
                "the library (RRAM and access transistor in series); lower g_max_s, widen "
                "column.w_access_m, or characterise again: nldpe characterize --out FILE.h5"
            )
        if self.max_rows * math.sqrt(self.r_wire * self.g_max) > 150.0:
            raise ParameterError(
                f"r_wire_ohm_per_cell {self.r_wire:.4g} ohm: a column of {self.max_rows} cells of "
                f"{self.g_max:.4g} S passes no current from its far end; lower one of them"
            )
        self._g_min = np.float32(self.g_min / self.span)
        self._r = self.r_wire * self.span
        self._r_end = self.r_end * self.span
        self._cells = self.cell.programming_tables(self.write_law, self.read_law)

    def program(
        self,
        w: ArrayLike,
        *,
        seed: int | tuple[int, ...] = 0,
        noise: Noise = "frozen",
        slices: int = 2,
        predistort: bool = True,
        correction: Literal["none", "fitted", "fine"] = "fitted",
        inputs: ArrayLike | None = None,
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
        correction : "none", "fitted" or "fine"
            How the non-linearity of the cells enters: not at all; by a function of the inputs and
            per-column terms; with a second product in addition.
        inputs : (samples, rows) array, optional
            Typical inputs to fit the correction on; default: random bipolar and sparse unipolar.
        keep_devices : bool
            Keep the RRAM conductances (validation, :meth:`multiply_newton`).

        Raises
        ------
        ParameterError
            Too many rows, weights outside [-1, 1] or NaN, unknown option.
        """
        weights = self._check_weights(w, noise, slices)
        x = self._check_inputs(inputs, weights.shape[0], correction)
        gain = np.float32(1.0)
        if correction != "none":
            gain += np.float32(mean_gain(self.cell, x.astype(float))[0])
        job = _Job(seed_path(seed), noise, slices, predistort, gain)
        groups = [
            self._program_group(weights, lo, job) for lo in range(0, weights.shape[1], TILE_COLUMNS)
        ]
        found = self._correct(groups, weights, x, correction)
        variance = [group.variance for group in groups] or [np.zeros_like(weights)]
        devices = [group.devices for group in groups] or [np.zeros((0, *weights.shape), np.float32)]
        return ProgrammedArray(
            matrix=found.matrix,
            terms=found.terms,
            probe=found.probe,
            basis=found.basis,
            laws=found.laws,
            variance=np.concatenate(variance, axis=1) if noise == "per-read" else None,
            devices=np.concatenate(devices, axis=2) if keep_devices else None,
            error_scale=np.array([group.error_scale for group in groups if slices == 2]),
            clipped=sum(group.clipped for group in groups),
            error_rms=found.rms,
            noise=noise,
        )

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

    def _check_inputs(self, inputs: ArrayLike | None, rows: int, correction: str) -> Float32:
        if correction not in ("none", "fitted", "fine"):
            raise ParameterError(f"correction {correction!r} is not 'none', 'fitted' or 'fine'")
        x = typical_inputs(rows) if inputs is None else np.array(inputs, np.float32, order="C")
        if x.ndim != 2 or x.shape[1] != rows or not np.isfinite(x).all():
            raise ParameterError(f"inputs {x.shape} must be (samples, {rows}) and finite")
        return np.clip(x, -1.0, 1.0)

    def _transfer(self, g: Float32) -> Float32:
        out = np.empty_like(g)
        kernels.transfer_profile(g, self._r, self._r_end, out)
        return out

    def _targets(self, w: Float32, job: _Job) -> tuple[Float32, Float32, int]:
        """Cell conductances of a pair whose effective matrix is w, within the reachable range."""
        gain = job.gain if job.predistort else np.float32(1.0)
        low = self._g_min * gain
        top = low + gain
        g_pos, g_neg = np.empty_like(w), np.empty_like(w)
        z_pos = z_neg = np.ones_like(w)
        clipped = kernels.retarget(w, low, top, z_pos, z_neg, g_pos, g_neg)
        for _ in range(PREDISTORTION_STEPS if job.predistort else 0):
            z_pos, z_neg = self._transfer(g_pos), self._transfer(g_neg)
            clipped = kernels.retarget(w, low, top, z_pos, z_neg, g_pos, g_neg)
        return g_pos / gain, g_neg / gain, int(clipped)

    def _write(self, g: Float32, label: str, column: int, job: _Job) -> _Written:
        """Write one array to its target cell conductances."""
        tables, quiet = self._cells, job.noise == "none"
        names = [f"{what}/{label}" for what in ("write", "read", "stuck")]
        keys = np.array([stream_key(job.seed, name) for name in names], np.uint64)
        device, written, read, deviation = (np.empty_like(g) for _ in range(4))
        with np.errstate(over="ignore"):  # 64-bit wrap-around is meant
            kernels.write(
                g,
                self.span,
                tables.to_rram,
                tables.to_cell,
                tables.steps,
                tables.sigma_write * (not quiet),
                tables.sigma_read * (not quiet),
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
        z = self._transfer(read * job.gain)
        return _Written(device, written, read, z, (z * deviation * job.gain) ** 2)

    def _program_group(self, weights: Float32, lo: int, job: _Job) -> _Group:
        """Program the columns that share one error-slice gain."""
        w = np.ascontiguousarray(weights[:, lo : lo + TILE_COLUMNS])
        target_pos, target_neg, clipped = self._targets(w, job)
        pos = self._write(target_pos, "main+", lo, job)
        neg = self._write(target_neg, "main-", lo, job)
        pair = (pos.read, neg.read)
        effective = (pos.read * pos.z - neg.read * neg.z) * job.gain
        if job.slices == 1:
            devices = np.stack([pos.device, neg.device])
            return _Group(effective, pos.variance + neg.variance, devices, 1.0, clipped, pair)
        weight_pos, weight_neg = (pos.z, neg.z) if job.predistort else (1.0, 1.0)
        error = (pos.written - target_pos) * weight_pos - (neg.written - target_neg) * weight_neg
        largest = float(np.abs(error).max(initial=0.0))
        scale = np.float32(1.0 / largest if largest > 0.0 else self.span / self.g_min)
        error_pos, error_neg, more = self._targets(np.clip(-error * scale, -1.0, 1.0), job)
        extra_pos = self._write(error_pos, "error+", lo, job)
        extra_neg = self._write(error_neg, "error-", lo, job)
        extra = (extra_pos.read * extra_pos.z - extra_neg.read * extra_neg.z) * job.gain / scale
        variance = pos.variance + neg.variance
        variance += (extra_pos.variance + extra_neg.variance) / scale**2
        devices = np.stack([pos.device, neg.device, extra_pos.device, extra_neg.device])
        return _Group(
            effective + extra, variance, devices, float(scale), clipped + more, pair, extra
        )

    def _correct(
        self, groups: list[_Group], weights: Float32, x: Float32, correction: str
    ) -> Correction:
        """Fit the correction to the main pairs; the error pairs are ohmic (they weigh 1/k)."""
        if correction == "none" or weights.size == 0:
            parts = [group.effective for group in groups]
            matrix = np.concatenate(parts, axis=1) if parts else np.zeros_like(weights)
            return no_correction(matrix, self.cell.degree)
        found = fit(
            self.cell,
            self.span,
            [group.pair for group in groups],
            x,
            self._r,
            self._r_end,
            rest=self.rest,
            fine=correction == "fine",
        )
        lo = 0
        for group in groups:
            hi = lo + group.effective.shape[1]
            if group.extra is not None:
                found.matrix[: weights.shape[0], lo:hi] += group.extra
            lo = hi
        return found

    def multiply(
        self,
        array: ProgrammedArray,
        x: ArrayLike,
        *,
        seed: int | tuple[int, ...] = 0,
        first_sample: int = 0,
    ) -> Float32:
        """Product of inputs with a programmed array, as the circuit gives it.

        Parameters
        ----------
        array : ProgrammedArray
        x : (batch, rows) array
            Normalised row voltages in [-1, 1].
        seed : int or tuple of int
            Stream of the per-read noise.
        first_sample : int
            Number of the first sample in that stream: results do not depend on how samples are
            split into batches.

        Returns
        -------
        (batch, cols) float32 array
            Normalised output currents.

        Raises
        ------
        ParameterError
            Wrong shape or NaN.
        TableRangeError
            Inputs outside [-1, 1] while the policy is "error".
        """
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != array.rows:
            raise ParameterError(f"inputs {x.shape} must be (batch, {array.rows})")
        parallel = x.shape[0] * array.cols >= PARALLEL_FROM
        amplitude = x @ array.probe
        driven = np.empty((x.shape[0], array.matrix.shape[0]), np.float32)
        square = np.empty((x.shape[0], 0 if array.variance is None else array.rows), np.float32)
        power = np.empty(x.shape[0], np.float32)
        linearize = kernels.linearize_parallel if parallel else kernels.linearize
        rest = np.float32(self.rest)
        outside = linearize(x, rest, amplitude, array.basis, array.laws, driven, square, power)
        self._count(outside, x)
        y = driven @ array.matrix
        correct = kernels.correct_parallel if parallel else kernels.correct
        correct(y, power, np.ascontiguousarray(amplitude[:, -1]), array.terms)
        if array.variance is not None:
            variance = square @ array.variance
            key = stream_key(seed, "read")
            add_noise = kernels.add_noise_parallel if parallel else kernels.add_noise
            with np.errstate(over="ignore"):  # 64-bit wrap-around is meant
                add_noise(y, variance, key, np.uint64(first_sample))
        return y

    def _count(self, outside: int, x: Float32) -> None:
        if outside < 0:
            raise ParameterError("inputs hold NaN")
        if outside and self.policy == "error":
            raise TableRangeError(
                f"{outside} inputs leave [-1, 1] (largest {np.abs(x).max():.4g}); scale them, or "
                "use policy='clip'"
            )
        self.clipped_inputs += outside

    def multiply_newton(self, array: ProgrammedArray, x: ArrayLike) -> NDArray[np.float64]:
        """Full non-linear solve of every column: slow, the bridge to SPICE.

        Needs ``keep_devices=True`` at programming; per-read noise is not drawn.

        Returns
        -------
        (batch, cols) float array
            Normalised output currents.
        """
        if array.devices is None:
            raise ParameterError("this array keeps no devices: program(..., keep_devices=True)")
        currents = [
            self.solve(device.T, np.asarray(x, float) * self.v_read) for device in array.devices
        ]
        y = (currents[0] - currents[1]) / (self.v_read * self.span)
        if len(currents) == 4:
            scale = np.repeat(array.error_scale, TILE_COLUMNS)[: array.cols]
            y += (currents[2] - currents[3]) / (self.v_read * self.span) / scale
        return np.asarray(y)

    def solve(self, g: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
        """Read-out currents of single columns by Newton's method from the cell table.

        Parameters
        ----------
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
        g = np.ascontiguousarray(g, dtype=np.float64)
        x = np.ascontiguousarray(np.asarray(v, float) / self.v_read)
        if g.ndim != 2 or x.ndim != 2 or g.shape[1] != x.shape[1]:
            raise ParameterError(f"conductances {g.shape} and voltages {x.shape} do not fit")
        if not (np.isfinite(g).all() and np.isfinite(x).all()):
            raise ParameterError("conductances and voltages must be finite")
        y, change = np.empty((x.shape[0], g.shape[0])), np.zeros(g.shape[0])
        coef = self.cell.coef / self.span
        cell = self.cell
        wires = (self._r, self._r_end, self.rest)
        kernels.newton(g, cell.ln_g, coef, cell.degree, *wires, x, 1e-9, 30, y, change)
        if change.size and not change.max() < 1e-6:
            raise SimulationError(
                f"Newton iteration: bit lines still move by {change.max():.2g} v_read; are the "
                f"conductances within {cell.conductance_range} S and |v| <= {self.v_read} V?"
            )
        return y * (self.v_read * self.span)


def typical_inputs(rows: int, samples: int = FIT_SAMPLES) -> Float32:
    """Inputs the correction is fitted on by default: half bipolar, half sparse and unipolar.

    Amplitudes vary between samples, because activations do.
    """
    rng = generator(0, "typical inputs")
    x = rng.normal(size=(samples, rows)) * rng.uniform(0.15, 0.5, size=(samples, 1))
    x[1::2] = np.maximum(x[1::2], 0.0)
    x[3::4] = rng.uniform(0, 1, size=x[3::4].shape) * rng.uniform(0.3, 1, (x[3::4].shape[0], 1))
    return np.clip(x, -1.0, 1.0).astype(np.float32)

"""Data-dependent products and softmax by log, add and exp, on the codes of noisy ACAM units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.acam import AcamModel, Seed
from behavioral.kernels import products as kernels
from behavioral.log_units import (
    Placed,
    ProductFunctions,
    as_exact,
    attenuations,
    signed,
    unit_tables,
)
from behavioral.noise import seed_path
from circuits.errors import ParameterError

SingleArray = NDArray[np.float32]
CodeArray = NDArray[np.uint16]

_SERIAL_BELOW = 1 << 16  # look-ups that one thread finishes before others would wake up


@dataclass(frozen=True)
class LogCodes:
    """Signed values as packed log codes; the last axis is the one a product sums over.

    Parameters
    ----------
    code : (..., rows, k) uint16 array
        Attenuation below the row's scale in log steps, plus the section size if negative. See
        `behavioral.kernels.products`.
    scale : (..., rows) float32 array
        Magnitude of attenuation 0 in each row.
    clipped : int
        Values beyond the ceiling when encoding.
    """

    code: CodeArray
    scale: SingleArray
    clipped: int = 0

    def __getitem__(self, key: Any) -> LogCodes:
        """Index leading axes (not the last) of codes and scales together."""
        return LogCodes(self.code[key], self.scale[key])


@dataclass(frozen=True)
class ProductModel:
    """Log and exp ACAM units as tables over DAC codes. Build with `program`.

    A product ``a * b`` runs in these steps:

    1. sign and magnitude; the magnitude over its ceiling is a linear DAC code of ``in_bits``
       (code 0 is recognised digitally as zero);
    2. a log unit turns it into a log code of ``bits``, kept here as an *attenuation*: the number
       of steps ``delta`` below the maximum. Log code 0 is reserved for zero and whatever lies
       below all others. Parallel units may make the code ``finer`` than one of them does;
    3. digital addition of two attenuations, or zero if one of them is zero;
    4. a DAC and an exp unit turn the sum into a linear code of ``out_bits``; attenuations beyond
       the DAC's range are zero;
    5. digital sum with signs, times the scales of the two rows.

    Both conversions see DAC levels only, so each unit is a table, its noisy thresholds inside.
    Windows are placed midway between DAC levels. The log step is ``ln 2 / steps_per_octave``, so
    that powers of two are exact shifts; 31 steps at 8 bits reach 5.7 nepers, a little more than
    the range of an 8-bit linear code (our choice; UNKNOWN in the paper). The log units' data line
    is inverted (small magnitudes at high voltage), because thresholds of high conductance are the
    least noisy and small magnitudes the most sensitive; the exp units' is not, so that large
    outputs lie there (our choice as well).

    Parameters
    ----------
    bits, in_bits, out_bits : int
        Log code, linear input of the log unit, linear output of the exp unit.
    delta : float
        Step of the log codes that are added [neper].
    logs : (units, 2**in_bits) uint16 array
        Attenuation for each linear code; the zero code marks zero.
    exps : (units, 3 * section) int16 array
        Linear output code, that of all copies added, for each sum of packed codes.
    rows : (int, int)
        ACAM rows of one log and one exp unit.
    copies : int
        Units in parallel whose codes an entry of ``exps`` adds.
    finer : int
        Steps ``delta`` of a log code in one code of a single log unit.
    """

    bits: int
    in_bits: int
    out_bits: int
    delta: float
    logs: CodeArray
    exps: NDArray[np.int16]
    rows: tuple[int, int]
    copies: int = 1
    finer: int = 1

    @classmethod
    def program(
        cls,
        acam: AcamModel | None,
        *,
        units: int = 256,
        bits: int = 8,
        in_bits: int | None = None,
        out_bits: int | None = None,
        steps_per_octave: int | None = None,
        exp_range: float | None = None,
        seed: Seed = 0,
        noise: bool | float = True,
        gray: bool = True,
        copies: int = 1,
        log_copies: int | None = None,
        finer: int = 1,
        placed: Placed = as_exact,
    ) -> ProductModel:
        """Program the log and exp units of one core.

        Parameters
        ----------
        acam : AcamModel or None
            None: exact quantised functions, no ACAM behind them.
        units : int
            Columns of a core; lane or output column j uses unit j modulo units.
        bits, in_bits, out_bits : int
            Default of the last two: ``bits``.
        steps_per_octave : int or None
            Log codes of one unit per factor of two. Default: as many as keep every non-zero linear
            code above the floor (31 at 8 bits).
        exp_range : float or None [neper]
            Attenuation at the lower end of the exp unit's data line. Default: just beyond the
            last product that rounds to a code above 0.
        seed, noise, gray
            As in `AcamModel.program`.
        copies : int
            Units in parallel for every exp. Their codes are added; they round at staggered
            places, so that the sum is as many times finer as there are units.
        log_copies : int or None
            Units in parallel for every log; None: `copies`.
        finer : int
            So many times finer than one unit's code is what is left of the mean of log codes, by
            staggered places too: a divisor of `log_copies`. DACs of exp units have as many more
            levels.
        placed : Placed
            Puts windows tuned for noise in the place of exact ones.

        Raises
        ------
        ParameterError
            Bits outside 2..12, no units or copies, too many, or a range without any code; log
            codes that are finer than the copies allow, or of more than 12 bits.
        """
        in_bits, out_bits = in_bits or bits, out_bits or bits
        log_copies = copies if log_copies is None else log_copies
        functions = ProductFunctions.of(
            bits, in_bits, out_bits, steps_per_octave=steps_per_octave, exp_range=exp_range,
            copies=copies, log_copies=log_copies, finer=finer,
        )  # fmt: skip
        if units < 1:
            raise ParameterError(f"{units} units: a core has at least one")
        (found, log_rows), (sums, exp_rows) = (
            unit_tables(acam, function, gray, units, (*seed_path(seed), ord(kind)), noise, placed)
            for kind, function in (("l", functions.log), ("e", functions.exp))
        )
        section = _section(bits, finer)
        zero = section // 2 - 1
        mean = (found * finer + log_copies // 2) // log_copies
        logs = attenuations(mean, finer * (2**bits - 1), zero)
        exps = signed(sums[:, ::-1], section, zero)
        rows = log_rows, exp_rows
        return cls(bits, in_bits, out_bits, functions.delta, logs, exps, rows, copies, finer)

    @property
    def full(self) -> int:
        """The sum of linear codes that stands for 1."""
        return self.copies * (int(2**self.out_bits) - 1)

    @property
    def section(self) -> int:
        """Codes of one sign section; the sign is this many added to an attenuation."""
        return _section(self.bits, self.finer)

    @property
    def zero(self) -> int:
        """The attenuation that stands for zero."""
        return self.section // 2 - 1

    def encode(
        self,
        x: ArrayLike,
        ceiling: ArrayLike,
        *,
        scales: ArrayLike = 1.0,
        block: bool = True,
        by_row: bool = False,
    ) -> LogCodes:
        """Convert values to log codes.

        Parameters
        ----------
        x : (..., rows, k) float array
        ceiling : float or (..., rows) float array
            Magnitude of the highest DAC code, broadcast to the rows; larger values saturate and
            are counted.
        scales : float or (k,) float array
            What values are divided by, place by place: codes and `ceiling` are those of x / scales.
        block : bool
            Subtract each row's smallest attenuation digitally and put it into the scale, so that
            the products of a row of small values use the whole range of the exp unit.
        by_row : bool
            Convert by the unit of the row rather than of the place in the row: for an operand
            that is stored transposed.

        Raises
        ------
        ParameterError
            NaN in ``x``, or a ceiling that is not positive and finite.
        """
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim < 2:
            raise ParameterError(f"x of shape {x.shape}: log codes have at least rows and k")
        rows = x.shape[:-1]
        high = np.array(np.broadcast_to(np.asarray(ceiling, np.float32), rows), order="C")
        if not np.all((high > 0) & np.isfinite(high)):
            raise ParameterError("the ceiling of log codes must be positive and finite")
        code = np.empty(x.shape, np.uint16)
        shift = np.empty(rows, np.int64)
        shares = np.full(x.shape[-1], 1.0 / np.asarray(scales, np.float32), np.float32)
        clipped = kernels.encode(
            _batched(x, 3), _batched(high, 2), shares, self.logs, self.section, block, by_row,
            _batched(code, 3), _batched(shift, 2),
        )  # fmt: skip
        if clipped and np.isnan(x).any():
            raise ParameterError(f"NaN in {np.isnan(x).sum()} of {x.size} operands of a product")
        scale = (high * np.exp(-self.delta * shift)).astype(np.float32)
        return LogCodes(code, scale, int(clipped))

    def decode(self, codes: LogCodes) -> SingleArray:
        """Return the values that log codes stand for, exactly; for inspection and tests."""
        attenuation = codes.code % self.section
        value = np.where(attenuation == self.zero, 0.0, np.exp(-self.delta * attenuation))
        sign = np.where(codes.code >= self.section, -1.0, 1.0)
        return np.asarray(sign * value * codes.scale[..., None], dtype=np.float32)

    def matmul(
        self,
        a: LogCodes,
        b: LogCodes,
        *,
        columns: int | None = None,
        n_limit: ArrayLike | None = None,
        k_limit: ArrayLike | None = None,
    ) -> SingleArray:
        """Matrix product ``a @ b.T``: both operands have the summed axis last.

        Parameters
        ----------
        a : LogCodes of (..., m, k)
        b : LogCodes of (..., n, k), same leading axes
            Both axes may be longer than used (a cache with spare room): the first ``columns``
            rows and the first k entries of ``a`` count.
        columns : int or None
            Output columns n; None: all rows of ``b``.
        n_limit, k_limit : (m,) int arrays or None
            Causal structure: row m has output columns below ``n_limit[m]`` (others are 0), and
            its entries from ``k_limit[m]`` on are zero, as `softmax` leaves them: they need not
            be looked up.

        Returns
        -------
        out : (..., m, n) float32 array

        Raises
        ------
        ParameterError
            Shapes that do not fit.
        """
        left, right = _batched(a.code, 3), _batched(b.code, 3)
        batch, m, k = left.shape
        n = right.shape[1] if columns is None else columns
        if a.code.shape[:-2] != b.code.shape[:-2] or k > right.shape[2] or n > right.shape[1]:
            raise ParameterError(
                f"log codes {a.code.shape} and {b.code.shape} do not multiply to {n} columns:"
                " both are (..., rows, k) with equal leading axes"
            )
        out = np.empty((batch, m, n), np.float32)
        full = np.float32(self.full)
        words = -(-_limit(k_limit, m, k) // 4)
        serial = out.size * k < _SERIAL_BELOW or numba.get_num_threads() == 1
        kernel = kernels.matmul if serial else kernels.matmul_parallel
        kernel(
            self._words(left), self._words(right), self.exps, _limit(n_limit, m, n), words,
            _batched(a.scale, 2) / full, _batched(b.scale, 2), out,
        )  # fmt: skip
        return out.reshape(*a.code.shape[:-1], n)

    def _words(self, code: CodeArray) -> NDArray[np.uint64]:
        """View codes (..., k) as words of four, the last one filled up with zeros."""
        spare = -code.shape[-1] % 4
        if spare:
            code = np.pad(code, [(0, 0), (0, 0), (0, spare)], constant_values=self.zero)
        return code.view(np.uint64)

    def multiply(self, a: LogCodes, b: LogCodes, scales: ArrayLike = 1.0) -> SingleArray:
        """Element-wise product of equally shaped operands, times `scales` (k,): (..., rows, k)."""
        if a.code.shape != b.code.shape:
            raise ParameterError(f"log codes {a.code.shape} and {b.code.shape} differ in shape")
        k = a.code.shape[-1]
        out = np.empty(a.code.shape, np.float32)
        kernels.multiply(
            np.ascontiguousarray(a.code).reshape(-1, k),
            np.ascontiguousarray(b.code).reshape(-1, k),
            self.exps,
            a.scale.ravel() / np.float32(self.full),
            b.scale.ravel(),
            np.full(k, scales, np.float32),
            out.reshape(-1, k),
        )
        return out

    def softmax(
        self, scores: ArrayLike, *, limit: ArrayLike | None = None, place: ArrayLike | None = None
    ) -> LogCodes:
        """Softmax over the last axis, as log codes for the product with the values.

        The row maximum is subtracted digitally and the difference rounded to log steps; exp units
        and a digital sum give the denominator, whose leading bits go through a log unit. The
        quotient is a subtraction, and the exp of the softmax cancels against the log of the
        product that follows.

        Parameters
        ----------
        scores : (..., m, n) float array
            -inf masks an entry.
        limit : (m,) int array or None
            Row m keeps the entries below ``limit[m]`` (causal mask).
        place : (m,) int array or None
            Row m's sum goes through log unit ``place[m]`` modulo units, so that a row meets the
            same unit in whatever call it comes. Default: its number in this call.

        Returns
        -------
        probabilities : LogCodes of (..., m, n)
            A row without any entry is all zero.

        Raises
        ------
        ParameterError
            NaN or +inf in the scores.
        """
        codes, attenuation, power = self._softmax(scores, limit, place)
        ratio = np.float64(2**self.in_bits - 1) / np.float64(self.full)
        total = np.exp(-self.delta * attenuation) * np.exp2(power) * ratio
        scale = np.where(attenuation == self.zero, 0.0, 1.0 / total).astype(np.float32)
        return LogCodes(codes, scale)

    def probabilities(self, scores: ArrayLike, *, limit: ArrayLike | None = None) -> SingleArray:
        """Softmax through a second exp, as published: linear codes of ``out_bits`` over full scale.

        Parameters and errors as in `softmax`; returns (..., m, n) float32.
        """
        codes, attenuation, power = self._softmax(scores, limit)
        ratio = math.log((2**self.in_bits - 1) / self.full)
        total = np.rint((power * math.log(2.0) + ratio) / self.delta) - attenuation
        sums = codes + np.maximum(total, 0).astype(np.int64)[..., None]
        sums = np.where(codes == self.zero, self.zero, np.minimum(sums, self.zero))
        units = np.arange(codes.shape[-1]) % self.exps.shape[0]
        linear = self.exps[units, sums].astype(np.float32)
        return np.asarray(linear / np.float32(self.full))

    def _softmax(
        self, scores: ArrayLike, limit: ArrayLike | None, place: ArrayLike | None = None
    ) -> tuple[CodeArray, NDArray[np.int64], NDArray[np.int64]]:
        scores = np.ascontiguousarray(scores, dtype=np.float32)
        if scores.ndim < 2:
            raise ParameterError(f"scores of shape {scores.shape}: give (..., m, n)")
        m, n = scores.shape[-2:]
        code = np.empty(scores.shape, np.uint16)
        attenuation = np.empty(scores.shape[:-1], np.int64)
        power = np.empty_like(attenuation)
        units = np.arange(m) if place is None else np.asarray(place)
        if units.shape != (m,) or (m and units.min() < 0):
            raise ParameterError(f"places of shape {units.shape}; give {m} numbers from 0 on")
        invalid = kernels.softmax(
            _batched(scores, 3), _limit(limit, m, n), units.astype(np.int64),
            np.float32(self.delta), np.float32(self.zero), self.logs, self.exps, self.zero,
            _batched(code, 3), _batched(attenuation, 2), _batched(power, 2),
        )  # fmt: skip
        if invalid:
            raise ParameterError(f"NaN or +inf in {invalid} rows of the attention scores")
        return code, attenuation, power


def _section(bits: int, finer: int) -> int:
    """Return the room of one sign: two codes and zero added twice stay below."""
    return 4 * (finer << bits)


def _batched(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """View with all leading axes merged into one, C-contiguous."""
    split = array.ndim - ndim + 1
    shape = (math.prod(array.shape[:split]), *array.shape[split:])
    return np.ascontiguousarray(array).reshape(shape)


def _limit(limit: ArrayLike | None, rows: int, highest: int) -> NDArray[np.int64]:
    if limit is None:
        return np.full(rows, highest, np.int64)
    limit = np.ascontiguousarray(limit, dtype=np.int64)
    if limit.shape != (rows,):
        raise ParameterError(f"limits of shape {limit.shape}; give one for each of {rows} rows")
    return np.asarray(np.clip(limit, 0, highest), dtype=np.int64)

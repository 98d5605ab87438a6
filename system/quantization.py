"""Codes and ranges: how real numbers become 8-bit codes on the way into and out of the tiles."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from behavioral.kernels.dac import encode
from circuits.errors import ParameterError

Float = NDArray[np.float32]

CHOICES = {
    "weight_scale": ("layer", "column"),
    "output_range": ("layer", "column"),
    "partial_sums": ("current", "digital"),
    "slices": (1, 2),
}
LIMITS: dict[str, tuple[float, float]] = {  # smallest and largest value
    "input_bits": (2, 12),
    "output_bits": (2, 12),
    "weight_bits": (2, 12),
    "weight_headroom": (0, 0.9),
    "percentile": (90, 100),
    "smoothing": (0, 1),
    "block_norm": (0, 1),
    "output_margin": (0, 4),
    "output_lift": (0, 4),
    "line_start": (0, 0.9),
    "output_fine": (0, 10),
    "trim_inputs": (1, 4096),
    "output_copies": (1, 16),
    "product_copies": (1, 16),
    "product_log_copies": (0, 16),
    "product_finer": (1, 16),
    "spare_rows": (0, 64),
}

SHARED = ("spare_rows", "layers")  # fields of a mapping that all layers have in common


@dataclass(frozen=True)
class Mapping:
    """How a network is laid onto tiles; every choice the paper leaves open is a field.

    Attributes
    ----------
    input_bits, output_bits, weight_bits : int
        DAC, ACAM and programming resolution. Of products: the magnitudes that log units convert,
        and the codes of log and exp units.
    weight_scale : {"layer", "column"}
        Largest weight of the layer (as published) or of each column sits at g_max.
    output_range : {"layer", "column"}
        One read-out gain for the layer, or one per column.
    partial_sums : {"current", "digital"}
        Row tiles of one output are added as currents before one ACAM, or each tile has an identity
        ACAM and codes are added digitally. The paper's choice is unknown; the default is ours.
    slices : int
        2: main and error slice ("analog slicing"); 1: main only.
    predistort : bool
        Conductances are chosen so that the ohmic column, wires included, has the wanted matrix.
    linearize : bool
        Cells bend: small inputs meet less conductance than write-verify saw at full swing, cells
        of small conductance least. DAC levels then lie where the current of the mean cell is
        even, and with `predistort` conductances count with their gain at recorded inputs. It
        takes a DAC with uneven steps, a string with its taps elsewhere, and nothing else.
    weight_headroom : float
        Share of the conductance range that weights leave unused at its top. Pre-distortion makes
        up for the wires with larger conductances: without room the largest weights, far from the
        read-out, stay at g_max and come out too small.
    percentile : float
        Share of the calibration values inside a range, in percent; 100 is min-max.
    range_momentum : float
        0: a range holds those of all calibration batches. Above: it follows them, batch by batch,
        by what is left of this to 1 (moving statistics); the released NL-DPE code has 0.95.
    smoothing : float
        0: inputs as they are; up to 1: every input is divided digitally by
        max|x|^a / max|w|^(1 - a) and its weights are multiplied by it, so that an outlying input
        does not use up the DAC's codes (SmoothQuant, Xiao et al., arXiv:2211.10438, eq. 4).
    input_blocks : bool
        In layers without bias and activation each input vector is divided by its largest
        magnitude, digitally before the DACs, and the layer's output multiplied by it: dynamic
        scales per token, as in INT8 accelerators. A token with massive activations (Sun et al.,
        arXiv:2402.17762) then leaves the codes of the others alone.
    block_norm : float
        That divisor is at least this share of the vector's Euclidean norm. Outputs follow the
        norm rather than the largest input: a vector of many equal inputs gives up DAC codes,
        which it averages anyway, so that vectors of few inputs keep read-out codes.
    output_margin : float
        Read-out ranges are wider than what calibration saw by this share at each end: a range
        per column is measured on few values, and clipping costs more than a coarser step.
    flat_margin : float
        Room, as a share of the read-out range, that the data line keeps below the point where an
        activation becomes flat: a noisy threshold near zero then rarely falls below the end of
        the line, where all the inputs that should give zero arrive.
    output_lift : float
        Read-out ranges are longer by this share at the low end only, where ACAM thresholds are
        noisiest (devices of low conductance): codes are given up so that outputs lie higher on
        the data line.
    line_start : float
        Share of the data line, at its low end, that codes leave unused, for the same reason: all
        codes lie above, on what is left of the line, and none is given up.
    output_fine : float
        0: one read-out range per column. Above: each column has a second ACAM unit behind a
        read-out stage of higher gain, whose range ends this many standard deviations from the mean
        of the column's outputs. Its code is taken where the first unit says that the output is
        inside (gain ranging). With activations that become flat only the upper end is nearer.
    ground_trim : bool
        Amplifiers have finite gain, so the virtual ground of a read-out lies off v_cm. Each column
        then has a constant: this offset, known from the library, times the sum of its weights. It
        is taken off by the ends of the column's read-out range and its bias. It is little next to
        full drive, but a tenth of what the small inputs of language models make.
    output_trim : bool
        After programming, the mean error of each column over recorded inputs of its layer is
        measured on the chip, once, and taken off by the offset of its read-out (and of the bias):
        calibration of every chip, which the paper does without.
    trim_inputs : int
        How many inputs of each layer that takes.
    output_copies : int
        ACAM units in parallel on each data line; their codes are added digitally. Threshold noise
        falls with the root of their number; area and energy grow with it.
    product_copies : int
        The same for the log and exp units of data-dependent products and softmax.
    product_log_copies : int
        The same for log units alone; 0: `product_copies`. Attention converts each of its operands
        by a log unit once, but forms hundreds of products with it by exp units.
    product_finer : int
        Log codes are kept this many times finer than a single log unit makes them, by parallel
        units that round at staggered places; with fewer log units, by the largest divisor of
        both. The DACs of exp units need as many more levels.
    spare_rows : int
        Unused rows of every output bit in every ACAM unit. A device that write-verify finds stuck
        gives its row's window to one of them. Without stuck devices nothing changes.
    layers : dict
        Layers and blocks of products that differ: pattern of names (as of files, `*.down_proj`) ->
        field -> value there. Of the patterns that fit a name, later ones win.
    """

    input_bits: int = 8
    output_bits: int = 8
    weight_bits: int = 8
    weight_scale: str = "layer"
    output_range: str = "layer"
    partial_sums: str = "current"
    slices: int = 2
    predistort: bool = True
    linearize: bool = False
    weight_headroom: float = 0.0
    percentile: float = 100.0
    range_momentum: float = 0.0
    smoothing: float = 0.0
    input_blocks: bool = False
    block_norm: float = 0.0
    output_margin: float = 0.0
    flat_margin: float = 0.1
    output_lift: float = 0.0
    line_start: float = 0.0
    output_fine: float = 0.0
    ground_trim: bool = False
    output_trim: bool = False
    trim_inputs: int = 256
    output_copies: int = 1
    product_copies: int = 1
    product_log_copies: int = 0
    product_finer: int = 1
    spare_rows: int = 0
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, permitted in CHOICES.items():
            if getattr(self, key) not in permitted:
                raise ParameterError(
                    f"mapping.{key} is {getattr(self, key)!r}; permitted: "
                    f"{', '.join(map(str, permitted))}"
                )
        for key, (least, most) in LIMITS.items():
            if not least <= getattr(self, key) <= most:
                raise ParameterError(
                    f"mapping.{key} is {getattr(self, key)}; permitted: {least} to {most}"
                )
        if not 0.0 <= self.range_momentum < 1.0:
            raise ParameterError(
                f"mapping.range_momentum is {self.range_momentum}; permitted: 0 to below 1"
            )
        if self.output_fine and self.partial_sums == "digital":
            raise ParameterError(
                f"mapping.output_fine is {self.output_fine} with partial_sums 'digital'; permitted:"
                " 0, or partial_sums 'current'"
            )
        for pattern, choices in self.layers.items():
            if not isinstance(choices, dict):
                raise ParameterError(f"mapping.layers.{pattern} is {choices!r}; wanted an object")
            _check_choices(choices, self, f"layers.{pattern}.", SHARED)
            self.of(pattern)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Mapping:
        """Build from config.json.

        Raises
        ------
        ParameterError
            A key that does not exist, a value of the wrong type or out of range.
        """
        _check_choices(values, cls())
        return cls(**values)

    @property
    def log_copies(self) -> int:
        """Log units in parallel."""
        return self.product_log_copies or self.product_copies

    @property
    def finer(self) -> int:
        """How many times finer log codes are than those of one unit."""
        return math.gcd(self.product_finer, self.log_copies)

    def of(self, name: str) -> Mapping:
        """Return the mapping of one layer or block of products."""
        own: dict[str, Any] = {}
        for pattern, choices in self.layers.items():
            own |= choices if fnmatchcase(name, pattern) or name == pattern else {}
        return replace(self, **own, layers={}) if own else self

    def chosen(self, keys: tuple[str, ...]) -> dict[str, Any]:
        """Return some of the fields, and where layers differ in them."""
        own = {
            pattern: {key: choices[key] for key in keys if key in choices}
            for pattern, choices in self.layers.items()
        }
        own = {pattern: choices for pattern, choices in own.items() if choices}
        return {key: getattr(self, key) for key in keys} | ({"layers": own} if own else {})

    def changed(self, choices: dict[str, Any]) -> Mapping:
        """Return a mapping with other choices: by field, or for some layers by "PATTERN.FIELD".

        Raises
        ------
        ParameterError
            See `from_dict`.
        """
        values = self.to_dict() | {key: v for key, v in choices.items() if "." not in key}
        for key, value in choices.items():
            pattern, dot, name = key.rpartition(".")
            if dot:
                values["layers"].setdefault(pattern, {})[name] = value
        return Mapping.from_dict(values)

    def every(self) -> list[Mapping]:
        """Return the mappings that layers may have: the common one, and one for each pattern."""
        return [self, *(self.of(pattern) for pattern in self.layers)]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for config.json."""
        return asdict(self)


def as_options(choices: dict[str, Any]) -> list[str]:
    """Return the words of a command line that makes these choices, as `nldpe` reads them."""
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in choices.items()}
    return [f"--map {key}={text}" for key, text in texts.items()]


def _check_choices(
    values: dict[str, Any], like: Mapping, where: str = "", but: tuple[str, ...] = ()
) -> None:
    """Refuse keys that no mapping has, and values of another type than those of `like`."""
    known = like.to_dict().keys() - set(but)
    for key, value in values.items():
        if key not in known:
            raise ParameterError(
                f"unknown mapping key {where + key!r}; known keys: {', '.join(sorted(known))}"
            )
        default = getattr(like, key)
        if type(value) is not type(default) and not (type(default) is float and type(value) is int):
            raise ParameterError(
                f"mapping.{where}{key} is {value!r}; wanted a value like {default!r}"
            )


@dataclass(frozen=True)
class InputCodes:
    """Asymmetric DAC codes c with x = scale (c - zero).

    Attributes
    ----------
    scale : float
        Step of one code, in units of the activation.
    zero : int
        Code of the value 0: that row carries no current.
    top : int
        Largest code.
    """

    scale: float
    zero: int
    top: int

    @classmethod
    def from_range(cls, low: float, high: float, bits: int) -> InputCodes:
        """Codes over [low, high], widened to hold 0."""
        top = 2**bits - 1
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = (high - low) / top if high > low else 1.0
        return cls(scale, int(np.floor(-low / scale + 0.5)), top)

    @property
    def full_scale(self) -> float:
        """The activation that drives a row at v_read, v_cm apart."""
        return self.scale * max(self.zero, self.top - self.zero)

    def normalise(self, x: Float, smoothing: Float | None = None) -> Float:
        """Return the row drive in [-1, 1] for activations x, rounded to the nearest code.

        Parameters
        ----------
        x : (n, ...) float32 array; (n, in) with smoothing
        smoothing : (in,) float32 array or None
            Divides each input first.
        """
        swing = max(self.zero, self.top - self.zero)
        rows = np.ascontiguousarray(x, np.float32).reshape(len(x), -1)
        step = np.float32(1.0 / self.scale)
        steps = np.full(rows.shape[1], step) if smoothing is None else step / smoothing
        out = np.empty_like(rows)
        low, high, unit = (np.float32(v) for v in (-self.zero, self.top - self.zero, 1.0 / swing))
        encode(rows, steps, low, high, unit, out)
        return out.reshape(x.shape)


def smoothing_factors(weight: Float, bounds: Float, strength: float) -> Float | None:
    """Return the divisor of every input, or None if the mapping smooths nothing.

    Parameters
    ----------
    weight : (out, in) float array
    bounds : (2, in) float array
        Calibrated range of every input.
    strength : float
        Exponent a of `Mapping.smoothing`.
    """
    if strength == 0.0:
        return None
    x, w = np.abs(bounds).max(axis=0), np.abs(weight).max(axis=0)
    usable = (x > 0) & (w > 0)
    factors = np.ones(len(x), np.float64)
    factors[usable] = x[usable].astype(np.float64) ** strength / w[usable] ** (1.0 - strength)
    smooth: Float = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    return smooth


def block_scale(x: Float, norm: float = 0.0) -> Float:
    """Return the scale (n, 1) of each row: `Mapping.input_blocks`; 1 for rows of zeros."""
    largest = np.maximum(x.max(axis=1, keepdims=True), -x.min(axis=1, keepdims=True))
    if norm > 0.0:
        length = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
        largest = np.maximum(largest, np.float32(norm) * length)
    scale: Float = np.where(largest > 0, largest, np.float32(1.0))
    return scale


def widen(low: Float, high: Float, margin: float) -> tuple[Float, Float]:
    """Return the range [low, high] with `margin` times its width added at both ends."""
    extra = np.float32(margin) * (high - low)
    return low - extra, high + extra


def fake_quantize(x: Float, low: ArrayLike, high: ArrayLike, bits: int) -> Float:
    """Round x to 2^bits levels from `low` to `high` (scalars or broadcast), clipping outside."""
    top = np.float32(2**bits - 1)
    low32 = np.asarray(low, np.float32)
    step = np.maximum((np.asarray(high, np.float32) - low32) / top, np.float32(1e-30))
    codes = np.clip(np.floor((x - low32) / step + np.float32(0.5)), 0, top)
    rounded: Float = codes * step + low32
    return rounded


def quantize_weight(weight: Float, mapping: Mapping) -> tuple[Float, Float]:
    """Normalise a weight matrix to cell conductances.

    Parameters
    ----------
    weight : (out, in) float array
    mapping : Mapping

    Returns
    -------
    w : (in, out) float32 array in [-1, 1], sign and magnitude of `weight_bits` bits
    scale : (out,) float32 array with weight ~ w.T * scale[:, None]
    """
    axis = 1 if mapping.weight_scale == "column" else None
    peak = np.abs(weight).max(axis=axis, keepdims=True)
    peak = np.where(peak > 0, peak, 1.0).astype(np.float32)
    levels = np.float32(2 ** (mapping.weight_bits - 1) - 1)
    top = np.float32(1.0 - mapping.weight_headroom)
    w = np.round(weight / peak * levels) / levels * top
    scale = np.broadcast_to(peak / top, (len(weight), 1))[:, 0].astype(np.float32)
    return np.ascontiguousarray(w.T, np.float32), scale

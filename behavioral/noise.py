"""Programming and read noise of the RRAM devices, and the random streams that draw it.

Every random number of the project is a pure function of a seed, a path of integers (chip, layer,
tile ...), a purpose and a counter, so draws depend neither on the number of threads nor on batch
size or order of evaluation.
"""

import math
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.errors import ParameterError
from circuits.parameters import Device

MICRO = 1e-6


@dataclass(frozen=True)
class NoiseLaw:
    """Standard deviation of a conductance: ``exp(exponent ln(clip(G)) + log_scale)`` in uS.

    Parameters
    ----------
    exponent, log_scale : float
        Constants of the law with G and sigma in uS; ``log_scale = -inf`` means no noise.
    floor_s, clip_s : float
        G is clipped to this interval before the law is applied [S].

    References
    ----------
    NL-DPE, arXiv 2511.13950, released code: 0.95, -1.86, 2 uS (write); 0.98, -3.1, 10 uS (read).
    """

    exponent: float
    log_scale: float
    floor_s: float
    clip_s: float

    @classmethod
    def write(cls, device: Device) -> Self:
        """Return the programming noise of a device card."""
        return cls(
            device.write_noise_exponent,
            device.write_noise_log_scale,
            device.noise_floor_s,
            device.write_noise_clip_s,
        )

    @classmethod
    def read(cls, device: Device) -> Self:
        """Return the read noise of a device card."""
        return cls(
            device.read_noise_exponent,
            device.read_noise_log_scale,
            device.noise_floor_s,
            device.read_noise_clip_s,
        )

    def scaled(self, factor: float) -> Self:
        """Return the law with its standard deviation multiplied (the 0.5x to 2x sweep)."""
        if not 0.0 <= factor < math.inf:
            raise ParameterError(f"noise scale {factor} must be finite and not negative")
        return replace(self, log_scale=self.log_scale + math.log(factor) if factor else -math.inf)

    def sigma(self, conductance: ArrayLike) -> NDArray[np.float64]:
        """Return the standard deviation [S] at an RRAM conductance [S]."""
        g = np.clip(np.asarray(conductance, float), self.floor_s, self.clip_s) / MICRO
        if self.log_scale == -math.inf:
            return np.zeros_like(g)
        return np.asarray(np.exp(self.exponent * np.log(g) + self.log_scale) * MICRO)

    def over_sqrt(self, highest_s: float, points: int = 2049) -> tuple[float, NDArray[np.float64]]:
        """Return (step, sigma [S]) on a uniform grid of sqrt(G), 0 to ``highest_s``.

        In sqrt(G) the law is nearly a parabola, so linear look-up is right to 1e-4 of sigma.
        """
        root = np.linspace(0.0, math.sqrt(highest_s), points)
        return float(root[1]), self.sigma(root * root)


def seed_path(seed: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return a seed as the path of non-negative integers that names a stream."""
    path = (seed,) if isinstance(seed, (int, np.integer)) else tuple(seed)
    if not path or any(int(part) != part or part < 0 for part in path):
        raise ParameterError(f"seed {seed!r} must be one or more non-negative integers")
    return tuple(int(part) for part in path)


@lru_cache(maxsize=4096)
def stream_key(seed: int | tuple[int, ...], purpose: str) -> np.uint64:
    """Return the 64-bit key of a stream for the counter-based draws of the kernels.

    Parameters
    ----------
    seed : int or tuple of int
        For example ``(seed, chip, layer, tile)``.
    purpose : str
        What is drawn: ``"write/main+"``, ``"read"`` ...; different purposes never share numbers.
    """
    entropy = (*seed_path(seed), zlib.crc32(purpose.encode()))
    # SeedSequence pads with zeros: the length keeps (1,) and (1, 0) apart
    words = np.random.SeedSequence((len(entropy), *entropy)).generate_state(1, np.uint64)
    return np.uint64(words[0])


def generator(seed: int | tuple[int, ...], purpose: str) -> np.random.Generator:
    """Return a numpy generator (Philox) of the stream that ``seed`` and ``purpose`` name."""
    return np.random.Generator(np.random.Philox(key=int(stream_key(seed, purpose))))


def _wrap_around() -> AbstractContextManager[None]:
    """Return what keeps numpy from warning of 64-bit overflows, which are meant; kernels do not."""
    return nullcontext() if _compiled() else np.errstate(over="ignore")


@cache
def _compiled() -> bool:
    from behavioral.kernels import noise as kernels

    return hasattr(kernels.add_noise, "py_func")


def normal(key: np.uint64, shape: int | tuple[int, ...], start: int = 0) -> NDArray[np.float32]:
    """Return standard normals of the counters ``start, start + 1, ...`` of a stream."""
    from behavioral.kernels import noise as kernels

    out = np.empty(shape, np.float32)
    with _wrap_around():
        kernels.fill_normal(key, np.uint64(start), out.reshape(-1))
    return out


@cache
def quantiles() -> NDArray[np.float32]:
    """Return the quantiles of the normal distribution at 0, 1/4096 ... 1, for fast draws.

    The outermost are those of their neighbours: beyond these, draws are made in another way.
    """
    from scipy.special import ndtri

    return np.asarray(ndtri(np.linspace(0.0, 1.0, 4097).clip(1 / 4096, 4095 / 4096)), np.float32)


@lru_cache(maxsize=65536)
def panel_key(seed: int | tuple[int, ...], first: int) -> np.uint64:
    """Return the stream of the per-read noise of one panel of columns."""
    return stream_key((*seed_path(seed), first), "read")


def add_read_noise(
    y: NDArray[np.float32],
    variance: NDArray[np.float32],
    seed: int | tuple[int, ...],
    first_column: int,
    first_sample: int,
    parallel: bool = False,
) -> None:
    """Add per-read noise to the outputs (samples, columns) of one panel, in place."""
    from behavioral.kernels import noise as kernels

    key = panel_key(seed, first_column)
    with _wrap_around():
        kernel = kernels.add_noise_parallel if parallel else kernels.add_noise
        kernel(y, variance, quantiles(), key, np.uint64(first_sample))

"""A differentiable ACAM: what a search gives, with the gradients of the windows' bounds.

Bounds pass through the very model that inference programs: the characterised threshold curve, and
programming and read noise of two devices a row. The search is the exact one; its gradients are
those of a soft search, in which a row scores relu(u - lo) relu(hi - u), the scores of the rows of
an output bit add up and are divided by themselves plus a small number, and the Gray code is decoded
softly from the highest bit down.

References
----------
NL-DPE, arXiv 2511.13950, Algorithm 1, and the released code (scores, division, soft decoding by
squared differences). What differs here, each because the error of the codes grew without it
(docs/naf.md): the score is divided by the window's width and starts a little outside it, so that an
edge is equally soft everywhere and one half at the bound itself; a xor b is a + b - 2 a b instead
of (a - b)^2, equal on bits but with no preference for one side of an edge; the value is the exact
search's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from behavioral.acam import AcamModel

Bits = NDArray[np.int64]

OPEN = (-1.0, 2.0)  # where open bounds stand in the search: a line's length beyond its ends
SOFTNESS = 0.05 / 255  # of the line: distance in which an edge goes from one half to zero; ours
_STEP = 1e-3  # of the line: to either side of a bound, for the slope of a programmed one


class _Programmed(torch.autograd.Function):
    """Bounds as the cells have them; backward from the same draws a step to either side."""

    @staticmethod
    def forward(
        ctx: Any, lo: Tensor, hi: Tensor, bit: Bits, model: AcamModel, noise: float,
        seed: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return the actual bounds (columns, rows) for wanted ones."""
        low, high = lo.numpy(), hi.numpy()

        def actual(shift: float) -> NDArray[np.float32]:
            unit = model.program(
                low + shift, high + shift, bit, int(bit.max()) + 1, seed=seed, noise=noise,
                columns=len(low), cells=2,
            )  # fmt: skip
            assert unit.lo is not None
            assert unit.hi is not None
            return np.stack([unit.lo, unit.hi])

        here, below, above = (actual(shift) for shift in (0.0, -_STEP, _STEP))
        with np.errstate(invalid="ignore"):
            slope = (above - below) / np.float32(2 * _STEP)
        slope[~np.isfinite(slope)] = 1.0  # a bound next to the end of the line
        slope[~np.isfinite(here)] = 0.0
        ctx.slopes = torch.from_numpy(slope.astype(low.dtype))
        ends = torch.from_numpy(np.clip(here, *OPEN).astype(low.dtype))
        return ends[0], ends[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the wanted bounds."""
        low, high = (g * slope for g, slope in zip(gradients, ctx.slopes, strict=True))
        return low, high, None, None, None, None


def program(
    lo: Tensor, hi: Tensor, bit: Bits, model: AcamModel, *, seed: tuple[int, ...],
    noise: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Program windows into cells and return the bounds that the cells really have.

    Parameters
    ----------
    lo, hi : (columns, rows) tensors
        Wanted bounds on the data line, in u; outside (0, 1) they are open.
    bit : (rows,) int array
    model : AcamModel
    seed : of the draws.
    noise : factor on both standard deviations.

    Returns
    -------
    lo, hi : (columns, rows) tensors
        Open bounds a line's length beyond the line; rows that never match have ``lo >= hi``.
    """
    found = _Programmed.apply(lo, hi, bit, model, noise, seed)  # type: ignore[no-untyped-call]
    return found[0], found[1]


def soft_bits(
    u: Tensor, lo: Tensor, hi: Tensor, bit: Bits, bits: int, softness: float = SOFTNESS
) -> Tensor:
    """Return how much each output bit is 1, in [0, 1): (columns, samples, bits).

    Parameters
    ----------
    u : (columns, samples) tensor of data-line positions.
    lo, hi : (columns, rows) tensors of actual bounds.
    bit : (rows,) int array
    bits : width of the code.
    softness : of an edge, in u; a bit is one half at a bound, zero this far outside it.
    """
    low, high = lo[:, None] - softness, hi[:, None] + softness
    width = (high - low).clamp_min(softness)
    score = torch.relu(u[..., None] - low) * torch.relu(high - u[..., None]) / width
    total = score @ _wires(bit, bits, u.dtype)
    return total / (total + softness)


def decode(gray: Tensor) -> Tensor:
    """Return the codes (...) of soft Gray bits (..., bits), lowest bit first."""
    bits = gray.shape[-1]
    value = gray[..., -1]
    code = value * 2.0 ** (bits - 1)
    for k in range(bits - 2, -1, -1):
        value = gray[..., k] + value - 2.0 * gray[..., k] * value
        code = code + value * 2.0**k
    return code


def search(
    u: Tensor, lo: Tensor, hi: Tensor, bit: Bits, bits: int, softness: float = SOFTNESS
) -> Tensor:
    """Return the codes (columns, samples) of the exact search, with the soft one's gradients.

    Parameters as in `soft_bits`.
    """
    soft = decode(soft_bits(u, lo, hi, bit, bits, softness))
    with torch.no_grad():
        match = ((u[..., None] > lo[:, None]) & (u[..., None] < hi[:, None])).to(u.dtype)
        exact = decode((match @ _wires(bit, bits, u.dtype) > 0).to(u.dtype))
    return exact + (soft - soft.detach())


def _wires(bit: Bits, bits: int, dtype: torch.dtype) -> Tensor:
    """Return (rows, bits): 1 where a row pulls the line of an output bit."""
    return torch.from_numpy(bit[:, None] == np.arange(bits)).to(dtype)

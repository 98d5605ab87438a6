"""What recorded operands of data-dependent products ask of log and exp units: DAC levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavioral.log_units import ProductFunctions
from behavioral.products import ProductModel
from system.calibration import Ranges, peaks
from system.models.ops import Array
from system.quantization import Mapping

Floats = NDArray[np.float64]

ROWS = 24  # rows of queries whose scores and products are formed


def product_functions(mapping: Mapping) -> ProductFunctions:
    """Return what the log and exp units of a block of products give."""
    return ProductFunctions.of(
        mapping.output_bits, mapping.input_bits, mapping.output_bits,
        copies=mapping.product_copies, log_copies=mapping.log_copies, finer=mapping.finer,
    )  # fmt: skip


def exact_units(mapping: Mapping) -> ProductModel:
    """Return the log and exp units of a block of products, without noise."""
    return ProductModel.program(
        None, units=1, bits=mapping.output_bits, in_bits=mapping.input_bits,
        copies=mapping.product_copies, log_copies=mapping.log_copies, finer=mapping.finer,
    )  # fmt: skip


def converted_levels(
    operands: tuple[Array, ...], ceilings: tuple[Array, ...], model: ProductModel, last: int
) -> tuple[Floats, Floats]:
    """Return the DAC levels that log units (n,) and exp units (m,) of a block convert.

    The log units' line is inverted: large magnitudes at level 0; so are attenuations of exp units.

    Parameters
    ----------
    operands : (a, b) of an element-wise product, (T, channels) each; or (q, k, v) of attention,
        (1, heads, T, D) each.
    ceilings : largest magnitude of each operand's code, per channel or per head.
    model : ProductModel
    last : attenuation at level 0 of the exp units.
    """
    sample = _element_wise if len(operands) == 2 else _attention
    magnitudes, sums = sample(operands, ceilings, model)
    top = 2**model.in_bits - 1
    logs = top - np.minimum(np.floor(magnitudes * top + 0.5), top)
    return logs, last - np.minimum(sums, last)


def ceilings(
    ranges: Ranges, name: str, operands: tuple[Array, ...], margin: float
) -> tuple[Array, ...]:
    """Return the largest magnitude of each operand's code, per head or per channel."""
    if len(operands) == 2:
        size = operands[0].shape[-1]
        return tuple(peaks(ranges, f"{name}.{k}", size, margin, shared=True) for k in "ab")
    return tuple(
        peaks(ranges, f"{name}.{k}", x.shape[1], margin)
        for k, x in zip("qkv", operands, strict=True)
    )


def _element_wise(
    operands: tuple[Array, ...], ceilings: tuple[Array, ...], model: ProductModel
) -> tuple[Floats, Floats]:
    """Return magnitudes over their ceilings, and the sums of attenuations of a * b."""
    scaled = [x / ceiling for x, ceiling in zip(operands, ceilings, strict=True)]
    codes = [model.encode(x, 1.0).code for x in scaled]
    magnitudes = np.concatenate([np.abs(x).ravel() for x in scaled]).astype(np.float64)
    return magnitudes, _sums(model, *codes)


def _attention(
    operands: tuple[Array, ...], ceilings: tuple[Array, ...], model: ProductModel
) -> tuple[Floats, Floats]:
    """Return the same of attention: q k^T, softmax and attention x V of some rows of queries."""
    q, k, v = (x[0] for x in operands)  # (heads, T, D)
    heads, time, size = q.shape
    share = heads // len(k)
    tops = [
        np.broadcast_to(c[:, None], x.shape[:2]) for c, x in zip(ceilings, (q, k, v), strict=True)
    ]
    codes = [model.encode(x, top).code for x, top in zip((q, k), tops, strict=False)]
    v_codes = model.encode(np.ascontiguousarray(v), tops[2], block=False).code
    magnitudes = np.concatenate(
        [(np.abs(x) / top[..., None]).ravel() for x, top in zip((q, k, v), tops, strict=True)]
    ).astype(np.float64)
    sums = []
    for row in np.unique(np.linspace(0, heads * time - 1, ROWS).astype(np.int64)):
        head, t = divmod(int(row), time)
        group, seen = head // share, slice(0, t + 1)
        score = k[group, seen] @ q[head, t] * size**-0.5
        loss = np.floor((score.max() - score) / model.delta + 0.5)  # attenuation of each weight
        sums.append(_sums(model, codes[0][head, t][None], codes[1][group, seen]))
        sums.append(loss)
        sums.append((loss[:, None] + _attenuation(model, v_codes[group, seen])).ravel())
    return magnitudes, np.concatenate(sums)


def _attenuation(model: ProductModel, code: NDArray[np.uint16]) -> Floats:
    return np.asarray(code % model.section, dtype=np.float64)


def _sums(model: ProductModel, a: NDArray[np.uint16], b: NDArray[np.uint16]) -> Floats:
    return np.asarray((_attenuation(model, a) + _attenuation(model, b)).ravel())

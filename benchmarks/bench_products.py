"""Data-dependent products by log, add, exp: one look-up per pair of operands."""

import numpy as np
import pytest

from behavioral.acam import AcamModel
from behavioral.products import ProductModel

HEADS, TOKENS, SIZE = 8, 128, 64


@pytest.fixture(scope="module")
def operands():
    """Return queries and keys of one attention layer."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, HEADS, TOKENS, SIZE)).astype(np.float32)


def log_add_exp(a, b):
    """Do the same in float32, as published code does: log, add, exp of every pair, sum."""
    out = np.empty((HEADS, TOKENS, TOKENS), np.float32)
    logs = [np.log(np.abs(x) + np.float32(1e-9)) for x in (a, b)]
    signs = [np.sign(x) for x in (a, b)]
    for head in range(HEADS):
        pairs = np.exp(logs[0][head][:, None] + logs[1][head][None])
        pairs *= signs[0][head][:, None] * signs[1][head][None]
        out[head] = pairs.sum(axis=2)
    return out


@pytest.mark.parametrize(
    ("title", "baseline"),
    [("log, add, exp in numpy float32", log_add_exp), ("q @ k.T", lambda a, b: a @ b.mT)],
)
def test_query_key_product(compare, library, operands, title, baseline):
    """Multiply queries and keys that are already encoded."""
    products = ProductModel.program(AcamModel.from_library(library))
    a, b = operands
    q, k = products.encode(a, 4.0), products.encode(b, 4.0)
    pairs = HEADS * TOKENS**2 * SIZE
    compare(
        f"QK^T on log codes, 8 heads x 128 x 128 x 64; {title}",
        lambda: products.matmul(q, k), lambda: baseline(a, b), pairs, pairs, "products",
    )  # fmt: skip

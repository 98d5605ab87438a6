"""Accuracy and perplexity against their definitions."""

import numpy as np
import pytest
from scipy.special import log_softmax

from circuits.errors import DataError
from system import evaluation


class Fixed:
    """A model that answers from a table."""

    def __init__(self, logits: np.ndarray):
        self.logits = logits

    def forward(self, inputs: np.ndarray, ops: object) -> np.ndarray:
        """Return the row of every input."""
        return self.logits[inputs]


def test_cross_entropy_is_scipys_log_softmax():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 30, (50, 20)).astype(np.float32)
    targets = rng.integers(0, 20, 50)
    wanted = -log_softmax(logits.astype(float), axis=1)[np.arange(50), targets].mean()
    # float32 logits of magnitude 30: 30 * 2^-24 each
    np.testing.assert_allclose(evaluation.cross_entropy(logits, targets), wanted, rtol=1e-5)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary():
    windows = np.random.default_rng(1).integers(0, 64, (3, 257))
    model = Fixed(np.zeros((64, 64), np.float32))
    np.testing.assert_allclose(evaluation.perplexity(model, None, windows, "t"), 64.0, rtol=1e-6)


def test_accuracy_counts_the_largest_logit_over_all_batches():
    labels = np.random.default_rng(2).integers(0, 10, 1203)
    inputs = labels.copy()
    inputs[:301] = (inputs[:301] + 1) % 10
    model = Fixed(np.eye(10, dtype=np.float32))
    assert evaluation.accuracy(model, None, inputs, labels, "t") == pytest.approx(902 / 1203)


def test_windows_spread_over_the_whole_text():
    windows = evaluation.text_windows(np.arange(10_000), 5)
    assert windows.shape == (5, 257)
    assert (windows[0, 0], windows[-1, -1]) == (0, 9999)
    np.testing.assert_array_equal(np.diff(windows), 1)


def test_more_windows_than_places_are_not_counted_twice():
    assert len(evaluation.text_windows(np.arange(259), 100)) == 3


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(DataError, match="has 256 tokens, a window needs 257"):
        evaluation.text_windows(np.arange(256), 1)

"""Replays with figures of our choice, as tests of reports and injections need them."""

import numpy as np

from system.validation.replay import CodeErrors, ColumnErrors
from system.validation.sampling import Conversions, Stimuli


def column_errors(ours, spice, natural=2):
    ours, spice = np.atleast_2d(ours).astype(float), np.atleast_2d(spice).astype(float)
    stimuli = Stimuli(np.arange(len(ours)), natural)
    return ColumnErrors(0, np.arange(ours.shape[1]), stimuli, ours, spice, ours < 250)


def code_errors(differences, distance, kind, near_share):
    n = len(differences)
    chosen = Conversions(
        np.arange(n), np.arange(n), np.full(n, 0.5, np.float32), np.array(distance),
        np.array(kind), np.array(distance) < 0.03, near_share,
    )  # fmt: skip
    ours, none = np.array(differences), np.zeros(n, np.int64)
    return CodeErrors(None, chosen, ours, ours, none)

"""The ranges of a network's codes, measured in float on training data of its task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from system import evaluation
from system.calibration import RANGE_CHOICES, TRIM_CHOICES, Ranges, calibrate
from system.models.language import LanguageModel
from system.models.ops import Ops
from system.quantization import Mapping
from system.range_cache import load_ranges, range_key, store_ranges

if TYPE_CHECKING:
    from system.networks import Network

log = logging.getLogger(__name__)


def trims(mapping: Mapping) -> bool:
    """Return whether any layer's columns are trimmed on every chip."""
    return any(one.output_trim for one in mapping.every())


def run_windows(model: LanguageModel, windows: NDArray[np.int64], ops: Ops) -> list[Any]:
    """Return the logits of windows (n, tokens) but for each one's last; -1 is beyond its end."""
    return [model.forward(w[w >= 0][None, :-1], ops) for w in windows]


class Calibration:
    """The ranges of a network's codes, measured in float on training data of its task.

    They are kept in the cache folder under the sha256 of everything they depend on.

    Attributes
    ----------
    key : this sha256.
    """

    def __init__(self, network: Network, tile_rows: int) -> None:
        self._network, self._rows = network, tile_rows
        self._inputs = network.calibration_inputs()
        mapping, config = network.mapping, network.checkpoint.config
        choices = {
            "config": {k: v for k, v in config.items() if k not in ("mapping", "base", "adapter")},
            "tile_rows": tile_rows,
            **mapping.chosen(RANGE_CHOICES),
            **({"trim": mapping.chosen(TRIM_CHOICES)} if trims(mapping) else {}),
        }
        self.key = range_key(network.model.tensors, self._inputs, choices)

    def ranges(self) -> Ranges:
        """Return the ranges; measures them if they are not kept."""
        kept = load_ranges(self.key)
        if kept is not None:
            return kept
        network, inputs = self._network, self._inputs
        model = network.model
        log.info("Measuring the ranges of the codes of %s on training data.", network.name)

        def forward(ops: Ops) -> object:
            if isinstance(model, LanguageModel):
                return run_windows(model, inputs, ops)
            return evaluation.outputs(model, ops, inputs)

        found = calibrate(model.tensors, forward, network.mapping, self._rows)
        store_ranges(self.key, found)
        return found

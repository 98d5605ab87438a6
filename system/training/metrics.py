"""metrics.json of a checkpoint: its losses in training, and what it scores on circuits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from behavioral.library import Library
from system.files import write_json
from system.inference import evaluate
from system.networks import Network

FILE = "metrics.json"
CHIPS = 3
WINDOWS, IMAGES = 4, 500  # scored if nobody says how many
MEAN_OF = 20  # steps of an entry of the losses


def write(
    network: Network, place: Path, library: Library, losses: Sequence[float], *,
    samples: int | None, seed: int,
) -> None:  # fmt: skip
    """Score a checkpoint on a few test samples, and write it beside the weights.

    A first look: docs/accuracy.md has whole test sets on ten chips. Nothing is chosen by it.

    Parameters
    ----------
    network : loaded from the directory.
    place : the checkpoint's directory.
    library : circuits of the chips.
    losses : of every training step; none where there were no steps.
    samples : test images, or windows of text; None: `IMAGES`, `WINDOWS`.
    seed : of the chips.
    """
    count = samples or (WINDOWS if network.metric == "perplexity" else IMAGES)
    results = [
        evaluate(network, library, mode=mode, samples=count, chips=CHIPS, seed=seed)
        for mode in ("float", "quantized", "ideal-analog", "noisy")
    ]
    parts = [losses[k : k + MEAN_OF] for k in range(0, len(losses), MEAN_OF)]
    loss = [round(float(np.mean(part)), 6) for part in parts]
    write_json(
        place / FILE,
        {
            "metric": network.metric,
            "samples": results[0].samples,
            **{result.mode: result.mean for result in results[:-1]},
            "noisy": results[-1].values,
            "library_sha256": library.sha256,
            "seed": seed,
            **({"loss": loss, "steps_per_loss": MEAN_OF} if loss else {}),
        },
    )

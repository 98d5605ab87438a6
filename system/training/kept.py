"""The state of an unfinished training in a file: the same command, given again, goes on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from circuits.errors import CheckpointError
from circuits.files import replacing

log = logging.getLogger(__name__)

EVERY = 20  # steps between two writings of the state
State = dict[str, Any]


class Stateful(Protocol):
    """What changes from step to step beside the parameters, as torch's modules put it."""

    def state_dict(self) -> State:
        """Return the state as tensors in plain containers."""

    def load_state_dict(self, state: State) -> None:
        """Take a state up again."""


class KeptTraining:
    """A file beside the checkpoint that a training is to write.

    Parameters
    ----------
    place : the file; it is there whole or not at all.
    origin : what the training depends on, as plain values.
    arrays : and as arrays: data, weights at the start.
    every : steps between two writings.

    Attributes
    ----------
    losses : of the steps so far.
    """

    def __init__(
        self, place: Path, origin: Mapping[str, Any], arrays: Iterable[NDArray[Any]] = (),
        every: int = EVERY,
    ) -> None:  # fmt: skip
        self.place, self.every = place, every
        self.losses: list[float] = []
        digest = hashlib.sha256(json.dumps(origin, sort_keys=True).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        self._key = digest.hexdigest()

    def is_due(self, done: int, steps: int) -> bool:
        """Return whether the state is to be written after so many of the steps."""
        return done % self.every == 0 or done == steps

    def load(self) -> State | None:
        """Return the state as it was saved, with the steps "done"; None where there is none.

        Raises
        ------
        CheckpointError
            The file is damaged, or of another training.
        """
        if not self.place.exists():
            return None
        try:
            content = torch.load(self.place, weights_only=True)
            key, state = content["key"], content["state"]
            done = int(state["done"])
        except Exception as error:  # torch raises plain ones of many kinds for a damaged file
            raise CheckpointError(
                f"cannot read the kept training {self.place}: {error}; delete it to begin anew"
            ) from error
        if key != self._key:
            raise CheckpointError(
                f"{self.place} belongs to a training of another plan, library or data; give its "
                "command again, delete it, or give another --out"
            )
        log.info("%s: going on after step %d.", self.place, done)
        return dict(state)

    def save(self, done: int, state: State) -> None:
        """Write the state after so many steps."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.place) as scratch, scratch.open("wb") as file:
            torch.save({"key": self._key, "state": state | {"done": done}}, file)

    def remove(self) -> None:
        """Remove the file: what the training was for is written."""
        self.place.unlink(missing_ok=True)

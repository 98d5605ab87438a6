"""Parts of a result, kept while their run is unfinished: given again, the command goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from system import inputs
from system.files import write_json


class Pieces:
    """Finished parts below a run directory.

    Parameters
    ----------
    folder : made when the first part is kept.
    origin : what all parts depend on besides the files that were read: command line and versions.
    """

    def __init__(self, folder: Path, origin: dict[str, Any]) -> None:
        self._folder, self._origin = folder, origin

    def take(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the part of that name; it is made, and kept, where the same run left none.

        Parameters
        ----------
        name : of the file, without ending.
        make : gives the part as plain values for JSON.
        """
        place = self._folder / f"{name}.json"
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            if found["of"] == self._key:
                return dict(found["part"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is none, or it is damaged: made anew
        part = make()
        self._folder.mkdir(exist_ok=True)
        write_json(place, {"of": self._key, "part": part})
        return part

    def clear(self) -> None:
        """Remove all parts: the run is whole."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @cached_property
    def _key(self) -> str:
        """Return the sha256 of all that the parts depend on."""
        read = {inputs.title(place): inputs.sha256(place) for place in sorted(inputs.seen())}
        text = json.dumps([self._origin, read], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

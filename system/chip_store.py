"""Programmed layers kept in a folder, and mapped into memory from there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import behavioral
from behavioral import mapped
from circuits.errors import FormatError, NldpeError
from system.layer_state import CLASSES, LayerState
from system.quantization import Float

# Modules beside those of `behavioral` that decide what is programmed.
PROGRAMS = (
    "calibration", "conversion", "hardware", "layer_spec", "layer_state", "linear", "quantization",
    "weights/acam_windows",
)  # fmt: skip


class ChipStore:
    """The layers of one programmed chip, a file each, named after all that decides their bytes.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    parts
        What all layers of this run have in common: library, mapping, chip, devices.

    Raises
    ------
    NldpeError
        The folder cannot be made or written.
    """

    def __init__(self, folder: Path, *parts: Any):
        self.folder = folder
        self._common = mapped.digest([_sources(), *parts])
        self._keys: dict[str, str] = {}  # of layers asked for before: weights are long to digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NldpeError(f"cannot keep chips in {folder}: {error.strerror}") from error

    def layer(
        self, name: str, inputs: Sequence[Float | None], program: Callable[[], LayerState]
    ) -> LayerState:
        """Return a layer as it is kept; programs and keeps it first if it is not there.

        Parameters
        ----------
        name : str
        inputs : arrays that decide the layer: weights, bias, ranges
        program : makes the layer

        Raises
        ------
        NldpeError
            The folder cannot be written, or the disk is full.
        """
        place, key = self._place(name, inputs)
        kept = self._read(place, key)
        if kept is not None:
            return kept
        state = program()
        try:
            mapped.write(place, state, key)
        except OSError as error:
            raise NldpeError(
                f"cannot keep layer {name} in {self.folder}: {error}; free some space, name "
                "another folder, or leave --chips-dir out"
            ) from error
        return self._read(place, key) or state

    def keeps(self, name: str, inputs: Sequence[Float | None]) -> bool:
        """Return whether there is a file of this layer; arguments as of `layer`."""
        return self._place(name, inputs)[0].exists()

    def _place(self, name: str, inputs: Sequence[Float | None]) -> tuple[Path, str]:
        """Return the file of a layer, and what it must say that it holds."""
        key = self._keys.get(name) or mapped.digest([self._common, name, *inputs])
        self._keys[name] = key
        return self.folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[-100:]}-{key[:16]}.h5", key

    def _read(self, place: Path, key: str) -> LayerState | None:
        """Return what is kept; a damaged file counts as missing, and is written anew."""
        if not place.exists():
            return None
        try:
            found = mapped.read(place, CLASSES, key)
        except FormatError:
            return None
        return found if isinstance(found, LayerState) else None


@cache
def _sources() -> str:
    """Return a digest of the code that programs: another version gives other chips."""
    models, here = Path(str(behavioral.__file__)).parent, Path(__file__).parent
    files = [*sorted(models.rglob("*.py")), *(here / f"{name}.py" for name in PROGRAMS)]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files)).hexdigest()

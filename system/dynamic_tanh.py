"""Dynamic Tanh in place of a normalisation: weight tanh(alpha x) + bias, the tanh in ACAM units."""

from __future__ import annotations

from collections.abc import Mapping as Table
from functools import partial

import numpy as np
from numpy.typing import NDArray

from behavioral.acam import AcamModel, Seed
from behavioral.log_units import LevelFunction, unit_tables
from behavioral.noise import seed_path
from system.calibration import Ranges, peaks
from system.layer_spec import FLAT_ABOVE
from system.models.ops import Array
from system.quantization import InputCodes, Mapping
from system.weights.acam_windows import place_tuned

UNITS = 256  # ACAM units of a core; channel j goes through unit j modulo these


class TanhUnits:
    """ACAM units that give tanh(alpha x) at the levels of a DAC; the rest is digital.

    `function` is what they give there.

    The DAC reaches as far as calibration saw inputs, at most to where tanh is flat.

    Parameters
    ----------
    acam : AcamModel or None
        None: the exact function of the codes.
    name : str
    tensors : of the network; alpha (1,), weight and bias (channels,) of this name.
    ranges : Ranges
        With `NAME.a`, the largest magnitude of an input.
    mapping : Mapping
        Of this name.
    seed, noise
        As in `AcamModel.program`.
    """

    def __init__(
        self, acam: AcamModel | None, name: str, tensors: Table[str, Array], ranges: Ranges,
        mapping: Mapping, seed: Seed = 0, noise: bool = False,
    ) -> None:  # fmt: skip
        alpha = float(tensors[f"{name}.alpha"][0])
        self._weight, self._bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        peak = float(peaks(ranges, f"{name}.a", 1, mapping.output_margin, shared=True)[0])
        reach = min(peak, FLAT_ABOVE["tanh"] / max(abs(alpha), 1e-12))
        self._codes = InputCodes.from_range(-reach, reach, mapping.input_bits)
        top = 2**mapping.output_bits - 1
        levels = self._codes.scale * (np.arange(self._codes.top + 1) - self._codes.zero)
        values = np.tanh(alpha * levels)
        most = np.abs(values).max()
        wanted = np.floor((values / most + 1.0) / 2.0 * top + 0.5).astype(np.int64)
        copies = mapping.output_copies if noise else 1  # without noise they are equal
        self.function = LevelFunction(
            f"{name}.acam.tanh", wanted[None], mapping.output_bits, copies
        )
        found, _ = unit_tables(
            acam, self.function, True, UNITS, (*seed_path(seed), ord("t")), noise,
            partial(place_tuned, ranges),
        )  # fmt: skip
        values = most * (2.0 * found / (copies * top) - 1.0)
        self._values = np.asarray(values, np.float32)

    def levels(self, x: Array) -> NDArray[np.int64]:
        """Return the DAC levels of inputs."""
        codes = self._codes
        steps = np.floor(x / np.float32(codes.scale) + np.float32(codes.zero + 0.5))
        return np.asarray(np.clip(steps, 0, codes.top), np.int64)

    def forward(self, x: Array) -> Array:
        """Return weight tanh(alpha x) + bias for x (..., channels)."""
        units = np.arange(x.shape[-1]) % len(self._values)
        out: Array = self._weight * self._values[units, self.levels(x)] + self._bias
        return out

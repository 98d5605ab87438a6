"""acam.h5 of a checkpoint: the windows of its ACAM units, read without torch.

Layout, a group for each set of windows, named as in the ranges of a network:

- "NAME.acam.0", ... of the activation of a layer (`system.layer_spec.LayerSpec.placements`), and
  "NAME.acam.fine.0", ... of its second read-out range
- "acam.identity.8x1" of units that hand on the code of the data line: bits, and units in parallel
- "acam.log.8-8.1x1.0", ... of the log units of products: bits of the magnitude and of the code,
  places at which units in parallel round, units at each place; then the number of the place
- "acam.exp.31-8.1x1.0", ... of exp units: steps an octave, bits of the code, and as before

and in each group:

- attributes `x_range`, `y_range` (2,): arguments and values at the ends of the code range that the
  windows are for; `error_before`, `error_after`: rms of the codes' errors on noisy columns that
  training did not see, with exact windows and with these [codes]; units in parallel: of the mean
  of their codes, the same figure in the groups of all places
- datasets `lo`, `hi` (rows,) float64 [units of the argument]: infinite where a bound is open;
  `bit` (rows,) uint8

Root attributes: `filetype`, `format_version`, and `origin`, JSON of what made the file; its `step`
is "exact", "trees", "acam" or "trees,acam". Its `mapping` is the one that the windows fit; `ranges`
names the ranges, where they are measured whenever the network is loaded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.windows import Windows
from circuits.errors import CheckpointError
from circuits.files import write_bytes

FILE = "acam.h5"
FILETYPE, VERSION = "nldpe-acam-windows", 1
REMEDY = "make it again: nldpe finetune MODEL --steps acam, or remove it"
Ends = tuple[float, float]


@dataclass(frozen=True)
class TunedWindows:
    """One set of windows; fields as in `behavioral.windows.Windows` and the module's text."""

    lo: NDArray[np.float64]
    hi: NDArray[np.float64]
    bit: NDArray[np.int64]
    x_range: Ends
    y_range: Ends
    error_before: float
    error_after: float

    def to_ranges(self, key: str) -> dict[str, NDArray[Any]]:
        """Return the two entries of a network's ranges: KEY (3, rows) and KEY.range (4,)."""
        rows = np.stack([self.lo, self.hi, self.bit.astype(np.float64)])
        return {key: rows, f"{key}.range": np.array([*self.x_range, *self.y_range])}


def is_windows(key: str) -> bool:
    """Say whether an entry of a network's ranges holds tuned windows."""
    return ".acam." in f".{key}."


def place_tuned(ranges: Mapping[str, NDArray[Any]], key: str, exact: Windows) -> Windows:
    """Return windows as fine-tuned, if the ranges of a network hold them; else the exact ones.

    Raises
    ------
    CheckpointError
        They are those of another function.
    """
    rows = ranges.get(key)
    if rows is None:
        return exact
    ends = np.array([*exact.x_range, *exact.y_range])
    kept = ranges.get(f"{key}.range", np.full(4, np.nan))
    slack = 1e-3 * np.repeat([np.ptp(exact.x_range), np.ptp(exact.y_range)], 2)
    same = rows.shape == (3, exact.rows) and np.array_equal(rows[2], exact.bit)
    if not same or not (np.abs(kept - ends) <= slack).all():
        raise CheckpointError(
            f"the windows {key} of acam.h5 are {rows.shape[-1]} rows for arguments and values"
            f" from {kept.tolist()}; the layer has {exact.rows} rows for {ends.tolist()}: tune"
            " them again (nldpe finetune MODEL --steps acam) or remove acam.h5"
        )
    return replace(exact, lo=rows[0], hi=rows[1])


def load_windows(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the windows of a checkpoint's directory for its ranges, and what made them.

    Both empty if it has none. Errors as of `read_windows`.
    """
    if not (folder / FILE).exists():
        return {}, {}
    found, origin = read_windows(folder / FILE)
    return {k: v for key, one in found.items() for k, v in one.to_ranges(key).items()}, origin


def write_windows(path: Path, found: Mapping[str, TunedWindows], origin: Mapping[str, Any]) -> None:
    """Write a file of windows, whole or not at all; the same content gives the same bytes."""
    import h5py

    memory = io.BytesIO()
    # Groups of the older format take three times the bytes of what is in them.
    with h5py.File(memory, "w", libver=("v110", "v110")) as file:
        file.attrs["filetype"], file.attrs["format_version"] = FILETYPE, VERSION
        file.attrs["origin"] = json.dumps(origin, sort_keys=True)
        for key in sorted(found):
            windows, group = found[key], file.create_group(key)
            for name, kind in (("lo", np.float64), ("hi", np.float64), ("bit", np.uint8)):
                rows = getattr(windows, name).astype(kind)
                group.create_dataset(
                    name, data=rows, compression="gzip", shuffle=True, fletcher32=True
                )
            for name in ("x_range", "y_range", "error_before", "error_after"):
                group.attrs[name] = getattr(windows, name)
    write_bytes(path, memory.getvalue())


def read_windows(path: Path) -> tuple[dict[str, TunedWindows], dict[str, Any]]:
    """Return the windows of a file by key, and what made it.

    Raises
    ------
    CheckpointError
        The file is damaged, of another type or version, or its windows are none.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
            kind, version = file.attrs["filetype"], int(file.attrs["format_version"])
            if (kind, version) != (FILETYPE, VERSION):
                raise CheckpointError(
                    f"{path} is of type {kind!r}, version {version}; wanted {FILETYPE!r},"
                    f" version {VERSION}; {REMEDY}"
                )
            found = {key: _read(file[key]) for key in file}
            origin = json.loads(file.attrs["origin"])
    except CheckpointError:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError ...
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read ({text}); {REMEDY}") from error
    for key, windows in found.items():
        _check(windows, f"{path}: {key}")
    return found, origin


def _read(group: Any) -> TunedWindows:
    lo, hi, bit = (np.asarray(group[name][:]) for name in ("lo", "hi", "bit"))
    ends = [tuple(map(float, group.attrs[name])) for name in ("x_range", "y_range")]
    errors = [float(group.attrs[name]) for name in ("error_before", "error_after")]
    return TunedWindows(
        lo.astype(np.float64), hi.astype(np.float64), bit.astype(np.int64),
        (ends[0][0], ends[0][1]), (ends[1][0], ends[1][1]), errors[0], errors[1],
    )  # fmt: skip


def _check(windows: TunedWindows, where: str) -> None:
    lo, hi, bit = windows.lo, windows.hi, windows.bit
    if lo.ndim != 1 or lo.shape != hi.shape or lo.shape != bit.shape:
        raise CheckpointError(
            f"{where}: lo {lo.shape}, hi {hi.shape} and bit {bit.shape} differ; {REMEDY}"
        )
    if np.isnan(lo).any() or np.isnan(hi).any() or (bit < 0).any() or (bit > 15).any():
        raise CheckpointError(f"{where}: a bound is NaN, or a bit is not 0 to 15; {REMEDY}")

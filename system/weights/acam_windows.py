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
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavioral.windows import Function, Windows
from circuits.errors import CheckpointError
from circuits.files import write_bytes

log = logging.getLogger(__name__)

FILE = "acam.h5"
FILETYPE, VERSION = "nldpe-acam-windows", 1
REMEDY = "make it again: nldpe finetune MODEL --steps acam, or remove it"
SLACK = 1e-3  # of a range: so far ends may lie from those that windows are for
Ends = tuple[float, float]
Bounds = NDArray[np.float64]


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
    if not _fit(ranges, key, exact):
        raise _misfit(ranges, key, exact)
    return replace(exact, lo=rows[0], hi=rows[1])


def place_one_of(
    ranges: Mapping[str, NDArray[Any]], key: str, exact: Windows, function: Function
) -> Windows:
    """Return one of a layer's sets of windows as fine-tuned, for ranges that were measured anew.

    Another processor rounds ranges in another way. A column at the edge of a set may then belong to
    the next one: sets have other numbers, and reach to other arguments. Where windows do not fit,
    each bound moves as the same bound of the set for these values did; one that is new, or a set
    for values that no other has, stays exact.

    Raises
    ------
    CheckpointError
        The windows for these values are those of another function.
    """
    if key in ranges and _fit(ranges, key, exact):
        return place_tuned(ranges, key, exact)
    part = f"{key.rpartition('.')[0]}."
    sets = [k for k in ranges if k.startswith(part) and k.removeprefix(part).isdecimal()]
    alike = [k for k in sets if _near(_ends(ranges, k)[2:], exact.y_range)]
    if not alike:
        if sets:
            log.warning("%s: acam.h5 has no windows for its values; exact ones are taken.", key)
        return exact
    nearest = min(alike, key=lambda k: np.abs(_ends(ranges, k)[:2] - exact.x_range).sum())
    ends, rows = _ends(ranges, nearest), ranges[nearest]
    before = Windows.from_function(
        function, (ends[0], ends[1]), (ends[2], ends[3]), bits=exact.bits, gray=exact.gray
    )
    if not _fit(ranges, nearest, before):
        raise _misfit(ranges, nearest, before)
    code = float(np.ptp(exact.x_range)) / (2**exact.bits - 1)
    bits = exact.bit[:, None] == before.bit
    lo, hi = (
        own + _shift(own, old, tuned, bits, code)
        for own, old, tuned in ((exact.lo, before.lo, rows[0]), (exact.hi, before.hi, rows[1]))
    )
    return replace(exact, lo=lo, hi=hi)


def _shift(own: Bounds, old: Bounds, tuned: Bounds, same: NDArray[np.bool_], code: float) -> Bounds:
    """Return how far bounds (n,) move: as the nearest old one (m,), where the bit is the same."""
    open_, old = np.isinf(old), np.where(np.isinf(old), 0.0, old)
    far = np.where(same & ~open_, np.abs(own[:, None] - old), np.inf)
    nearest = far.argmin(axis=1)
    return np.where(far.min(axis=1) < code, (tuned - old)[nearest], 0.0)


def _ends(ranges: Mapping[str, NDArray[Any]], key: str) -> NDArray[np.float64]:
    """Return the arguments and values (4,) at the ends of a set of windows."""
    return np.asarray(ranges.get(f"{key}.range", np.full(4, np.nan)))


def _near(ends: NDArray[np.float64], wanted: Ends) -> bool:
    return bool((np.abs(ends - wanted) <= SLACK * np.ptp(wanted)).all())


def _fit(ranges: Mapping[str, NDArray[Any]], key: str, exact: Windows) -> bool:
    """Say whether the windows of a network are those of a function, but for tuning."""
    rows, ends = ranges[key], _ends(ranges, key)
    same = rows.shape == (3, exact.rows) and np.array_equal(rows[2], exact.bit)
    return same and _near(ends[:2], exact.x_range) and _near(ends[2:], exact.y_range)


def _misfit(ranges: Mapping[str, NDArray[Any]], key: str, exact: Windows) -> CheckpointError:
    return CheckpointError(
        f"the windows {key} of acam.h5 are {ranges[key].shape[-1]} rows for arguments and values"
        f" from {_ends(ranges, key).tolist()}; the layer has {exact.rows} rows for"
        f" {[*exact.x_range, *exact.y_range]}: tune them again (nldpe finetune MODEL --steps acam)"
        " or remove acam.h5"
    )


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

"""Measured conductances and currents of devices, read from CSV."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from circuits.errors import DataError, ParameterError
from circuits.toml_file import nearest
from circuits.units import parse_number

Floats = NDArray[np.float64]

NUMBERS = ("target_s", "measured_s", "read_index", "voltage_v", "current_a")
COLUMNS = (*NUMBERS, "cell")
LARGEST = 1e6  # far beyond any device, and its square still a number
STEP = "nldpe devices fit --help names the columns"


@dataclass(frozen=True)
class Measurements:
    """Rows of a measurement; a quantity that a row lacks is NaN.

    Attributes
    ----------
    target_s, measured_s : (n,) float arrays [S]
        Conductance that was to be programmed, and what a read gave.
    voltage_v, current_a : (n,) float arrays [V], [A]
        Points of I-V curves.
    cell : (n,) int array
        Number of the programmed state a row belongs to: programmed once, read once or often.
    """

    target_s: Floats
    measured_s: Floats
    voltage_v: Floats
    current_a: Floats
    cell: NDArray[np.intp]

    @classmethod
    def from_csv(cls, path: str | Path) -> Self:
        """Read a table with a header line.

        Columns: ``target_s``, and ``measured_s`` or ``voltage_v`` with ``current_a``, or all.
        ``cell`` names the programmed state of a row. Without it, ``read_index`` starts a new state
        where it does not grow; without both, every conductance is a state of its own, and an I-V
        curve lasts as long as the target does not change. Numbers may carry SPICE suffixes.

        Raises
        ------
        DataError
            The file cannot be read, a column is unknown or missing, or a value is no number, not
            finite, or a target that is not positive; the message names the line.
        """
        rows = _read_rows(Path(path))
        values = {
            name: np.array([_number(path, k, row, name) for k, row in rows]) for name in NUMBERS
        }
        for (line, _), target in zip(rows, values["target_s"], strict=True):
            if not target > 0:
                raise DataError(f"{path}, line {line}: target_s must be positive [S]")
        names = [row.get("cell", "") for _, row in rows]
        cell = _cells(values, names if any(names) else None)
        return cls(
            values["target_s"], values["measured_s"], values["voltage_v"], values["current_a"], cell
        )


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, {column: text}) of all rows that are not empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            header = [name.strip() for name in reader.fieldnames or []]
            _check_header(path, header)
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; {STEP}") from error
    for line, row in rows:
        if row.get(""):
            raise DataError(f"{path}, line {line}: more values than the header has columns")
    rows = [(line, row) for line, row in rows if any(text.strip() for text in row.values())]
    if not rows:
        raise DataError(f"{path} holds no rows; {STEP}")
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            similar = nearest(name, list(COLUMNS))
            raise DataError(
                f"{path}: unknown column {name!r}{similar}; permitted: {', '.join(COLUMNS)}"
            )
    if len(set(header)) < len(header):
        raise DataError(f"{path}: a column stands twice in the header: {', '.join(header)}")
    has_iv = {"voltage_v", "current_a"} <= set(header)
    if "target_s" not in header or not (has_iv or "measured_s" in header):
        raise DataError(
            f"{path}: needs the column target_s, and measured_s or voltage_v with current_a; it has"
            f" {', '.join(header) or 'no header'}; {STEP}"
        )


def _number(path: str | Path, line: int, row: dict[str, str], name: str) -> float:
    text = (row.get(name) or "").strip()
    if not text:
        return np.nan
    try:
        value = parse_number(text)
    except ParameterError as error:
        raise DataError(f"{path}, line {line}: {name}: {error}") from None
    if not abs(value) < LARGEST:
        raise DataError(
            f"{path}, line {line}: {name} = {text} is out of range; permitted: up to {LARGEST:g} in"
            " siemens, volt or ampere"
        )
    return value


def _cells(values: dict[str, Floats], names: list[str] | None) -> NDArray[np.intp]:
    """Number the programmed states."""
    target, index = values["target_s"], values["read_index"]
    if names is not None:
        keys = [f"{name} at {g!r}" for name, g in zip(names, target, strict=True)]
        return np.unique(keys, return_inverse=True)[1]
    changed = target[1:] != target[:-1]
    if np.isfinite(index).any():
        begins = changed | ~(index[1:] > index[:-1])
    else:
        begins = changed | ~np.isfinite(values["current_a"][1:])
    return np.concatenate([[0], np.cumsum(begins)])

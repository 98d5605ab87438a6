"""What was measured at one corner: from ngspice, from an HDF5 file, to a file."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from behavioral.groups import read_group, write_group
from behavioral.layout import COMPLETE_IF_ANY, REQUIRED, circuits_of
from circuits.errors import FormatError, ParameterError, SimulationError
from circuits.parameters import Device, Technology

CORNER = "nominal"


@dataclass(frozen=True)
class Tables:
    """What ngspice measured at one corner, and the technology at that corner."""

    technology: Technology
    acam: Any
    crossbar: Any
    readout: Any
    row_transfer: Any = None

    @classmethod
    def from_spice(
        cls,
        device: Device,
        technology: Technology,
        corner: str,
        *,
        samples: int = 0,
        adaptive_lsb: float | None = None,
        **options: Any,
    ) -> Self:
        """Run all circuits; only the nominal corner keeps its netlists.

        Parameters
        ----------
        device, technology : Device, Technology
            The technology as it is at the corner.
        corner : str
        samples : int
            Cells of the mismatch Monte-Carlo.
        adaptive_lsb : float, optional
            As in `Library.from_spice`.
        **options
            Of the circuits' ``characterize``.

        Raises
        ------
        SimulationError
            ngspice is missing, or points that an inference needs failed.
        """
        from circuits import acam, crossbar, readout, row_transfer

        parts: dict[str, Any] = {
            "acam": acam.characterize(
                device, technology, samples=samples, adaptive_lsb=adaptive_lsb, **options
            ),
            "crossbar": crossbar.characterize(
                device, technology, samples=samples, adaptive_lsb=adaptive_lsb, **options
            ),
            "readout": readout.characterize(device, technology, samples=samples, **options),
        }
        if "row_transfer" in circuits_of(technology):
            parts["row_transfer"] = row_transfer.characterize(device, technology, **options)
        missing = missing_points(parts)
        if missing:
            where = "" if corner == CORNER else f" at the corner {corner}"
            raise SimulationError(
                f"the library is incomplete{where}: {'; '.join(missing)}. "
                + (_unreachable(parts["acam"], device, technology) or FAILED)
            )
        if corner != CORNER:
            for name, data in parts.items():
                origin = dataclasses.replace(data.provenance, netlists={})
                parts[name] = dataclasses.replace(data, provenance=origin)
        return cls(technology, **parts)

    @classmethod
    def from_hdf5(cls, file: Any, corner: str, technology_toml: str) -> Self:
        """Read the groups of one corner.

        Raises
        ------
        FormatError
            A group or dataset is missing, a table lacks points, or unknown parameters.
        """
        try:
            technology = Technology.from_text(technology_toml, where="technology")
        except ParameterError as error:
            raise FormatError(made_otherwise(error)) from error
        names = circuits_of(technology)
        missing = [name for name in names if f"{name}/{corner}" not in file]
        if missing:
            raise FormatError(
                f"group {', '.join(f'{name}/{corner}' for name in missing)} is missing"
            )
        parts = {name: read_group(file[f"{name}/{corner}"], name) for name in names}
        incomplete = missing_points(parts)
        if incomplete:
            raise FormatError("; ".join(incomplete))
        return cls(technology, **parts)


def write_tables(file: Any, corner: str, tables: Any) -> None:
    """Write the groups of one corner; a whole library stands for its own."""
    for name in circuits_of(tables.technology):
        part = file.create_group(f"{name}/{corner}")
        part.attrs["temperature_c"] = float(tables.technology.temperature_c)
        write_group(part, name, getattr(tables, name))


FAILED = (
    "Finished points are in the cache; see the kept netlists of the failed ones, change the "
    "parameters, and run nldpe characterize again"
)


def made_otherwise(error: Exception) -> str:
    """Return the message for parameters that this version does not know."""
    return f"made by another version of this program ({str(error).splitlines()[0]})"


def _unreachable(acam: Any, device: Device, technology: Technology) -> str:
    """Say what to do about conductances that no data line makes a bound; empty: netlists failed."""
    good = np.isfinite(acam.lower_v) & np.isfinite(acam.upper_v)
    if acam.provenance.failed or good.all() or not good.any():
        return ""
    first, last = acam.g[good][[0, -1]]
    ends = []
    if good[-1] < 1:
        ends.append(
            f"g_max_s = {device.g_max_s:g} conducts more than the cell's transistor at any voltage "
            f"of the data line; lower it (below {device.g_max_s * last / acam.g[-1]:.2g}) or widen "
            f"the transistor (acam.w1_m, now {technology.acam.w1_m:g})"
        )
    if good[0] < 1:
        ends.append(
            f"g_min_s = {device.g_min_s:g} conducts less than the transistor leaks; raise it "
            f"(above {device.g_min_s * first / acam.g[0]:.2g}) or narrow the transistor (acam.w1_m)"
        )
    return f"No simulation failed: {'; '.join(ends)} (--set KEY=VALUE)" if ends else ""


def missing_points(parts: dict[str, Any]) -> list[str]:
    """Required tables with NaN, in words."""
    found = []
    for name, fields in REQUIRED.items():
        for key in fields if name in parts else ():
            values = np.asarray(getattr(parts[name], key), float)
            bad = int((~np.isfinite(values)).sum())
            if bad or not values.size:
                found.append(f"{name}/{key} lacks {bad} of {values.size} points")
    found += [
        f"{name}/{key} is not measured"
        for name, fields in COMPLETE_IF_ANY.items()
        for key in fields
        if not np.isfinite(np.asarray(getattr(parts[name], key), float)).all()
    ]
    return found

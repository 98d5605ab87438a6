"""The library: one HDF5 file holds everything characterised of one technology and device.

The layout is described in ``docs/library-format.md``. Files are written in one go from an image in
memory and hold no wall-clock time, so equal runs give equal bytes and the SHA-256 names the result.
The user block in front of the HDF5 data holds the SHA-256 of these data: it is verified before
HDF5 parses anything, since damaged metadata can crash that library.
"""

import dataclasses
import hashlib
import io
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from behavioral.layout import circuits_of
from behavioral.tables import CORNER, Tables, made_otherwise, write_tables
from circuits.errors import FormatError, ParameterError
from circuits.files import write_bytes
from circuits.parameters import Device, Technology

if TYPE_CHECKING:
    from behavioral.variation import Variation

FILETYPE = "nldpe-library"
VERSION = (2, 2)
HEAD_BYTES = 512  # smallest user block of HDF5
REMEDY = "make it again: nldpe characterize --out FILE.h5"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """Characterised tables of one technology and device.

    Build it with :meth:`from_spice` or :meth:`from_hdf5`.

    Attributes
    ----------
    device, technology : Device, Technology
        The parameters that were simulated.
    acam, crossbar, readout : AcamData, CrossbarData, ReadoutData
        What ngspice measured, in SI units; see :mod:`circuits`.
    row_transfer : RowTransferData or None
        The same of a row driver; None where rows are driven ideally.
    errors : dict of str to float
        Held-out error of the look-up models against ngspice, rms and max, in SI units and LSB.
    versions : dict of str to str
        Packages that made the tables.
    sha256 : str
        Of the file's bytes.
    corners : dict of str to Tables
        Further corners in the same file; `at` gives a library of one of them.
    corner : str
        Whose tables `technology`, `acam`, `crossbar` and `readout` are.
    variation : Variation or None
        Mismatch of the cells, and the tables that programming assumes; not stored.
    """

    device: Device
    technology: Technology
    acam: Any
    crossbar: Any
    readout: Any
    errors: dict[str, float]
    versions: dict[str, str]
    sha256: str
    corners: dict[str, Tables] = field(default_factory=dict)
    corner: str = CORNER
    variation: "Variation | None" = None
    row_transfer: Any = None

    @classmethod
    def from_spice(
        cls,
        device: Device,
        technology: Technology,
        *,
        corners: Mapping[str, Technology] | None = None,
        quick: bool = False,
        samples: int = 0,
        adaptive_lsb: float | None = None,
        **run_options: Any,
    ) -> Self:
        """Characterise all circuits with ngspice.

        Parameters
        ----------
        device, technology : Device, Technology
        corners : mapping of str to Technology
            Tables of these corners too, by name, without held-out points.
        quick : bool
            Coarser grids: for tests and first looks.
        samples : int
            Cells of the mismatch Monte-Carlo at each of three conductances; 0: none.
        adaptive_lsb : float, optional
            Instead of uniform conductance axes, halve intervals until interpolation misses their
            middles by no more than this: thresholds in 1/256 of the data line, cell currents in
            1/256 of the largest.
        **run_options
            Passed to :func:`circuits.plan.run`: workers, executor, cache, progress.

        Raises
        ------
        SimulationError
            ngspice is missing, or points that an inference needs failed. All that was simulated
            stays in the cache.
        """
        options = {"quick": quick, "adaptive_lsb": adaptive_lsb, **run_options}
        nominal = Tables.from_spice(device, technology, CORNER, samples=samples, **options)
        further = {
            name: Tables.from_spice(device, moved, name, checks=False, **options)
            for name, moved in (corners or {}).items()
        }
        parts = {name: getattr(nominal, name) for name in circuits_of(technology)}
        return cls.from_tables(device, technology, corners=further, **parts)

    @classmethod
    def from_tables(
        cls,
        device: Device,
        technology: Technology,
        *,
        acam: Any,
        crossbar: Any,
        readout: Any,
        row_transfer: Any = None,
        corners: dict[str, Tables] | None = None,
    ) -> Self:
        """Assemble a library from measured tables; computes held-out errors and the hash."""
        from behavioral.held_out import errors

        parts = acam, crossbar, readout
        further = {"corners": corners or {}, "row_transfer": row_transfer}
        draft = cls(device, technology, *parts, {}, _versions(), "", **further)
        draft = dataclasses.replace(draft, errors=errors(draft))
        return dataclasses.replace(draft, sha256=hashlib.sha256(draft._image()).hexdigest())

    @classmethod
    def from_hdf5(cls, path: str | Path) -> Self:
        """Read a library file completely into memory and close it.

        Raises
        ------
        FormatError
            Not a library, another format version, truncated, damaged or altered, a group or
            dataset is missing, or a table that inference needs holds NaN.
        """
        import h5py

        path = Path(path)
        try:
            image = path.read_bytes()
        except OSError as error:
            raise FormatError(f"cannot read library {path}: {error.strerror}; {REMEDY}") from error
        _check_head(image, path)
        try:
            with h5py.File(io.BytesIO(image), "r") as file:
                return cls._read(file, hashlib.sha256(image).hexdigest())
        except FormatError as error:
            raise FormatError(f"{path}: {error}; {REMEDY}") from error
        except Exception as error:  # h5py raises OSError, RuntimeError, KeyError ...
            raise FormatError(f"{path} cannot be read ({_first_line(error)}); {REMEDY}") from error

    @classmethod
    def _read(cls, file: Any, sha256: str) -> Self:
        nominal = Tables.from_hdf5(file, CORNER, file.attrs["technology_toml"])
        names = file.get("corners", {})  # since format 2.1
        try:
            device = Device.from_text(file.attrs["device_toml"], where="device")
        except ParameterError as error:
            raise FormatError(made_otherwise(error)) from error
        return cls(
            device=device,
            technology=nominal.technology,
            errors={str(key): float(value) for key, value in file["errors"].attrs.items()},
            versions=json.loads(file.attrs["versions"]),
            sha256=sha256,
            corners={
                name: Tables.from_hdf5(file, name, names[name].attrs["technology_toml"])
                for name in names
            },
            **{name: getattr(nominal, name) for name in circuits_of(nominal.technology)},
        )

    def at(self, corner: str) -> Self:
        """Return the library with the tables of one of its corners in use.

        Raises
        ------
        ParameterError
            The file has no tables of that corner; the message names those that it has.
        """
        if corner == self.corner:
            return self
        tables = self.corners.get(corner)
        if tables is None:
            has = ", ".join([self.corner, *self.corners])
            raise ParameterError(
                f"this library has no corner {corner!r}; it has: {has}. Make one that has: "
                "nldpe characterize --corners LIST"
            )
        return dataclasses.replace(self, corner=corner, corners={}, errors={}, **vars(tables))

    def to_hdf5(self, path: str | Path) -> None:
        """Write the library; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, self._image())

    def _image(self) -> bytes:
        """Bytes of the HDF5 file; a pure function of the content."""
        import h5py

        memory = io.BytesIO()
        with h5py.File(memory, "w", userblock_size=HEAD_BYTES) as file:
            file.attrs["filetype"] = FILETYPE
            file.attrs["format_version"] = VERSION
            file.attrs["versions"] = json.dumps(self.versions, sort_keys=True)
            file.attrs["device_toml"] = self.device.to_toml()
            file.attrs["technology_toml"] = self.technology.to_toml()
            group = file.create_group("errors")
            for key in sorted(self.errors):
                group.attrs[key] = self.errors[key]
            for corner in sorted(self.corners):
                place = file.create_group(f"corners/{corner}")
                place.attrs["technology_toml"] = self.corners[corner].technology.to_toml()
            for corner, tables in ((CORNER, self), *sorted(self.corners.items())):
                write_tables(file, corner, tables)
        return sealed(memory.getvalue())

    def summary(self) -> str:
        """Readable contents: origin, tables with axes and ranges, held-out errors."""
        from behavioral.report import summarize

        return summarize(self)

    def plot(self, path: str | Path) -> None:
        """Draw thresholds, cell current, column error and read-out transfer to an image file."""
        from behavioral.report import draw

        draw(self, Path(path))


def sealed(image: bytes) -> bytes:
    """Return a file image whose user block names the format and the SHA-256 of all that follows."""
    content = image[HEAD_BYTES:]
    return _head(VERSION, hashlib.sha256(content).hexdigest()) + content


def _head(version: tuple[int, ...], digest: str) -> bytes:
    text = (
        f"{FILETYPE} {version[0]}.{version[1]}\nsha256 of all bytes after {HEAD_BYTES}: {digest}\n"
    )
    return text.encode().ljust(HEAD_BYTES, b"\0")


def _check_head(image: bytes, path: Path) -> None:
    """Refuse what is no library, has another format, or is not as it was written."""
    found = re.match(rb"%s (\d{1,4})\.(\d{1,4})\n" % FILETYPE.encode(), image)
    if found is None:
        older = image.startswith(b"\x89HDF")
        reason = "is an HDF5 file but no library of this format" if older else "is no library"
        raise FormatError(f"{path} {reason}; {REMEDY}")
    version = int(found[1]), int(found[2])
    if version[0] != VERSION[0]:
        raise FormatError(
            f"{path}: format version {version[0]}.{version[1]}, this program reads "
            f"{VERSION[0]}.x; {REMEDY}"
        )
    digest = hashlib.sha256(image[HEAD_BYTES:]).hexdigest()
    if image[:HEAD_BYTES] != _head(version, digest):
        raise FormatError(
            f"{path} is truncated, damaged or was altered: its content does not match the SHA-256"
            f" in its head; {REMEDY}"
        )


def _versions() -> dict[str, str]:
    """Versions of what computes the tables."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("nldpe-cosim", "numpy", "scipy", "h5py", "PySpice"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

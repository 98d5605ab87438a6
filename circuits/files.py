"""Files that a reader sees whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Yield a name beside `place`; the file written there takes its place at the end.

    Whatever goes wrong in between, a full disk too, leaves `place` as it was and nothing beside it.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written, or the disk is full; it names a file.
    """
    scratch = place.with_name(f".{place.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield scratch
        scratch.replace(place)
    except OSError as error:
        if error.errno and error.filename is None:  # a write to a full disk does not say where
            error.filename = str(place)
        raise
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def write_bytes(place: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(place) as scratch:
        scratch.write_bytes(content)


def write_picture(place: Path, figure: Any, dpi: int) -> None:
    """Write a matplotlib figure in the format of the name's ending, whole or not at all."""
    with replacing(place) as scratch:
        figure.savefig(scratch, dpi=dpi, format=place.suffix.lower().lstrip("."))

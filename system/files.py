"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_text(place: Path, text: str) -> None:
    """Write a file so that a reader sees the whole of it or none, also when the disk is full."""
    if place.exists() and not place.is_file():  # a device or pipe, such as /dev/stdout
        place.write_text(text, encoding="utf-8")
        return
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        scratch.chmod(0o644)
        scratch.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


def write_json(place: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(place, json.dumps(content, indent=2) + "\n")

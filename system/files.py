"""Text and JSON that a reader sees whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from circuits.files import replacing


def write_text(place: Path, text: str) -> None:
    """Write a file so that a reader sees the whole of it or none, also when the disk is full."""
    if place.exists() and not place.is_file():  # a device or pipe, such as /dev/stdout
        place.write_text(text, encoding="utf-8")
        return
    with replacing(place) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(place: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(place, json.dumps(content, indent=2) + "\n")

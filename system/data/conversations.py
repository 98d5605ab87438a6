"""Conversations that SmolLM2 wrote itself, both sides: text of the kind that a chat model sees.

Ranges of chat models are measured on them too; see docs/language-models.md for what that is worth,
and `benchmarks/write_conversations.py` for how they were made. Nothing is scored on them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def conversations() -> list[list[str]]:
    """Return 24 conversations; the user begins, the last message may be cut short."""
    text = (files("system.data") / "conversations.json").read_text(encoding="utf-8")
    found: list[list[str]] = json.loads(text)
    return found

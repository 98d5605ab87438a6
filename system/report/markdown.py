"""A report as Markdown, its figures as SVG files in a folder beside it."""

from __future__ import annotations

from system.report.document import (
    Block,
    Cards,
    Gallery,
    Listing,
    Notice,
    Quote,
    Report,
    Table,
    Text,
)


def to_markdown(report: Report, folder: str) -> str:
    """Return the text; pictures are FOLDER/NAME.svg."""
    parts = [f"# {report.title}", report.subtitle]
    for section in report.sections:
        parts.append(f"## {section.title}")
        parts += [_block(block, folder) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block, folder: str) -> str:
    match block:
        case Text(text):
            return text
        case Notice(text):
            return f"> **Note:** {text}"
        case Cards(title, cards):
            lines = [
                f"- {c.label}: **{c.value}**" + (f" ({c.note})" if c.note else "") for c in cards
            ]
            return "\n".join([f"### {title}", "", *lines])
        case Table():
            return to_table(block)
        case Gallery(figures):
            return "\n\n".join(
                f"![{f.alt}]({folder}/{f.name}.svg)\n\n**{f.title}.** {f.caption}" for f in figures
            )
        case Quote(prompt, text, source):
            words = f"*{_plain(prompt)}*{_plain(text)}"
            return f"> {words}\n>\n> {source}"
        case Listing(title, text):
            return f"**{title}**\n\n```\n{text.strip()}\n```"


def to_table(table: Table) -> str:
    """Return one table."""
    lines = [_line(table.head), "|" + "".join({"l": "---|", "r": "---:|"}[s] for s in table.sides)]
    for row in table.rows:
        cells = [f"`{c}`" if k in table.code and c else c for k, c in enumerate(row)]
        lines.append(_line(tuple(cells)))
    caption = f"{table.caption}\n\n" if table.caption else ""
    return caption + "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in cells) + " |"


def _plain(text: str) -> str:
    """Return text without what Markdown would read as markup."""
    return " ".join(
        "".join(f"\\{c}" if c in "*_`#<>[]|\\" else c for c in text).split(" ")
    ).replace("\n", "  \n> ")

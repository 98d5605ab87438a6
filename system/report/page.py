"""A report as one HTML page: nothing is fetched, nothing runs, it follows the reader's colours."""

from __future__ import annotations

import html
import re
from importlib.resources import files

from system.report.document import (
    Block,
    Cards,
    Figure,
    Gallery,
    Listing,
    Notice,
    Quote,
    Report,
    Section,
    Table,
    Text,
)
from system.report.figures import inline

# The browser itself refuses whatever would leave the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
LONG = 36  # characters from which a cell is a sentence, and wants room on a phone


def to_html(report: Report) -> str:
    """Return the page."""
    style = files("system.report").joinpath("page.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{s.key}">{_escape(s.title)}</a></li>' for s in report.sections)
    body = "\n".join(_section(section) for section in report.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{_escape(report.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{_escape(report.title)}</h1>
<p>{_text(report.subtitle)}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    inner = "\n".join(_block(block) for block in section.blocks)
    title = _escape(section.title)
    heading = f'<h2 id="{section.key}-title">{title}</h2>'
    return (
        f'<section id="{section.key}" aria-labelledby="{section.key}-title">\n'
        f"{heading}\n{inner}\n</section>"
    )


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{_text(text)}</p>"
        case Notice(text):
            return f'<p class="notice" role="note">{_text(text)}</p>'
        case Cards():
            return _cards(block)
        case Table():
            return _table(block)
        case Gallery(figures):
            return f'<div class="gallery">{"".join(_figure(f) for f in figures)}</div>'
        case Quote(prompt, text, source):
            words = f'<span class="prompt">{_escape(prompt)}</span>{_escape(text)}'
            return (
                f'<figure class="quote"><blockquote><p>{words}</p></blockquote>'
                f"<figcaption>{_escape(source)}</figcaption></figure>"
            )
        case Listing(title, text):
            return (
                f"<details><summary>{_text(title)}</summary>"
                f'<pre tabindex="0">{_escape(text)}</pre></details>'
            )


def _cards(block: Cards) -> str:
    cards = "".join(
        f"<div><dt>{_escape(c.label)}</dt><dd><strong>{_escape(c.value)}</strong>"
        f"<small>{_escape(c.note)}</small></dd></div>"
        for c in block.cards
    )
    return f'<h3>{_escape(block.title)}</h3>\n<dl class="cards">{cards}</dl>'


def _figure(figure: Figure) -> str:
    caption = f"<span>{_text(figure.caption)}</span>" if figure.caption else ""
    drawing, kind = inline(figure, _escape(figure.alt)), ""
    if figure.wide:
        label = _escape(figure.title)
        drawing = (
            f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{drawing}</div>'
        )
        kind = ' class="wide"'
    return (
        f"<figure{kind}><figcaption><strong>{_escape(figure.title)}</strong>{caption}</figcaption>"
        f"{drawing}</figure>"
    )


def _table(table: Table) -> str:
    caption = f"<figcaption>{_text(table.caption)}</figcaption>" if table.caption else ""
    head = "".join(
        _cell("th", text, side) for text, side in zip(table.head, table.sides, strict=True)
    )
    rows = "".join(f"<tr>{_row(row, table)}</tr>" for row in table.rows)
    label = html.escape(table.caption or ", ".join(table.head))
    # The box scrolls, not the page; a keyboard reaches it.
    return (
        f'<figure class="table">{caption}<div class="scroll" role="region" aria-label="{label}" '
        f'tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</figure>"
    )


def _row(row: tuple[str, ...], table: Table) -> str:
    cells = []
    for k, (text, side) in enumerate(zip(row, table.sides, strict=True)):
        tag = "th" if k == 0 else "td"
        cells.append(_cell(tag, text, side, code=k in table.code, scope="row" if k == 0 else ""))
    return "".join(cells)


def _cell(tag: str, text: str, side: str, *, code: bool = False, scope: str = "col") -> str:
    kind = "right" if side == "r" else "long" if len(text) > LONG else ""
    kind = f' class="{kind}"' if kind else ""
    of = f' scope="{scope}"' if tag == "th" and scope else ""
    inner = f"<code>{_escape(text)}</code>" if code and text else _text(text)
    return f"<{tag}{of}{kind}>{inner}</{tag}>"


def _escape(text: str) -> str:
    return html.escape(text)


def _text(text: str) -> str:
    """Return escaped text with `backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))

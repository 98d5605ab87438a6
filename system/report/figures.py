"""Matplotlib figures and schematics as SVG that follows the page: its colours, font and width."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from importlib import resources
from typing import Any

from system.report.document import Figure

INK = "#2e3440"  # of text and axes; on the page it becomes the colour of the text
CYCLE = ("#5e81ac", "#bf616a", "#a3be8c", "#d08770", "#b48ead", "#ebcb8b", "#88c0d0", "#7b88a1")
WIDTH = 4.0  # inches: at this width letters have their size on a phone and in three columns
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of networks and layers are no formulas
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.16,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color",
         "grid.color"), INK,
    ),
}  # fmt: skip


def draw_figure(
    name: str,
    title: str,
    draw: Callable[[Any], None],
    *,
    alt: str,
    caption: str = "",
    height: float = 2.8,
    width: float = WIDTH,
) -> Figure:
    """Return a figure of one set of axes.

    Parameters
    ----------
    name : unique in the report; equal names and contents give equal bytes.
    draw : draws into matplotlib axes; a title it sets is left out, the page has `title`.
    alt : what the figure shows.
    width, height : [inch]
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    own: Any = {"svg.hashsalt": name, "axes.prop_cycle": cycler(color=CYCLE)}
    with mpl.rc_context({**STYLE, **own}):
        drawing = Drawing(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(drawing)
        ax = drawing.subplots()
        draw(ax)
        for one in drawing.axes:
            one.set_title("", loc="left")
            one.set_title("", loc="center")
            _write_plain_ticks(one)
        stream = io.StringIO()
        drawing.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return Figure(name, title, _clean(stream.getvalue(), name), alt, caption)


def read_schematic(name: str, title: str, alt: str, caption: str) -> Figure:
    """Return a schematic of the package: NAME.svg of netlists/schematics."""
    place = resources.files("netlists").joinpath("schematics", f"{name}.svg")
    svg = _clean(place.read_text(encoding="utf-8"), name)
    return Figure(f"schematic-{name}", title, svg, alt, caption, wide=True)


def _write_plain_ticks(ax: Any) -> None:
    """Write 0.01 and 100 on logarithmic axes: powers of ten would be formulas."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def _clean(svg: str, name: str) -> str:
    """Return the svg element alone: no size, no style for others, ids of its own."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    return re.sub(r"font-family: [^;\"]+", f"font-family: {FONT}", svg)


def inline(figure: Figure, alt: str) -> str:
    """Return the svg element for a page: ink in the colour of its text, described for all.

    Parameters
    ----------
    alt : the description, escaped.
    """
    svg = figure.svg.replace(INK, "currentColor").replace("#000000", "currentColor")
    svg = svg.replace("fill:white", "fill:var(--card)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)


def standalone(figure: Figure) -> str:
    """Return a file of its own: on white, whatever is around it."""
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    width = 1100 if figure.wide else 480
    svg = figure.svg.replace("<svg ", f'<svg style="background: white" width="{width}" ', 1)
    return head + svg + "\n"

"""A schematic whose parts are placed by coordinates: what the draw_*.py here are written in."""

import re
from itertools import pairwise
from pathlib import Path

import schemdraw
import schemdraw.elements as elm
from schemdraw.segments import SegmentText

Point = tuple[float, float]

INK = "#2e3440"
PALE = "#7b8494"
PLACE = Path(__file__).resolve().parents[2] / "netlists" / "schematics"
HEIGHT, GATE = 1.5, 1.37  # of a transistor: drain to source, channel to gate
PARTS = {"rram": elm.Memristor, "resistor": elm.ResistorIEC, "capacitor": elm.Capacitor}


class Schematic:
    """Draws parts at coordinates, in units of half a two-terminal part.

    Every part but wires, dots and texts is named as in its netlist.
    """

    def __init__(self) -> None:
        schemdraw.use("svg")
        self._drawing = schemdraw.Drawing(show=False)
        self._drawing.config(unit=2, fontsize=12, font="sans-serif", lw=1.5, color=INK)

    def wire(self, *points: Point) -> None:
        """Draw a line through points."""
        for start, end in pairwise(points):
            self._drawing.add(elm.Line().at(start).to(end))

    def dots(self, *points: Point) -> None:
        """Mark where wires are joined."""
        for point in points:
            self._drawing.add(elm.Dot(radius=0.09).at(point))

    def text(
        self, at: Point, text: str, side: str = "left", size: float = 12.0, color: str = INK
    ) -> None:
        """Write at a point; `side` is where the point is of the text: left, right or center."""
        label = elm.Element()
        align = (side, "center")
        label.segments.append(SegmentText((0, 0), text, align=align, fontsize=size, color=color))
        self._drawing.add(label.at(at).theta(0))

    def terminal(self, at: Point, name: str, side: str = "right") -> None:
        """Draw an open end and its node, written on that side of it."""
        self._drawing.add(elm.Dot(open=True, radius=0.1).at(at))
        x, y = at
        shift, align = {
            "right": ((0.25, 0.0), "left"), "left": ((-0.25, 0.0), "right"),
            "top": ((0.0, 0.35), "center"), "bottom": ((0.0, -0.35), "center"),
        }[side]  # fmt: skip
        self.text((x + shift[0], y + shift[1]), name, align)

    def part(self, kind: str, start: Point, end: Point, text: str, side: str = "right") -> None:
        """Draw an RRAM, resistor or capacitor with its text beside its middle."""
        self._drawing.add(PARTS[kind]().at(start).to(end))
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        across = {"right": ((0.42, 0.0), "left"), "left": ((-0.42, 0.0), "right"),
                  "top": ((0.0, 0.5), "center")}[side]  # fmt: skip
        self.text((x + across[0][0], y + across[0][1]), text, across[1])

    def grounded(self, kind: str, at: Point, text: str, side: str = "right") -> None:
        """Draw a part that leads from a point down to ground."""
        x, y = at
        self.part(kind, at, (x, y - HEIGHT), text, side)
        self.ground((x, y - HEIGHT))

    def ground(self, at: Point) -> None:
        """Draw node 0."""
        self._drawing.add(elm.Ground(lead=False).at(at))

    def source(self, start: Point, end: Point, text: str) -> None:
        """Draw a voltage source between two points of one height, its text above."""
        self._drawing.add(elm.SourceV().at(start).theta(0).length(end[0] - start[0]))
        self.text(((start[0] + end[0]) / 2, start[1] + 0.85), text, "center")

    def transistor(self, kind: str, top: Point, name: str, gate: str = "left") -> Point:
        """Draw an "n" or "p" device below a point (drain of n, source of p); return its gate."""
        device = (elm.NFet if kind == "n" else elm.PFet)().at(top).theta(0)
        self._drawing.add(device.reverse() if gate == "left" else device)
        x, y = top
        sign = -1.0 if gate == "left" else 1.0
        self.text((x - sign * 0.22, y - HEIGHT / 2), name, gate)
        return (x + sign * GATE, y - HEIGHT / 2)

    def amplifier(self, at: Point, signs: str, text: str, width: float = 2.0) -> Point:
        """Draw a triangle whose inputs are at `at` and 1.0 below; return its output."""
        x, y = at
        corners = [(x, y + 0.5), (x, y - 1.5), (x + width, y - 0.5), (x, y + 0.5)]
        self.wire(*corners)
        for sign, height in zip(signs, (y, y - 1.0), strict=True):
            self.text((x + 0.15, height), sign, "left", 14)
        self.text((x + 0.85, y - 0.5), text, "center")
        return (x + width, y - 0.5)

    def frame(self, low: Point, high: Point, title: str, side: str = "left") -> None:
        """Draw a dashed frame: one sub-circuit, its name in the upper corner of that side."""
        box = elm.Rect(corner1=low, corner2=high).at((0, 0)).theta(0)
        self._drawing.add(box.linestyle("--").color(PALE).linewidth(1.0))
        x = low[0] + 0.15 if side == "left" else high[0] - 0.15
        self.text((x, high[1] - 0.35), title, side, color=PALE)

    def save(self, name: str) -> None:
        """Write netlists/schematics/NAME.svg."""
        PLACE.mkdir(exist_ok=True)
        svg = self._drawing.get_imagedata("svg").decode()
        svg = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}", svg)
        svg = svg.replace("fill:black", f"fill:{INK}").replace("><", ">\n<")
        (PLACE / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")

"""Draws 6T2M cell, match lines and 10T2M cell: python docs/circuits/draw_acam.py."""

from schematic import GATE, HEIGHT, Schematic

ML, MLU = 13.4, 8.0  # heights of the match lines
DL = 1.0  # height of the data line


def draw_divider(s: Schematic, x: float, transistor: str, node: str) -> tuple[float, float]:
    """Draw RRAM, transistor and node capacitance of a half; return the end of its node."""
    s.terminal((x, 6.0), "slhi", "top")
    s.part("rram", (x, 6.0), (x, 4.0), "x1  g")
    gate = s.transistor("n", (x, 4.0), transistor)
    s.terminal((x, 4.0 - HEIGHT), "sllo", "bottom")
    s.wire(gate, (gate[0], DL))
    s.dots((x, 4.0), (x + 1.4, 4.0))
    s.text((x + 0.35, 4.35), node)
    s.wire((x, 4.0), (x + 2.8, 4.0))
    s.grounded("capacitor", (x + 1.4, 4.0), "c1")
    return (x + 2.8, 4.0)


def draw_pull_down(s: Schematic, gate: tuple[float, float], name: str, line: float) -> float:
    """Draw a pull-down and its drain up to a match line; return where that is."""
    x, y = gate[0] + GATE, gate[1] + HEIGHT / 2
    s.transistor("n", (x, y), name)
    s.ground((x, y - HEIGHT))
    s.wire((x, y), (x, line))
    return x


def draw_inverter(
    s: Schematic, end: tuple[float, float], high: str, low: str, node: str
) -> tuple[float, float]:
    """Draw an inverter behind the end of a node; return the end of its output."""
    x, y = end
    s.wire((x, y - 0.9), (x, y + 0.9))
    s.dots((x, y))
    drain = x + GATE
    s.transistor("p", (drain, y + 0.9 + HEIGHT / 2), high)
    s.terminal((drain, y + 0.9 + HEIGHT / 2), "vdd", "top")
    s.transistor("n", (drain, y - 0.9 + HEIGHT / 2), low)
    s.ground((drain, y - 0.9 - HEIGHT / 2))
    s.wire((drain, y - 0.15), (drain, y + 0.15))
    s.dots((drain, y))
    s.text((drain + 0.3, y + 0.35), node)
    s.wire((drain, y), (drain + 1.4, y))
    return (drain + 1.4, y)


def draw_lower(s: Schematic, line: float, stop: float, buffered: bool = False) -> None:
    """Draw acam_lower from x = 0, its line up to `stop`; of 10T2M two inverters buffer n1."""
    end = draw_divider(s, 1.7, "m1", "n1")
    if buffered:
        end = draw_inverter(s, end, "m7", "m8", "inv")
        end = draw_inverter(s, end, "m9", "m10", "buf")
    x = draw_pull_down(s, end, "m2", line)
    s.frame((-0.1, 1.6), (x + 1.33, 7.6), "xl: acam_lower")
    s.wire((x, line), (stop, line))
    s.text((x + 0.2, line + 0.35), "ml")


def draw_upper(s: Schematic, left: float, stop: float) -> None:
    """Draw acam_upper right of it."""
    s.frame((left, 1.6), (left + 9.9, 7.6), "xu: acam_upper")
    inverted = draw_inverter(s, draw_divider(s, left + 1.8, "m3", "n2"), "m4", "m5", "inv")
    end = draw_pull_down(s, inverted, "m6", MLU)
    s.wire((end, MLU), (stop, MLU))
    s.text((end + 0.2, MLU + 0.35), "mlu")


def draw_data_line(s: Schematic, last: float) -> None:
    """Draw the data line up to the gate of the last half."""
    s.wire((-0.8, DL), (last - GATE, DL))
    s.dots((1.7 - GATE, DL))
    s.terminal((-0.8, DL), "d", "left")


def draw_line(s: Schematic, y: float, name: str) -> None:
    """Draw what hangs on a match line, and the decision about it."""
    s.frame((19.2, y - 2.1), (23.6, y + 2.9), f"{name}: match_line")
    gate = s.transistor("p", (21.5, y + HEIGHT), "m1")
    s.terminal((21.5, y + HEIGHT), "vddp", "top")
    s.terminal(gate, "pcb", "left")
    s.dots((21.5, y), (22.6, y))
    s.wire((22.0, y), (26.0, y))
    s.grounded("capacitor", (22.6, y), "c1")
    s.terminal((26.0, y - 1.0), "v_sense", "left")
    out = s.amplifier((26.0, y), "+-", "")
    s.wire(out, (29.0, out[1]))


def draw_decision(s: Schematic) -> None:
    """Join both comparisons: a row matches when both lines stayed high."""
    s.frame((24.1, MLU - 2.1), (33.4, ML + 2.9), "at the sense time (ideal here)")
    top, bottom = ML - 0.5, MLU - 0.5
    middle = (top + bottom) / 2
    s.wire((29.0, top), (29.0, middle + 0.4), (29.6, middle + 0.4))
    s.wire((29.0, bottom), (29.0, middle - 0.4), (29.6, middle - 0.4))
    s.wire((29.6, middle + 0.8), (29.6, middle - 0.8), (31.0, middle - 0.8),
           (31.0, middle + 0.8), (29.6, middle + 0.8))  # fmt: skip
    s.text((30.3, middle), "and", "center")
    s.wire((31.0, middle), (31.8, middle))
    s.text((31.9, middle), "match")


def draw_row() -> None:
    """Draw a row: both halves of the cell, two match lines."""
    s = Schematic()
    draw_lower(s, ML, 22.0)
    draw_upper(s, 8.2, 22.0)
    draw_data_line(s, 10.0)
    draw_line(s, ML, "xm")
    draw_line(s, MLU, "xmu")
    draw_decision(s)
    s.frame((8.6, ML - 2.9), (14.4, ML + 0.9), "xi: idle_pull_down")
    gate = s.transistor("n", (11.0, ML - 0.4), "m1")
    s.wire((11.0, ML - 0.4), (11.0, ML))
    s.dots((11.0, ML))
    s.wire(gate, (gate[0], ML - 0.4 - HEIGHT), (11.0, ML - 0.4 - HEIGHT))
    s.ground((11.0, ML - 0.4 - HEIGHT))
    s.text((11.3, ML - 2.2), "m = {idle_cells}")
    s.save("acam")


def draw_10t2m() -> None:
    """Draw the cell with a buffered lower half."""
    s = Schematic()
    draw_lower(s, MLU + 1.2, 25.0, buffered=True)
    draw_upper(s, 13.7, 25.0)
    draw_data_line(s, 15.5)
    for y in (MLU + 1.2, MLU):
        s.terminal((25.0, y), "")
    s.save("acam_10t2m")


def main() -> None:
    """Draw a row of 6T2M cells, and the 10T2M cell."""
    draw_row()
    draw_10t2m()


if __name__ == "__main__":
    main()

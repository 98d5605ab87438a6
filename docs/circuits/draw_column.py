"""Draws two 1T1R columns and their read-out: python docs/circuits/draw_column.py."""

from schematic import HEIGHT, Schematic

# height of a row wire, name of the row and of its node on the bit line
ROWS = ((17.0, "r0", "0"), (11.4, "r1", "1"), (4.4, "r255", "255"))
COLUMNS = ((3.4, 0, "+"), (13.4, 1, "-"))  # place of the cells, number, sign of the weight
BIT = 3.0  # from the cells to the bit line
END = ROWS[-1][0] - 2 * HEIGHT  # height of the last cell's node on the bit line


def draw_cell(s: Schematic, x: float, y: float, column: int, row: str) -> None:
    """Draw RRAM and access transistor from a row wire to the bit line."""
    s.dots((x, y), (x, y - HEIGHT))
    s.part("rram", (x, y), (x, y - HEIGHT), "x1  g")
    s.text((x - 0.25, y - HEIGHT), "d", "right")
    s.terminal(s.transistor("n", (x, y - HEIGHT), "m1"), "wl", "left")
    s.wire((x, y - 2 * HEIGHT), (x + BIT, y - 2 * HEIGHT))
    s.dots((x + BIT, y - 2 * HEIGHT))
    s.text((x + BIT + 0.15, y - 2 * HEIGHT + 0.35), f"b{column}_{row}")
    if row == "0":
        s.frame((x - 2.5, y - 3.3), (x + 1.7, y + 0.9), f"xc{column}_0: cell_1t1r")


def draw_segment(s: Schematic, x: float, y: float, name: str) -> None:
    """Draw a wire segment from a node of the bit line to 1.6 below it."""
    s.part("resistor", (x, y), (x, y - 1.6), "r1", "left")
    s.wire((x, y), (x + 1.5, y))
    s.grounded("capacitor", (x + 1.5, y), "c1")
    if name:
        s.frame((x - 1.0, y - 2.1), (x + 3.0, y + 1.3), f"{name}: wire_segment")


def draw_stage(s: Schematic, x: float, column: int) -> float:
    """Draw current sense and transimpedance stage below a bit line; return its output's place."""
    top = END - 1.6
    s.text((x + 0.2, top), f"s{column}")
    s.dots((x, top))
    s.wire((x, top), (x, top - 3.2), (x + 1.6, top - 3.2))
    s.text((x - 0.25, top - 0.6), f"vs{column}  0 V", "right")
    s.text((x + 0.2, top - 1.5), f"t{column}")
    out = s.amplifier((x + 1.6, top - 3.2), "-+", "xa")
    s.terminal((x + 1.6, top - 4.2), "cm", "left")
    s.wire((x + 0.9, top - 3.2), (x + 0.9, top - 1.9))
    s.part("resistor", (x + 0.9, top - 1.9), (x + 4.4, top - 1.9), "rf", "top")
    s.wire((x + 4.4, top - 1.9), (x + 4.4, out[1]))
    s.dots((x + 0.9, top - 3.2), (x + 4.4, out[1]))
    s.wire(out, (x + 4.9, out[1]))
    s.frame((x - 0.35, top - 5.0), (x + 5.2, top - 1.1), f"xt{column}: tia", "right")
    return x + 4.9


def main() -> None:
    """Draw three rows of a positive and a negative column."""
    s = Schematic()
    for y, row, number in ROWS:
        s.terminal((-2.4, y), "cm", "left")
        s.source((-2.4, y), (0.0, y), f"bv{row[1:]}")
        s.wire((0.0, y), (COLUMNS[-1][0], y))
        s.text((0.1, y + 0.35), row)
        for x, column, _ in COLUMNS:
            draw_cell(s, x, y, column, number)
            draw_segment(s, x + BIT, y - 2 * HEIGHT, f"xw{column}_0" if number == "0" else "")
    for x, column, sign in COLUMNS:
        bit = x + BIT
        s.text((bit, ROWS[0][0] + 1.6), f"column {sign}", "center", 15)
        s.wire((bit, ROWS[0][0] - 2 * HEIGHT - 1.6), (bit, ROWS[1][0] - 2 * HEIGHT))
        s.wire((bit, ROWS[1][0] - 2 * HEIGHT - 1.6), (bit, ROWS[1][0] - 2 * HEIGHT - 2.0))
        s.text((bit, ROWS[1][0] - 2 * HEIGHT - 2.4), "...", "center", 18)
        s.wire((bit, END + 1.2), (bit, END))
        place = draw_stage(s, bit, column)
        y = END - 1.6 - 3.7
        s.wire((place, y), (place + 0.6, y))
        s.text((place + 0.7, y), f"o{column}")
    s.save("column")


if __name__ == "__main__":
    main()

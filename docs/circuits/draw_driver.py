"""Draws both row drivers: python docs/circuits/draw_driver.py."""

from schematic import GATE, HEIGHT, Schematic

TAPS = ("s3", "s2", "s1", "lo")  # drawn of 256, top to bottom
PITCH = 4.0


def draw_string(s: Schematic) -> float:
    """Draw resistors and two levels of the tree; return the height of the tap."""
    heights = [PITCH * k for k in reversed(range(len(TAPS)))]
    s.terminal((0.0, heights[0] + PITCH), "hi", "top")
    for k, (name, y) in enumerate(zip(TAPS, heights, strict=True)):
        number = len(TAPS) - 1 - k
        s.part("resistor", (0.0, y + PITCH), (0.0, y), f"r{number}", "left")
        s.dots((0.0, y))
        s.text((-0.25, y + 0.3), name, "right")
        draw_switch(s, 1.0, y, f"xs0_{number}", f"{'yes' if number % 2 else 'no'}0")
        s.wire((0.0, y), (1.0, y))
    s.text((0.0, heights[0] + PITCH / 2 + 1.2), "...", "center", 18)
    middles = [(heights[0] + heights[1]) / 2, (heights[2] + heights[3]) / 2]
    for k, y in enumerate(middles):
        s.wire(
            (2.5, y + PITCH / 2), (3.4, y + PITCH / 2), (3.4, y - PITCH / 2), (2.5, y - PITCH / 2)
        )
        s.wire((3.4, y), (4.2, y))
        s.dots((3.4, y))
        number = 1 - k
        s.text((3.3, y), f"n1_{number}", "right")
        draw_switch(s, 4.2, y, f"xs1_{number}", f"{'yes' if number % 2 else 'no'}1")
    tap = (middles[0] + middles[1]) / 2
    s.wire((5.7, middles[0]), (6.6, middles[0]), (6.6, middles[1]), (5.7, middles[1]))
    s.wire((6.6, tap), (7.2, tap))
    s.text((7.6, tap), "...", "center", 18)
    s.text((5.9, tap - 0.1), "8 levels", "right", 11)
    return tap


def draw_switch(s: Schematic, x: float, y: float, name: str, gate: str) -> None:
    """Draw one switch of the tree as a box between two wires, its gate above."""
    s.wire((x, y), (x + 0.3, y + 0.0))
    s.frame((x + 0.1, y - 0.45), (x + 1.4, y + 0.45), "")
    s.text((x + 0.75, y), "m1", "center")
    s.wire((x + 1.2, y), (x + 1.5, y))
    s.text((x + 0.75, y + 0.8), f"{name}: {gate}", "center", 10)


def draw_buffer(s: Schematic, tap: float) -> None:
    """Draw buffer and row."""
    s.text((8.3, tap + 0.35), "tap", "center")
    s.wire((8.0, tap), (9.4, tap))
    out = s.amplifier((9.4, tap), "+-", "xa")
    s.wire((9.4, tap - 1.0), (9.0, tap - 1.0), (9.0, tap - 2.4), (out[0] + 0.4, tap - 2.4))
    s.wire((out[0] + 0.4, tap - 2.4), (out[0] + 0.4, out[1]))
    s.wire(out, (out[0] + 1.2, out[1]))
    s.dots((out[0] + 0.4, out[1]))
    s.frame((8.7, tap - 3.0), (out[0] + 0.8, tap + 1.6), "xo: row_buffer")
    draw_row(s, out[0] + 1.2, out[1])


def draw_row(s: Schematic, x: float, y: float) -> None:
    """Draw what a row is to its driver."""
    s.text((x + 0.1, y + 0.35), "row")
    s.wire((x, y), (x + 3.4, y))
    s.dots((x + 1.0, y))
    s.grounded("capacitor", (x + 1.0, y), "c1")
    s.part("resistor", (x + 3.4, y), (x + 3.4, y - HEIGHT), "g1")
    s.terminal((x + 3.4, y - HEIGHT), "cm", "bottom")
    s.frame((x + 0.5, y - 3.0), (x + 4.9, y + 1.4), "xl: row_line", "right")


def draw_pulses(s: Schematic, x: float, y: float) -> None:
    """Draw the bit-serial driver: inverters of the bit, switches to read and rest voltage."""
    s.text((x, y + 2.6), "bit-serial", "left", 15)
    s.terminal((x, y - 1.5), "bit", "left")
    for k, (low, high, name) in enumerate((("m2", "m1", "no"), ("m4", "m3", "yes"))):
        left = x + 1.2 + 4.6 * k
        gates = [
            s.transistor("p", (left + GATE, y), high),
            s.transistor("n", (left + GATE, y - HEIGHT), low),
        ]
        s.terminal((left + GATE, y), "vddl", "top")
        s.ground((left + GATE, y - 2 * HEIGHT))
        s.wire(gates[0], gates[1])
        s.wire((left - (1.2 if k == 0 else 1.7), y - HEIGHT), (gates[0][0], y - HEIGHT))
        s.dots((gates[0][0], y - HEIGHT), (left + GATE, y - HEIGHT))
        s.wire((left + GATE, y - HEIGHT), (left + 2.9, y - HEIGHT))
        s.text((left + 2.1, y - HEIGHT + 0.35), name, "center")
    s.frame((x + 0.3, y - 2 * HEIGHT - 0.8), (x + 8.5, y + 1.4), "xb: bit_lines", "right")
    right = x + 12.4
    top = s.transistor("n", (right, y), "m1")
    s.terminal((right, y), "hi", "top")
    s.terminal(top, "yes", "left")
    low = s.transistor("n", (right, y - HEIGHT), "m2")
    s.terminal(low, "no", "left")
    s.terminal((right, y - 2 * HEIGHT), "lo = cm", "bottom")
    s.dots((right, y - HEIGHT))
    s.wire((right, y - HEIGHT), (right + 2.0, y - HEIGHT))
    s.frame((right - 2.6, y - 2 * HEIGHT - 1.2), (right + 1.3, y + 1.9), "xr: row_switch", "left")
    draw_row(s, right + 2.0, y - HEIGHT)


def main() -> None:
    """Draw both, one below the other."""
    s = Schematic()
    s.text((1.0, 4 * PITCH), "resistor string", "left", 15)
    draw_buffer(s, draw_string(s))
    draw_pulses(s, 0.0, -5.2)
    s.save("driver")


if __name__ == "__main__":
    main()

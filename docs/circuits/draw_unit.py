"""Draws what follows the match lines of an ACAM unit: python docs/circuits/draw_unit.py."""

from schematic import GATE, HEIGHT, Schematic

LEFT, RIGHT = 6.0, 12.0  # branches of the sense amplifier
OR, FOOT = 11.5, 7.5  # heights of an OR line and of its foot


def draw_sense_amplifier(s: Schematic) -> None:
    """Draw the latch: pair, cross-coupled inverters, resets."""
    middle = (LEFT + RIGHT) / 2
    tail = s.transistor("p", (middle, 11.2), "m1")
    s.terminal((middle, 11.2), "vs", "top")
    s.terminal(tail, "seb", "left")
    s.wire((middle, 11.2 - HEIGHT), (middle, 9.2))
    s.wire((LEFT, 9.0), (LEFT, 9.2), (RIGHT, 9.2), (RIGHT, 9.0))
    s.dots((middle, 9.2))
    s.text((middle + 0.25, 9.5), "t")
    for x, side, sign, names in (
        (LEFT, "left", -1, ("m2", "m4", "m6", "m10", "m9")),
        (RIGHT, "right", 1, ("m3", "m5", "m7", "m11", "m8")),
    ):
        pair, cross_p, cross_n, reset_top, reset_out = names
        other = "right" if side == "left" else "left"
        s.terminal(s.transistor("p", (x, 9.0), pair, side), "ml" if sign < 0 else "ref", side)
        upper = s.transistor("p", (x, 7.0), cross_p, other)
        lower = s.transistor("n", (x, 4.75), cross_n, other)
        s.wire((x, 7.5), (x, 7.0))
        s.wire((x, 5.5), (x, 4.75))
        s.wire(upper, lower)
        s.ground((x, 4.75 - HEIGHT))
        out, far = x + 3.5 * sign, x + 6.8 * sign
        for name, y in ((reset_top, 7.25), (reset_out, 4.95)):
            s.wire((x, y), (out, y))
            s.dots((x, y))
            s.terminal(s.transistor("n", (out, y), name, side), "seb", side)
            s.ground((out, y - HEIGHT))
        s.wire((out, 4.95), (far, 4.95))
        s.dots((out, 4.95))
        s.terminal((far, 4.95), "qb" if sign < 0 else "q", side)
        s.text((x + 0.45 * sign, 7.6), "x" if sign < 0 else "y", other)
        height = 5.2 if sign > 0 else 4.95  # each output to the gates of the other branch
        s.wire((x, height), (x - sign * (RIGHT - LEFT - GATE), height))
        s.dots((x, height), (x - sign * (RIGHT - LEFT - GATE), height))
    s.frame((-0.1, 2.3), (18.1, 13.0), "sense_amplifier")


def draw_inverter(s: Schematic, x: float, y: float) -> None:
    """Draw the transistors of the inverter."""
    gates = s.transistor("p", (x, y), "m1"), s.transistor("n", (x, y - HEIGHT), "m2")
    s.terminal((x, y), "vdd", "top")
    s.ground((x, y - 2 * HEIGHT))
    s.wire(*gates)
    s.terminal((gates[0][0], y - HEIGHT), "a", "left")
    s.dots((x, y - HEIGHT), (x + 1.2, y - HEIGHT))
    s.wire((x, y - HEIGHT), (x + 2.4, y - HEIGHT))
    s.terminal((x + 2.4, y - HEIGHT), "z")
    s.grounded("capacitor", (x + 1.2, y - HEIGHT), "c1")
    s.frame((x - 2.3, y - 2 * HEIGHT - 0.9), (x + 3.3, y + 1.6), "inverter")


def draw_box(s: Schematic, x: float, y: float, name: str) -> None:
    """Draw an inverter as a box from x to x + 1.2."""
    s.wire((x, y - 0.5), (x, y + 0.5), (x + 1.2, y + 0.5), (x + 1.2, y - 0.5), (x, y - 0.5))
    s.text((x + 0.6, y), name, "center")


def draw_inputs(s: Schematic, x: float) -> None:
    """Draw a row with two lines, and a shorter OR line, on an OR line from x on."""
    s.frame((x - 1.5, FOOT - 0.6), (x + 7.9, OR + 1.3), "row_on_or_line")
    s.grounded("capacitor", (x - 0.4, OR), "c1", "left")
    s.wire((x + 3.0, OR), (x + 3.0, 10.5))
    s.terminal(s.transistor("n", (x + 3.0, 10.5), "m1"), "qlo", "left")
    s.terminal(s.transistor("n", (x + 3.0, 9.0), "m2"), "qhi", "left")
    s.wire((x + 3.0, 9.0), (x + 5.2, 9.0))
    s.text((x + 4.0, 8.7), "s")
    s.terminal(s.transistor("p", (x + 5.2, 10.5), "m3", "right"), "clk")
    s.terminal((x + 5.2, 10.5), "vdd", "top")
    s.dots((x + 3.0, OR), (x + 3.0, FOOT), (x + 3.0, 9.0))
    s.frame((x + 8.1, FOOT - 0.6), (x + 12.7, OR + 1.3), "input_on_or_line")
    s.wire((x + 10.4, OR), (x + 10.4, 9.0))
    s.terminal(s.transistor("n", (x + 10.4, 9.0), "m1"), "q", "left")
    s.dots((x + 10.4, OR), (x + 10.4, FOOT), (x + 11.4, OR))
    s.grounded("capacitor", (x + 11.4, OR), "c1")


def draw_or_line(s: Schematic, start: float, x: float) -> None:
    """Draw precharge, keeper, foot and inverter of the OR line that begins at `start`."""
    s.wire((start, OR), (x + 6.2, OR))
    s.text((start + 0.1, OR + 0.35), "or")
    s.wire((start + 3.4, FOOT), (x + 2.6, FOOT))
    s.text((x + 0.2, FOOT + 0.35), "foot")
    for at, name in ((x + 2.6, "m1"), (x + 5.2, "m2")):
        s.terminal((at, 14.0), "vdd", "top")
        s.wire((at, 14.0 - HEIGHT), (at, OR))
        s.dots((at, OR))
        gate = s.transistor("p", (at, 14.0), name, "left" if name == "m1" else "right")
        if name == "m1":
            s.terminal(gate, "clk", "left")
    s.wire(gate, (x + 8.4, gate[1]), (x + 8.4, OR))
    draw_box(s, x + 6.2, OR, "x1")
    s.wire((x + 7.4, OR), (x + 9.4, OR))
    s.dots((x + 8.4, OR))
    s.terminal((x + 9.4, OR), "out")
    s.terminal(s.transistor("n", (x + 2.6, FOOT), "m3"), "clk", "left")
    s.ground((x + 2.6, FOOT - HEIGHT))
    s.frame((x, FOOT - 2.4), (x + 9.0, 15.4), "or_line")


def draw_xor(s: Schematic, x: float, y: float) -> None:
    """Draw a gate of the decoder; z is at height y."""
    for at, upper, lower in ((x + 6.0, "an", "b"), (x + 10.0, "a", "bn")):
        names = ("m1", "m2", "m5", "m6") if upper == "an" else ("m3", "m4", "m7", "m8")
        below = ("a", "b") if upper == "an" else ("an", "bn")
        kinds = (("p", upper), ("p", lower), *(("n", signal) for signal in below))
        for k, (name, (kind, signal)) in enumerate(zip(names, kinds, strict=True)):
            top = (at, y + (2 - k) * HEIGHT)
            s.terminal(s.transistor(kind, top, name), signal, "left")
        s.terminal((at, y + 2 * HEIGHT), "vdd", "top")
        s.ground((at, y - 2 * HEIGHT))
        s.dots((at, y))
    s.wire((x + 6.0, y), (x + 14.0, y))
    s.dots((x + 12.2, y))
    s.grounded("capacitor", (x + 12.2, y), "c1")
    s.terminal((x + 14.0, y), "z")
    for height, name, signal in ((y + 1.5, "x1", "a"), (y - 1.5, "x2", "b")):
        s.terminal((x + 1.0, height), signal, "left")
        s.wire((x + 1.0, height), (x + 1.6, height))
        draw_box(s, x + 1.6, height, name)
        s.wire((x + 2.8, height), (x + 3.2, height))
        s.terminal((x + 3.2, height), f"{signal}n", "top")
    s.frame((x + 0.1, y - 2 * HEIGHT - 0.9), (x + 14.8, y + 2 * HEIGHT + 1.3), "xor2")


def main() -> None:
    """Draw the sense amplifier, an OR line with its inputs, the gates of the decoder."""
    s = Schematic()
    draw_sense_amplifier(s)
    s.save("sense_amplifier")
    s = Schematic()
    draw_inputs(s, 0.0)
    draw_or_line(s, -0.4, 13.0)
    draw_inverter(s, 1.8, 1.6)
    draw_xor(s, 6.6, 0.6)
    s.save("acam_unit")


if __name__ == "__main__":
    main()

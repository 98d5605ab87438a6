"""Row drivers: a resistor string with a tree of switches and buffers, or a switch for pulses."""

from dataclasses import dataclass

from circuits.toml_file import number_key, text_key

CIRCUITS = ("ideal", "string", "pulses")


@dataclass(frozen=True)
class Driver:
    """Both row drivers, at transistor level; the buffer's transistors are those of [amplifier]."""

    circuit: str = text_key(
        "row driver that inference assumes: ideal, string or pulses", "ideal", written=False
    )
    v_supply_v: float = number_key(
        "supply of bit lines, hence of the gates of switches [V]", 0.1, 5.0, 1.4
    )
    r_unit_ohm: float = number_key("one resistor of the string [ohm]", 1e-3, 1e8, 25.0)
    r_unit_sigma: float = number_key(
        "standard deviation of one resistor of the string, as a share [-]", 0.0, 0.5, 0.01
    )
    w_tap_m: float = number_key("width of a switch of the tree [m]", 1e-9, 1e-3, 256e-9)
    w_row_m: float = number_key("width of the switches of a bit-serial row [m]", 1e-9, 1e-3, 40e-6)
    w_gate_n_m: float = number_key("width of n devices that drive bit lines [m]", 1e-9, 1e-3, 4e-6)
    w_gate_p_m: float = number_key("width of p devices that drive bit lines [m]", 1e-9, 1e-3, 8e-6)
    l_m: float = number_key("length of all of them [m]", 1e-9, 1e-4, 16e-9)
    c_miller_f: float = number_key("compensation capacitor of the buffer [F]", 0.0, 1e-9, 75e-15)
    w_sink_m: float = number_key(
        "width of the buffer's output n device, in place of amplifier.w_sink_m [m]",
        1e-9,
        1e-3,
        22e-6,
    )
    buffers: int = number_key("buffers that share a row of the string", 1, 1024, 4, kind="int")
    cells: int = number_key("cells on a row", 1, 1 << 20, 256, kind="int")
    g_row_s: float = number_key("conductance of all cells of a row [S]", 0.0, 10.0, 5e-3)
    t_bit_s: float = number_key("length of one pulse of a bit-serial row [s]", 1e-12, 1e-3, 1e-9)

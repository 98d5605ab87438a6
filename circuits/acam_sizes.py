"""The ACAM: its cell and match line, and what turns match lines into a code."""

from dataclasses import dataclass

from circuits.toml_file import number_key, text_key


@dataclass(frozen=True)
class Acam:
    """The ACAM cell, its match line, precharge and sense."""

    w1_m: float = number_key("width of M1 and M3 (gate: data line) [m]", 1e-9, 1e-4)
    l1_m: float = number_key("length of M1 and M3 [m]", 1e-9, 1e-4)
    w2_m: float = number_key("width of M2, M6 (pull-downs) and M5 (inverter n) [m]", 1e-9, 1e-4)
    l2_m: float = number_key("length of M2, M4, M5, M6 and the precharge device [m]", 1e-9, 1e-4)
    wp_m: float = number_key("width of M4 (inverter p) [m]", 1e-9, 1e-4)
    w_precharge_m: float = number_key(
        "width of the precharge device of a match line [m]", 1e-9, 1e-4
    )
    v_sl_hi_v: float = number_key("upper search line [V]", 0.0, 5.0)
    v_sl_lo_v: float = number_key("lower search line [V]", -1.0, 5.0)
    c_ml_f_per_cell: float = number_key("match-line wire capacitance per cell [F]", 0.0, 1e-12)
    c_sense_f: float = number_key("input capacitance of the sense amplifier [F]", 0.0, 1e-12)
    c_node_f: float = number_key("wire capacitance of the inner nodes n1, n2 [F]", 0.0, 1e-12)
    cells_per_row: int = number_key("cells on a match line", 1, 4096, kind="int")
    match_lines: int = number_key(
        "1: both halves on one line; 2: a line for each", 1, 2, kind="int"
    )
    t_precharge_s: float = number_key("length of the precharge phase [s]", 1e-12, 1e-3)
    t_sense_s: float = number_key("end of precharge to sense decision [s]", 1e-12, 1e-3)
    v_sense_v: float = number_key("sense threshold on the match line [V]", 0.0, 5.0)
    i_trip_a: float = number_key(
        "pull-down current that defines the static threshold [A]", 1e-12, 1e-2
    )
    cell: str = text_key("circuit of the cell: 6t2m or 10t2m", "6t2m", written=False)
    decision_noise_v: float = number_key(
        "noise of a decision, sense amplifier and supplies, as rms voltage on the data line [V]",
        0.0, 1.0, 0.0, written=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """Sense amplifiers, OR lines and decoder of an ACAM unit, at transistor level."""

    v_supply_v: float = number_key(
        "supply of sense amplifiers, OR lines and decoder [V]", 0.1, 5.0, 1.4
    )
    v_reference_v: float = number_key(
        "reference of the sense amplifiers: acam.v_sense_v, and what the kick of the strobe adds"
        " [V]", 0.0, 5.0, 0.483,
    )  # fmt: skip
    c_input_f: float = number_key(
        "part of acam.c_sense_f that is the gate of the sense amplifier [F]", 0.0, 1e-12, 0.1e-15
    )
    w_tail_m: float = number_key("width of the sense amplifier's tail [m]", 1e-9, 1e-4, 256e-9)
    w_pair_m: float = number_key("width of its input pair [m]", 1e-9, 1e-4, 128e-9)
    w_cross_p_m: float = number_key("width of its crossed p devices [m]", 1e-9, 1e-4, 128e-9)
    w_cross_n_m: float = number_key("width of its crossed n devices [m]", 1e-9, 1e-4, 64e-9)
    w_reset_m: float = number_key("width of its reset devices [m]", 1e-9, 1e-4, 64e-9)
    w_or_m: float = number_key("width of a row's pull-downs on the OR line [m]", 1e-9, 1e-4, 128e-9)
    w_foot_m: float = number_key("width of the clocked foot of an OR line [m]", 1e-9, 1e-4, 512e-9)
    w_or_precharge_m: float = number_key(
        "width of the precharge device of an OR line [m]", 1e-9, 1e-4, 512e-9
    )
    w_keeper_m: float = number_key("width of the keeper of an OR line [m]", 1e-9, 1e-4, 64e-9)
    w_gate_n_m: float = number_key("width of n devices in the decoder [m]", 1e-9, 1e-4, 128e-9)
    w_gate_p_m: float = number_key("width of p devices in the decoder [m]", 1e-9, 1e-4, 256e-9)
    l_m: float = number_key("length of all of them [m]", 1e-9, 1e-4, 16e-9)
    rows_per_or_line: int = number_key(
        "rows on one OR line; of more a second line takes the results", 1, 4096, 16, kind="int"
    )
    c_or_f_per_row: float = number_key("wire of an OR line per row on it [F]", 0.0, 1e-12, 0.2e-15)
    c_gate_f: float = number_key("wire behind every gate of the decoder [F]", 0.0, 1e-12, 0.2e-15)
    t_hold_s: float = number_key(
        "from the strobe until the next precharge may begin [s]", 1e-12, 1e-3, 200e-12
    )
    t_or_s: float = number_key(
        "from the strobe until the OR lines are evaluated [s]", 1e-12, 1e-3, 100e-12
    )

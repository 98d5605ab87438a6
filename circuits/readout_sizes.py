"""The read-out: its amplifiers as figures, or the sizes of their transistors."""

from dataclasses import dataclass

from circuits.toml_file import number_key, text_key


@dataclass(frozen=True)
class Readout:
    """Transimpedance stage of each bit line and the stage that sums four bit lines."""

    r_feedback_ohm: float = number_key("feedback resistor of each bit line's stage [ohm]", 1.0, 1e8)
    opamp_gain: float = number_key("open-loop gain of the amplifiers [V/V]", 10.0, 1e9)
    opamp_gbw_hz: float = number_key("gain-bandwidth product of the amplifiers [Hz]", 1e3, 1e13)
    r_output_ohm: float = number_key("output resistance of the amplifiers [ohm]", 1e-3, 1e6)
    r_sum_ohm: float = number_key("input resistors of the summing stage [ohm]", 10.0, 1e9)
    c_load_f: float = number_key(
        "load of the data line: wire and ACAM gates of a column [F]", 0.0, 1e-9
    )
    error_scale: float = number_key("k: the error pair enters the sum divided by k [-]", 1.0, 1e6)
    i_full_scale_a: float = number_key(
        "span of I_p - I_n that fills the data-line range [A]", 1e-9, 1.0
    )
    v_dl_lo_v: float = number_key("lower end of the data-line range [V]", -5.0, 5.0)
    v_dl_hi_v: float = number_key("upper end of the data-line range [V]", -5.0, 5.0)
    amplifier: str = text_key("circuit of the amplifiers: model or two-stage", "model")


@dataclass(frozen=True)
class Amplifier:
    """The two-stage amplifier, for ``readout.amplifier = "two-stage"``; sized in ``lp16``."""

    v_supply_v: float = number_key("supply of the read-out amplifiers [V]", 0.1, 5.0, 1.4)
    i_reference_a: float = number_key("current of the bias reference [A]", 1e-9, 1e-2, 20e-6)
    l_mirror_m: float = number_key(
        "length of current mirrors, tail and output source [m]", 1e-9, 1e-4, 60e-9
    )
    l_signal_m: float = number_key("length of the pair and the cascodes [m]", 1e-9, 1e-4, 36e-9)
    l_output_m: float = number_key("length of the output n device [m]", 1e-9, 1e-4, 28e-9)
    w_reference_m: float = number_key(
        "width of the p device that carries the reference [m]", 1e-9, 1e-3, 3e-6
    )
    w_sense_n_m: float = number_key(
        "width of the n diode and of the sinks that copy it [m]", 1e-9, 1e-3, 0.9e-6
    )
    w_bias_n_m: float = number_key(
        "width of the diode that biases the n cascodes [m]", 1e-9, 1e-3, 0.14e-6
    )
    w_bias_p_m: float = number_key(
        "width of the diode that biases the p cascodes [m]", 1e-9, 1e-3, 0.13e-6
    )
    w_tail_m: float = number_key("width of the tail [m]", 1e-9, 1e-3, 32e-6)
    w_pair_m: float = number_key("width of each device of the input pair [m]", 1e-9, 1e-3, 11e-6)
    w_cascode_m: float = number_key("width of each p cascode [m]", 1e-9, 1e-3, 6e-6)
    w_mirror_m: float = number_key(
        "width of the n mirror and of its cascodes [m]", 1e-9, 1e-3, 4.4e-6
    )
    w_sink_m: float = number_key("width of the output n device [m]", 1e-9, 1e-3, 14e-6)
    w_source_m: float = number_key("width of the output p source [m]", 1e-9, 1e-3, 60e-6)
    c_miller_f: float = number_key(
        "compensation capacitor, transimpedance stage [F]", 0.0, 1e-9, 75e-15
    )
    c_miller_sum_f: float = number_key(
        "compensation capacitor, summing stage [F]", 0.0, 1e-9, 40e-15
    )
    c_feedback_f: float = number_key(
        "capacitor beside the feedback resistor of a stage [F]", 0.0, 1e-9, 150e-15
    )
    c_sum_f: float = number_key(
        "capacitor beside the feedback resistor of the summing stage [F]", 0.0, 1e-9, 5e-15
    )

    def gate_areas_m2(self) -> tuple[float, float]:
        """Return the drawn gate area of an amplifier, and of a column's bias generator [m2]."""
        mirrors = self.w_tail_m + self.w_sense_n_m + 2 * self.w_mirror_m + self.w_source_m
        signal = 2 * (self.w_pair_m + self.w_cascode_m + self.w_mirror_m) + self.w_bias_p_m
        bias = 3 * self.w_reference_m + self.w_sense_n_m + self.w_bias_n_m
        amplifier = mirrors * self.l_mirror_m + signal * self.l_signal_m
        return amplifier + self.w_sink_m * self.l_output_m, bias * self.l_mirror_m

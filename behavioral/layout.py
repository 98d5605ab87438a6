"""What the datasets of a library mean: units, names, axes, and which of them must be complete."""

from typing import NamedTuple

from circuits.parameters import Technology

CIRCUITS = {
    "acam": "AcamData",
    "crossbar": "CrossbarData",
    "readout": "ReadoutData",
    "row_transfer": "RowTransferData",
}

REQUIRED = {
    "acam": ("g", "lower_v", "upper_v"),
    "crossbar": ("g", "v_row", "v_bl", "current"),
    "readout": ("r_input_ohm", "i_in", "v_dl", "gain_v_per_a", "offset_v"),
    "row_transfer": ("load_s", "ideal_v", "row_v"),
}

# Empty with the amplifier model; with transistors the column's rest current needs it.
COMPLETE_IF_ANY = {"readout": ("amplifier_offset_v",)}


def circuits_of(technology: Technology) -> list[str]:
    """Return the circuits that a library of a technology holds; ideal row drivers have none."""
    ideal = technology.driver.circuit == "ideal"
    return [name for name in CIRCUITS if not (ideal and name == "row_transfer")]


class Entry(NamedTuple):
    """Meaning of one dataset; an empty axis name is a plain index."""

    units: str
    long_name: str
    axes: tuple[str, ...]


_G = ("g",)
_EDGE = ("g", "overlap_offset_v")
_ENERGY = ("energy_g", "energy_v_dl")
_DELAY = ("delay_g", "delay_v_dl")

_ENTRIES = {
    "acam": {
        "g": Entry("S", "RRAM conductance", _G),
        "lower_v": Entry("V", "lower threshold at the sense time, on the data line", _G),
        "upper_v": Entry("V", "upper threshold at the sense time, on the data line", _G),
        "lower_static_v": Entry("V", "lower threshold, static, at the trip current", _G),
        "upper_static_v": Entry("V", "upper threshold, static, at the trip current", _G),
        "lower_status": Entry("1", "0 ok, 1 ok after a retry, 2 failed", _G),
        "upper_status": Entry("1", "0 ok, 1 ok after a retry, 2 failed", _G),
        "overlap_offset_v": Entry(
            "V", "distance from the threshold into the match side", ("overlap_offset_v",)
        ),
        "lower_overlap": Entry("1", "share of the match-line drop the lower half causes", _EDGE),
        "upper_overlap": Entry("1", "share of the match-line drop the upper half causes", _EDGE),
        "energy_g": Entry("S", "RRAM conductance of the energy table", ("energy_g",)),
        "energy_v_dl": Entry("V", "data-line voltage of the energy table", ("energy_v_dl",)),
        "energy_lower_j": Entry("J", "energy of the lower half per search", _ENERGY),
        "energy_upper_j": Entry("J", "energy of the upper half per search", _ENERGY),
        "delay_lower_s": Entry("s", "evaluation start to match line at v_sense, lower", _DELAY),
        "delay_upper_s": Entry("s", "evaluation start to match line at v_sense, upper", _DELAY),
        "delay_g": Entry("S", "RRAM conductance of the delay table", ("delay_g",)),
        "delay_v_dl": Entry("V", "data-line voltage of the delay table", ("delay_v_dl",)),
        "mismatch_g": Entry("S", "RRAM conductance of the mismatch", ("mismatch_g",)),
        "mismatch_lower_parts_v": Entry("V", "threshold for one sigma of M1, M2", ("mismatch_g",)),
        "mismatch_upper_parts_v": Entry("V", "threshold for one sigma, M3-M6", ("mismatch_g",)),
        "mismatch_lower_slope": Entry("V/V", "match line by data line, lower", ("mismatch_g",)),
        "mismatch_upper_slope": Entry("V/V", "match line by data line, upper", ("mismatch_g",)),
        "mismatch_sense_parts_v": Entry("V", "sense amplifier for one sigma of its pairs", ()),
        "monte_carlo_sense_v": Entry("V", "match line at which drawn amplifiers decide", ("",)),
        "monte_carlo_g": Entry("S", "RRAM conductance of the Monte-Carlo", ("monte_carlo_g",)),
        "monte_carlo_lower_v": Entry("V", "lower thresholds of drawn cells", ("monte_carlo_g",)),
        "monte_carlo_upper_v": Entry("V", "upper thresholds of drawn cells", ("monte_carlo_g",)),
    },
    "crossbar": {
        "g": Entry("S", "RRAM conductance", _G),
        "v_row": Entry("V", "row voltage relative to the virtual ground", ("v_row",)),
        "v_bl": Entry("V", "bit-line voltage relative to the virtual ground", ("v_bl",)),
        "current": Entry("A", "current from row to bit line", ("g", "v_row", "v_bl")),
        "status": Entry("1", "0 ok, 1 ok after a retry, 2 failed", _G),
        "settle_g": Entry("S", "mean cell conductance of the column", ("settle_g",)),
        "settle_s": Entry("s", "time to half an LSB", ("settle_g",)),
        "settle_energy_j": Entry("J", "energy of one column per product", ("settle_g",)),
        "mismatch_g": Entry("S", "RRAM conductance of the mismatch", ("mismatch_g",)),
        "mismatch_v_row": Entry("V", "row voltage of the mismatch", ("mismatch_v_row",)),
        "mismatch_parts": Entry(
            "1", "relative current for one sigma", ("mismatch_g", "mismatch_v_row")
        ),
        "monte_carlo_g": Entry("S", "RRAM conductance of the Monte-Carlo", ("monte_carlo_g",)),
        "monte_carlo_change": Entry(
            "1", "relative current of drawn cells, less 1", ("monte_carlo_g", "", "mismatch_v_row")
        ),
    },
    "readout": {
        "r_input_ohm": Entry("ohm", "input resistance of the transimpedance stage", ()),
        "i_in": Entry("A", "input current", ("i_in",)),
        "v_dl": Entry("V", "data-line voltage, one input driven", ("", "i_in")),
        "gain_v_per_a": Entry("V/A", "gain of main +, main -, error +, error -", ()),
        "gain_nominal_v_per_a": Entry("V/A", "the same with ideal amplifiers", ()),
        "amplifier_gain": Entry("V/V", "open-loop gain: transimpedance, summing stage", ()),
        "unity_gain_hz": Entry("Hz", "where the open-loop gain is 1", ()),
        "loop_crossover_hz": Entry("Hz", "where the loop gain is 1", ()),
        "phase_margin_deg": Entry("deg", "phase margin of the loop", ()),
        "amplifier_offset_v": Entry("V", "systematic input offset: transimpedance, summing", ()),
        "amplifier_offset_sigma_v": Entry("V", "random input offset, standard deviation", ()),
        "monte_carlo_offset_v": Entry("V", "input offsets of drawn amplifiers", ("",)),
        "output_lo_v": Entry("V", "output range at half the gain: transimpedance, summing", ()),
        "output_hi_v": Entry("V", "output range at half the gain: transimpedance, summing", ()),
        "nonlinearity_v": Entry("V", "data line from the straight line, largest", ()),
        "noise_v": Entry("V", "noise on the data line, rms", ()),
        "noise_a": Entry("A", "noise as current of a bit line, rms", ()),
        "amplifier_power_w": Entry("W", "supply at rest: stage, summing stage, bias", ()),
        "load_f": Entry("F", "capacitance of the data line", ("load_f",)),
        "load_settle_s": Entry("s", "full-scale step to half an LSB", ("load_f",)),
        "load_energy_j": Entry("J", "from the supply in that time, whole read-out", ("load_f",)),
        "amplifier_status": Entry("1", "0 ok, 1 ok after a retry, 2 failed", ()),
    },
    "row_transfer": {
        "load_s": Entry("S", "conductance of all cells of a row", ("load_s",)),
        "ideal_v": Entry("V", "row voltage that is asked for", ("ideal_v",)),
        "row_v": Entry("V", "row voltage that the driver gives", ("load_s", "ideal_v")),
        "status": Entry("1", "0 ok, 1 ok after a retry, 2 failed", ("load_s",)),
        "held_out_load_s": Entry("S", "other loads", ("held_out_load_s",)),
        "held_out_row_v": Entry("V", "row voltage at these", ("held_out_load_s", "ideal_v")),
    },
}

_SUFFIXES = {"v": "V", "s": "s", "a": "A", "j": "J", "g": "S", "ohm": "ohm", "hz": "Hz"}


def describe(circuit: str, name: str) -> Entry:
    """Meaning of a dataset; names that are not listed tell their unit by their suffix."""
    known = _ENTRIES[circuit].get(name)
    if known is not None:
        return known
    for part in reversed(name.split("_")):
        if part in _SUFFIXES:
            return Entry(_SUFFIXES[part], name.replace("_", " "), ())
    units = "A" if name.endswith("current") else "1"
    return Entry(units, name.replace("_", " "), ())

"""Row drivers of a library's technology in ngspice, beside the ideal DAC that inference assumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from circuits.row_driver import CODES, STEPS, PulseData, StringData, nonlinearity

REST = CODES // 2  # code of the virtual ground; without negative inputs only codes above are used


def string_text(data: StringData) -> str:
    """Return the figures of the driver with a resistor string."""
    step = data.ideal_v[1] - data.ideal_v[0]
    out = [
        f"row driver with a resistor string: {CODES} codes of {step * 1e3:.3f} mV",
        "row load    INL            DNL            from the ideal DAC, codes"
        f" 0 to {CODES - 1}, {REST} to {CODES - 1}; all in steps",
    ]
    for load, row in zip(data.load_s, data.row_v, strict=True):
        inl, dnl = nonlinearity(row)
        off = (row - data.ideal_v) / step
        out.append(
            f"{load * 1e3:5.2f} mS  {inl.min():6.2f} to {inl.max():5.2f}  {dnl.min():5.2f} to "
            f"{dnl.max():5.2f}  {off.min():6.2f} to {off.max():5.2f}, "
            f"{off[REST:].min():5.2f} to {off[REST:].max():5.2f}"
        )
    inl, dnl = data.mismatch_lsb
    out.append(
        f"mismatch of the resistors: INL {inl[0]:.2f} (1 % of strings above {inl[1]:.2f}), "
        f"DNL {dnl[0]:.3f} ({dnl[1]:.3f}) steps"
    )
    for (before, after), t, joules in zip(STEPS, data.settle_s, data.energy_j, strict=True):
        energy = f", {joules * 1e12:.2f} pJ until then" if np.isfinite(t) else ""
        out.append(
            f"step {before:3} to {after:3}: within half a step after {t * 1e9:.2f} ns{energy}"
        )
    out.append(
        f"buffers {data.power_w * 1e3:.2f} mW a row at all times, string "
        f"{data.string_w * 1e6:.1f} uW for all rows that share it"
    )
    return "\n".join(out)


def pulse_text(data: PulseData) -> str:
    """Return the figures of the bit-serial driver."""
    read = {k: nonlinearity(data.row_v(sampled=s)) for k, s in (("ends", True), ("means", False))}
    gain = data.level_v / data.ideal_v - 1.0
    toggles = data.toggle_j * 1e15
    return "\n".join(
        [
            f"bit-serial row driver: slots of {data.t_bit_s * 1e9:g} ns, "
            f"{data.t_bit_s * 8e9:g} ns for 8 bits",
            f"pulse: {data.level_v * 1e3:.1f} mV of {data.ideal_v * 1e3:g} mV ({100 * gain:.1f} %,"
            f" switch {data.r_on_ohm:.1f} ohm); there after {data.rise_s * 1e12:.0f} ps, "
            f"back after {data.fall_s * 1e12:.0f} ps",
            *(
                f"codes by the {name} of their slots: INL {inl.min():.3f} to {inl.max():.3f}, DNL "
                f"{dnl.min():.3f} to {dnl.max():.3f} steps, gain error aside"
                for name, (inl, dnl) in read.items()
            ),
            f"energy of a bit, gates [fJ]: 0 after 1 {toggles[1, 0]:.1f}, 1 after 0 "
            f"{toggles[0, 1]:.1f}, no change {toggles[0, 0]:.1f} and {toggles[1, 1]:.1f}; mean of "
            f"random bits {toggles.mean():.1f}",
            f"from the read voltage in the slot of a one: {data.read_j * 1e12:.3f} pJ",
        ]
    )


def draw_string(data: StringData, path: Path) -> None:
    """Draw transfer error, INL and DNL over the code."""
    from matplotlib.figure import Figure

    from circuits.files import write_picture

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    error, inl, dnl = figure.subplots(1, 3)
    step = data.ideal_v[1] - data.ideal_v[0]
    for load, row in zip(data.load_s, data.row_v, strict=True):
        curves = nonlinearity(row)
        error.plot((row - data.ideal_v) / step, lw=1, label=f"{load * 1e3:.2g} mS")
        inl.plot(curves[0], lw=1)
        dnl.plot(curves[1], lw=1)
    error.set(ylabel="row voltage from the ideal DAC [steps]")
    error.legend(title="row load", fontsize=7)
    inl.set(ylabel="INL [steps]")
    dnl.set(ylabel="DNL [steps]")
    for ax in (error, inl, dnl):
        ax.set(xlabel="code")
        ax.axhline(0.0, color="k", lw=0.5)
    write_picture(path, figure, dpi=120)


def draw_pulses(data: PulseData, path: Path) -> None:
    """Draw the deviation of every code's pulses from a straight line, and energies of a bit."""
    from matplotlib.figure import Figure

    from circuits.files import write_picture

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    inl, energy = figure.subplots(1, 2)
    for name, sampled in (("ends of slots", True), ("means over slots", False)):
        inl.plot(nonlinearity(data.row_v(sampled=sampled))[0], lw=1, label=name)
    inl.set(xlabel="code", ylabel="INL [steps]")
    inl.legend(fontsize=8)
    names = [f"{b} after {a}" for a in (0, 1) for b in (0, 1)]
    energy.bar(names, data.toggle_j.ravel() * 1e15)
    energy.set(ylabel="energy of a bit, gates [fJ]")
    write_picture(path, figure, dpi=120)

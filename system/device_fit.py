"""From measurements of a device to its card: fit, TOML with sources, report and plot."""

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from behavioral.fitting import DeviceFit, Floats, LawFit, states
from behavioral.measurements import Measurements
from behavioral.noise import MICRO
from circuits.errors import DataError
from circuits.files import write_picture
from circuits.parameters import Device

LAWS = {"write": "programming noise", "read": "read noise"}


def to_device(fit: DeviceFit, base: Device, name: str, source: str) -> Device:
    """Return the fitted device; what the data do not tell is taken from ``base``.

    Raises
    ------
    ParameterError
        A fitted value lies outside the permitted range of its key.
    DataError
        All targets are the same conductance.
    """
    if fit.g_min_s >= fit.g_max_s:
        raise DataError(f"all targets are {fit.g_min_s:g} S: a card needs a range of conductances")
    changes: dict[str, float | str] = {
        "name": name,
        "description": f"fitted device, {fit.g_min_s / MICRO:g} to {fit.g_max_s / MICRO:g} uS",
        "source": source,
        "g_min_s": fit.g_min_s,
        "g_max_s": fit.g_max_s,
    }
    for key in LAWS:
        found: LawFit | None = getattr(fit, key)
        if found is not None:
            changes[f"{key}_noise_exponent"] = round_to(found.law.exponent, found.exponent_error)
            scale = round_to(found.law.log_scale, found.log_scale_error)
            changes[f"{key}_noise_log_scale"] = scale
            changes[f"{key}_noise_clip_s"] = float(f"{found.law.clip_s:.4g}")
    if fit.iv is not None:
        changes["v_sinh_v"] = round_to(fit.iv.v_sinh_v, fit.iv.v_sinh_error_v)
    if fit.states:
        changes["stuck_off_rate"] = fit.stuck / fit.states
    fitted: Device = replace(base, **changes)  # type: ignore[arg-type]
    return Device.from_text(fitted.to_toml(), where=f"the fit of {name}")


def round_to(value: float, error: float) -> float:
    """Round to a hundredth of the standard error: what is beyond is chance."""
    if not np.isfinite(value) or not error > 0:
        return value
    return round(value, int(np.clip(2 - np.floor(np.log10(error)), 0, 15)))


def to_toml(device: Device, fit: DeviceFit, base: str) -> str:
    """Return the card with a comment at every key that says where its value comes from."""
    kept = f"Not in the data: taken from the card {base}."
    notes = {
        "name": "",
        "g_min_s": "Conductance range [S]: lowest and highest target of the data.",
        "v_sinh_v": kept if fit.iv is None else _iv_note(fit),
        "noise_floor_s": f"Lowest conductance that enters both laws [S]. {kept}",
        "stuck_off_rate": (
            f"Share of cells stuck at zero. Counted: {fit.stuck} of {fit.states} states."
            if fit.states
            else kept
        ),
    }
    for key, title in LAWS.items():
        found = getattr(fit, key)
        notes[f"{key}_noise_exponent"] = f"{title.capitalize()}. " + (
            kept if found is None else _law_note(found)
        )
    lines = []
    for line in device.to_toml().splitlines():
        note = notes.get(line.partition(" = ")[0])
        if note is not None:
            lines += ["", *textwrap.wrap(note, 110, initial_indent="# ", subsequent_indent="# ")]
        lines.append(line)
    header = "# Device card by nldpe devices fit; meaning of the keys: nldpe devices show FILE"
    return "\n".join([header, *lines]) + "\n"


def _law_note(found: LawFit) -> str:
    if found.law.log_scale == -np.inf:
        return f"Fitted: none, {found.points} deviations are zero."
    clip = f"clip +- {found.clip_error:.1%}" if found.clip_error else "no clip seen (highest G)"
    return (
        f"Fitted to {found.points} spreads: exponent +- {found.exponent_error:.2g}, log scale"
        f" +- {found.log_scale_error:.2g}, {clip}; binned spread {found.misfit:.1%} rms off the"
        f" law, {found.counting:.1%} expected from counting."
    )


def _iv_note(fit: DeviceFit) -> str:
    assert fit.iv is not None
    error = f"+- {fit.iv.v_sinh_error_v:.2g} V" if fit.iv.v_sinh_error_v else "no bend seen"
    return (
        f"Voltage of the sinh law [V]. Fitted to {fit.iv.points} points: {error}; currents"
        f" {fit.iv.relative_rms:.2%} rms off the law."
    )


def report(device: Device, fit: DeviceFit) -> str:
    """Return the fitted laws and how well they describe the data, for the terminal."""
    lines = [
        f"{fit.states} programmed states, {fit.stuck} stuck at zero; mean programming error"
        f" {fit.mean_error:+.2%} of the target (a card has no key for it)"
    ]
    for key, title in LAWS.items():
        found = getattr(fit, key)
        if found is None:
            lines.append(f"{title:18} not in the data (no state was read twice)")
            continue
        value = (
            f"sigma[uS] = exp({getattr(device, f'{key}_noise_exponent'):g} ln G[uS]"
            f" {getattr(device, f'{key}_noise_log_scale'):+g}),"
            f" G up to {found.law.clip_s / MICRO:.4g} uS"
        )
        lines.append(f"{title:18} {value}\n{'':18} {_law_note(found)}")
        if found.misfit > 3 * found.counting > 0:
            lines.append(f"{'':18} the law's form does not describe these data; look at the plot")
    if fit.read is None and fit.write is not None:
        lines.append("Programming noise then holds the read noise of the measurement too.")
    iv = "not in the data" if fit.iv is None else f"v_sinh = {device.v_sinh_v:g} V. {_iv_note(fit)}"
    lines.append(f"{'I-V law':18} {iv}")
    return "\n".join(lines)


def draw(data: Measurements, fit: DeviceFit, device: Device, path: Path) -> None:
    """Draw measured spreads with the fitted laws, and I-V curves, to an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    target, mean, count, variance = states(data)
    often = count > 1
    spreads = {
        "write": (target, np.abs(mean - target)),
        "read": (mean[often], variance[often] ** 0.5),
    }
    for ax, (key, title) in zip(axes, LAWS.items(), strict=False):
        _draw_law(ax, *spreads[key], getattr(fit, key), device)
        ax.set(xlabel="conductance [uS]", ylabel="sigma [uS]", title=title)
    _draw_iv(axes[2], data, device)
    figure.suptitle(f"{device.name}: {device.source}", fontsize="small")
    write_picture(path, figure, dpi=150)


def _draw_law(ax: Any, g: Floats, spread: Floats, found: LawFit | None, device: Device) -> None:
    if found is None or found.law.log_scale == -np.inf:
        ax.text(0.5, 0.5, "none fitted", ha="center", transform=ax.transAxes)
        return
    ax.loglog(g / MICRO, spread / MICRO, ".", color="0.8", ms=3, label="each state")
    middle, ratio, error = found.bins.T
    sigma = found.law.sigma(middle) / MICRO
    ax.errorbar(middle / MICRO, ratio * sigma, error * sigma, fmt="o", label="binned, rms")
    line = np.geomspace(device.g_min_s, device.g_max_s, 200)
    ax.loglog(line / MICRO, found.law.sigma(line) / MICRO, "C3", label="fitted law")
    ax.legend(fontsize="small")


def _draw_iv(ax: Any, data: Measurements, device: Device) -> None:
    from behavioral.fitting import conductances_of_curves

    v, ratio = conductances_of_curves(data, device.v_sinh_v)
    ax.plot(v, ratio, ".", color="0.6", ms=4, label="measured I / (G V)")
    if v.size:
        line = np.linspace(v.min(), v.max(), 201)
        scaled = np.where(line == 0, 1e-9, line / device.v_sinh_v)
        bend = np.sinh(scaled) / scaled if np.isfinite(device.v_sinh_v) else np.ones_like(line)
        ax.plot(line, bend, "C3", label="fitted law")
        ax.legend(fontsize="small")
    ax.set(xlabel="voltage [V]", ylabel="I / (G V)", title="I-V")

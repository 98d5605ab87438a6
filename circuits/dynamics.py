"""Dynamic models of resistive memories, as sections of a device file: how a state moves.

The static law of a device is enough for reads. These models are for programming and for what reads
do to a state; their SPICE text is ``netlists/rram_stanford.cir`` and ``netlists/rram_vteam.cir``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuits.toml_file import key_table, number_key

ELEMENTARY_CHARGE = 1.602176634e-19  # [C]
BOLTZMANN = 1.380649e-23  # [J/K]
ZERO_CELSIUS_K = 273.15

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stanford:
    """The gap model of Stanford and Peking University, in the form of SkyWater's ReRAM.

    The state is the gap between filament and electrode [nm]. A positive voltage sets.
    ``I = i_k1 exp(-gap / (tox - tfilament_ref)) sinh(V / v_ref)``; the gap's rate is
    ``-velocity_k1 (exp(-(eact_generation - x) / kT) - exp(-(eact_recombination + x) / kT))`` with
    ``x = (gamma_k0 + gamma_k1 (gap / nm)^3) a0 / tox V``; T follows ``|V I|`` with the thermal
    capacitance and time constant. Ambient: the technology's temperature.
    """

    tox_m: float = number_key("thickness of the oxide [m]", 1e-10, 1e-6)
    tfilament_min_m: float = number_key("thickness of the thinnest filament [m]", 0.0, 1e-6)
    tfilament_max_m: float = number_key("thickness of the thickest filament [m]", 0.0, 1e-6)
    tfilament_ref_m: float = number_key("filament thickness of the I-V calibration [m]", 0.0, 1e-6)
    i_k1_a: float = number_key("current of the I-V calibration [A]", 1e-12, 1.0)
    v_ref_v: float = number_key("voltage of the I-V calibration [V]", 0.02, 10.0)
    eact_generation_ev: float = number_key("activation energy of vacancy generation [eV]", 0.1, 5.0)
    eact_recombination_ev: float = number_key(
        "activation energy of vacancy recombination [eV]", 0.1, 5.0
    )
    velocity_k1_m_per_s: float = number_key("velocity of filament growth [m/s]", 1e-9, 1e9)
    gamma_k0: float = number_key("enhancement of the field, at no gap [-]", 0.0, 1e3)
    gamma_k1: float = number_key("enhancement of the field, times gap^3 in nm^3 [-]", -1e3, 1e3)
    a0_m: float = number_key("atomic distance [m]", 1e-11, 1e-8)
    c_thermal_j_per_k: float = number_key("thermal capacitance of the filament [J/K]", 1e-21, 1e-9)
    tau_thermal_s: float = number_key("thermal time constant of the filament [s]", 1e-15, 1e-3)

    template: ClassVar = "rram_stanford"
    terminals: ClassVar = "row d"  # so that a row above its bit line sets

    def fault(self) -> str:
        """Return what is wrong with several keys together, or an empty text."""
        low, ref, high = self.tfilament_min_m, self.tfilament_ref_m, self.tfilament_max_m
        if low < high <= self.tox_m and ref < self.tox_m:
            return ""
        return (
            f"stanford.tfilament_min_m = {low:g} must be below tfilament_max_m = {high:g}, and no"
            f" filament, nor tfilament_ref_m = {ref:g}, thicker than tox_m = {self.tox_m:g}"
        )

    @property
    def decay_nm(self) -> float:
        """Gap over which the current falls by a factor e [nm]."""
        return (self.tox_m - self.tfilament_ref_m) * 1e9

    @property
    def limits(self) -> tuple[float, float]:
        """State at the highest and at the lowest conductance [nm]."""
        return (self.tox_m - self.tfilament_max_m) * 1e9, (self.tox_m - self.tfilament_min_m) * 1e9

    def conductance(self, state: ArrayLike) -> Floats:
        """Return the conductance near zero volts [S] of a gap [nm]."""
        return self.i_k1_a / self.v_ref_v * np.exp(-np.asarray(state, float) / self.decay_nm)

    def state(self, conductance: ArrayLike) -> Floats:
        """Return the gap [nm] of a conductance near zero volts [S]."""
        scale = self.i_k1_a / self.v_ref_v
        return np.asarray(-self.decay_nm * np.log(np.asarray(conductance, float) / scale))

    def parameters(self, temperature_c: float) -> dict[str, float]:
        """Return what the SPICE text asks for; lengths in nm, so that a rate is in nm/ns."""
        lengths = ("tox_m", "tfilament_ref_m", "a0_m")
        units = ("_m_per_s", "_j_per_k", "_ev", "_a", "_v", "_s", "_m")
        values = {}
        for key in key_table(Stanford):
            name = next((key.removesuffix(u) for u in units if key.endswith(u)), key)
            values[name] = getattr(self, key) * (1e9 if key in lengths else 1.0)
        values["gap_min"], values["gap_max"] = self.limits
        values["k_over_q"] = BOLTZMANN / ELEMENTARY_CHARGE
        values["ambient"] = ZERO_CELSIUS_K + temperature_c
        return values


@dataclass(frozen=True)
class Vteam:
    """VTEAM (Kvatinsky et al., TCAS-II 2015), with a resistance linear in the state.

    The state is w [nm], at ``w_on`` for the lowest resistance. Beyond ``v_off`` the rate is
    ``k_off (V / v_off - 1)^a_off``, below ``v_on`` it is ``k_on (V / v_on - 1)^a_on``, else zero.
    """

    r_on_ohm: float = number_key("lowest resistance [ohm]", 1e-3, 1e12)
    r_off_ohm: float = number_key("highest resistance [ohm]", 1e-3, 1e12)
    w_on_m: float = number_key("state at the lowest resistance [m]", 0.0, 1e-6)
    w_off_m: float = number_key("state at the highest resistance [m]", 0.0, 1e-6)
    v_on_v: float = number_key("threshold below which resistance falls [V]", -10.0, -1e-6)
    v_off_v: float = number_key("threshold beyond which resistance grows [V]", 1e-6, 10.0)
    k_on_m_per_s: float = number_key("rate towards the lowest resistance [m/s]", -1e9, -1e-15)
    k_off_m_per_s: float = number_key("rate towards the highest resistance [m/s]", 1e-15, 1e9)
    a_on: float = number_key("exponent of the rate below v_on [-]", 0.1, 50.0)
    a_off: float = number_key("exponent of the rate beyond v_off [-]", 0.1, 50.0)

    template: ClassVar = "rram_vteam"
    terminals: ClassVar = "d row"  # so that a row above its bit line sets

    def fault(self) -> str:
        """Return what is wrong with several keys together, or an empty text."""
        if self.w_on_m < self.w_off_m and self.r_on_ohm < self.r_off_ohm:
            return ""
        return (
            f"vteam.w_on_m = {self.w_on_m:g} must be below w_off_m = {self.w_off_m:g}, and"
            f" r_on_ohm = {self.r_on_ohm:g} below r_off_ohm = {self.r_off_ohm:g}"
        )

    @property
    def limits(self) -> tuple[float, float]:
        """State at the highest and at the lowest conductance [nm]."""
        return self.w_on_m * 1e9, self.w_off_m * 1e9

    def conductance(self, state: ArrayLike) -> Floats:
        """Return the conductance [S] of a state [nm]."""
        on, off = self.limits
        share = (np.asarray(state, float) - on) / (off - on)
        return np.asarray(1 / (self.r_on_ohm + (self.r_off_ohm - self.r_on_ohm) * share))

    def state(self, conductance: ArrayLike) -> Floats:
        """Return the state [nm] of a conductance [S]."""
        on, off = self.limits
        share = (1 / np.asarray(conductance, float) - self.r_on_ohm) / (
            self.r_off_ohm - self.r_on_ohm
        )
        return np.asarray(on + (off - on) * share)

    def parameters(self, temperature_c: float) -> dict[str, float]:
        """Return what the SPICE text asks for; lengths in nm, so that a rate is in nm/ns."""
        del temperature_c  # VTEAM has none
        on, off = self.limits
        units = ("_m_per_s", "_ohm", "_v")
        values = {"w_on": on, "w_off": off}
        for key in key_table(Vteam):
            if not key.startswith("w_"):
                name = next((key.removesuffix(u) for u in units if key.endswith(u)), key)
                values[name] = getattr(self, key)
        return values


@dataclass(frozen=True)
class Programming:
    """Write and verify: pulses on row (set) or bit line (reset) of a 1T1R cell, a read after each.

    A pulse in the same direction as the last is ``v_step_v`` higher; after a change of direction
    pulses begin anew. A cell is done within ``tolerance`` of its target, or after ``most_pulses``.
    """

    t_pulse_s: float = number_key("length of a pulse [s]", 1e-12, 1.0)
    t_edge_s: float = number_key("rise and fall of a pulse [s]", 1e-13, 1.0)
    t_read_s: float = number_key("length of a read, to verify and in operation [s]", 1e-12, 1.0)
    v_set_v: float = number_key("first set pulse, on the row [V]", 0.0, 20.0)
    v_reset_v: float = number_key("first reset pulse, on the bit line [V]", 0.0, 20.0)
    v_step_v: float = number_key("growth from pulse to pulse [V]", 1e-4, 5.0)
    v_most_v: float = number_key("highest pulse [V]", 0.0, 20.0)
    v_gate_set_v: float = number_key("word line during set: limits the current [V]", 0.0, 20.0)
    v_gate_reset_v: float = number_key("word line during reset [V]", 0.0, 20.0)
    tolerance: float = number_key("accepted deviation, as a share of the target [-]", 1e-4, 1.0)
    most_pulses: int = number_key("pulses after which a cell counts as failed", 1, 1000, kind="int")
    rate_sigma: float = number_key(
        "spread from pulse to pulse: sd of ln(switching speed) [-]", 0.0, 5.0
    )

    def fault(self) -> str:
        """Return what is wrong with several keys together, or an empty text."""
        if max(self.v_set_v, self.v_reset_v) <= self.v_most_v:
            return ""
        return (
            f"programming.v_set_v = {self.v_set_v:g} and v_reset_v = {self.v_reset_v:g} must not"
            f" exceed v_most_v = {self.v_most_v:g}"
        )


Dynamics = Stanford | Vteam

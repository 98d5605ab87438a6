"""The bit-line wire from its geometry, for technologies that do not give its figures per cell."""

from dataclasses import dataclass

from circuits.toml_file import number_key


@dataclass(frozen=True)
class Wire:
    """A bit line: its figures per cell follow from it, and ``[column]`` leaves them out."""

    pitch_m: float = number_key("length of bit line per cell [m]", 1e-9, 1e-3)
    width_m: float = number_key("width of the bit line [m]", 1e-9, 1e-3)
    thickness_m: float = number_key("thickness of the bit line [m]", 1e-9, 1e-3)
    resistivity_ohm_m: float = number_key(
        "resistivity of the bit line, as narrow as it is [ohm m]", 0.0, 1e-3
    )
    capacitance_f_per_m: float = number_key("capacitance per length [F/m]", 0.0, 1e-6)

    @property
    def r_ohm_per_cell(self) -> float:
        """Resistance between two rows [ohm]."""
        return self.resistivity_ohm_m * self.pitch_m / (self.width_m * self.thickness_m)

    @property
    def c_f_per_cell(self) -> float:
        """Capacitance per row [F]."""
        return self.capacitance_f_per_m * self.pitch_m

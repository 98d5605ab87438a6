"""Operating corners: process, temperature and supply, and what they do to a technology."""

import re
from dataclasses import dataclass
from typing import Self

from circuits.errors import ParameterError
from circuits.parameters import CORNERS, Technology
from circuits.units import parse_number

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?[a-z]*"
_NAME = re.compile(r"(tt|ff|ss|fs|sf)(?:_(-?\d+(?:\.\d+)?)c)?(?:_(\d*\.?\d+)vdd)?")
_FORM = "write PROCESS, PROCESS_TEMPERATUREc or PROCESS_SUPPLYvdd: ff, ss_125c, tt_-40c_0.9vdd"


@dataclass(frozen=True)
class Corner:
    """A point of process, temperature and supply.

    Attributes
    ----------
    process : str
        tt, ff, ss, fs or sf; the n device first.
    temperature_c : float or None [Celsius]
        None: the technology's own.
    supply_scale : float
        Factor on what follows the supply: ``vdd_v``, the sense threshold and the supply of the
        read-out amplifiers. References (word line, virtual ground, row swing, search lines, data
        line) are regulated and stay: ours, because 8 bits ask for it.
    """

    process: str = "tt"
    temperature_c: float | None = None
    supply_scale: float = 1.0

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Read a name: ``ff``, ``ss_125c``, ``tt_-40c_0.9vdd``.

        Raises
        ------
        ParameterError
            Another form, or a supply that is not between 0.5 and 1.5.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise ParameterError(f"corner {name!r} is not known; {_FORM}")
        process, temperature, supply = found.groups()
        return cls.checked(
            process, None if temperature is None else float(temperature), float(supply or 1.0)
        )

    @classmethod
    def checked(cls, process: str, temperature_c: float | None, supply_scale: float) -> Self:
        """Return a corner; the temperature is checked by the technology that it is applied to."""
        if process not in CORNERS:
            raise ParameterError(
                f"corner {process!r} is not known; permitted: {', '.join(CORNERS)}"
            )
        if not 0.5 <= supply_scale <= 1.5:
            raise ParameterError(
                f"supply scale {supply_scale:g} is out of range; permitted 0.5 to 1.5"
            )
        return cls(process, temperature_c, supply_scale)

    @property
    def name(self) -> str:
        """The name that ``from_name`` reads; plain process where the rest is nominal."""
        temperature = "" if self.temperature_c is None else f"_{self.temperature_c:g}c"
        supply = "" if self.supply_scale == 1.0 else f"_{self.supply_scale:g}vdd"
        return self.process + temperature + supply

    def apply(self, technology: Technology) -> Technology:
        """Return the technology at this corner.

        Raises
        ------
        ParameterError
            A value that the corner brings out of its permitted range.
        """
        values = {"process.corner": self.process}
        if self.temperature_c is not None:
            values["temperature_c"] = repr(self.temperature_c)
        if self.supply_scale != 1.0:
            scaled = {
                "vdd_v": technology.vdd_v,
                "acam.v_sense_v": technology.acam.v_sense_v,
                "amplifier.v_supply_v": technology.amplifier.v_supply_v,
                "unit.v_supply_v": technology.unit.v_supply_v,
                "unit.v_reference_v": technology.unit.v_reference_v,
            }
            values |= {key: repr(value * self.supply_scale) for key, value in scaled.items()}
        return technology.override(values, where=f"corner {self.name}")


# What `--corners all` adds to the nominal point: every process at -40, 27 and 125 C, and the
# supply 10 % off.
ALL = (
    *(Corner("tt", t) for t in (-40.0, 125.0)),
    *(Corner(process, t) for process in CORNERS[1:] for t in (-40.0, None, 125.0)),
    *(Corner(supply_scale=scale) for scale in (0.9, 1.1)),
)


def read_corners(text: str) -> tuple[Corner, ...]:
    """Return the corners of a list ``ff,ss_125c``, or of the word ``all``."""
    if text.strip() == "all":
        return ALL
    return tuple(dict.fromkeys(Corner.from_name(name.strip()) for name in text.split(",")))


def corner_section(technology: Technology) -> str:
    """Return the section of a user's library at the technology's corner; empty: plain cards.

    Raises
    ------
    ParameterError
        The library has sections, but none is named for this corner.
    """
    cards, corner = technology.cards, technology.process.corner
    if corner == "tt":
        return cards.section
    section: str = getattr(cards, f"section_{corner}")
    if cards.section and not section:
        raise ParameterError(
            f"technology {technology.name!r} names no section of {cards.file} for the corner"
            f" {corner}; set cards.section_{corner}"
        )
    return section


def cards_at_corner(text: str, technology: Technology) -> str:
    """Return plain .model cards with thresholds and mobilities at the technology's corner.

    Raises
    ------
    ParameterError
        A card does not state ``vth0`` and ``u0`` as plain numbers.
    """
    process, cards = technology.process, technology.cards
    if process.corner == "tt":
        return text
    for letter, model, vth_shift, share, sign in (
        (process.corner[0], cards.nmos, process.vth_shift_n_v, process.mobility_shift_n, 1.0),
        (process.corner[1], cards.pmos, process.vth_shift_p_v, process.mobility_shift_p, -1.0),
    ):
        speed = {"f": 1.0, "s": -1.0, "t": 0.0}[letter]
        text = _shifted(text, model, -sign * speed * vth_shift, 1.0 + speed * share)
    return text


def _shifted(text: str, model: str, vth_shift: float, mobility: float) -> str:
    """Add to ``vth0`` and multiply ``u0`` in one .model card of a text."""
    card = re.compile(
        rf"^[ \t]*\.model[ \t]+{re.escape(model)}\b.*(?:\n[ \t]*(?:[+*].*)?$)*", re.I | re.M
    )
    found = card.search(text)
    assert found is not None  # cards_text has looked for both models
    body = found[0]
    for key, factor, shift in (("vth0", 1.0, vth_shift), ("u0", mobility, 0.0)):
        pattern = rf"(?<!\w){key}\s*=\s*({_NUMBER})(?=[\s)]|$)"
        values = re.findall(pattern, body, re.I)
        if len(values) != 1:
            raise ParameterError(
                f"card {model}: the corner needs {key} as one plain number; or give the library"
                " sections for its corners and name them in [cards]"
            )
        value = parse_number(values[0]) * factor + shift
        body = re.sub(pattern, f"{key}={value!r}", body, flags=re.I)
    return text[: found.start()] + body + text[found.end() :]

"""Numbers as circuit designers write them: ``150u``, ``1meg``, ``4.7k``, ``0.5``."""

import re

from circuits.errors import ParameterError

SUFFIXES = {
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "meg": 1e6,
    "g": 1e9,
    "t": 1e12,
}

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf)([a-z]*)")


def parse_number(text: str) -> float:
    """Read a number with an optional SPICE suffix.

    Parameters
    ----------
    text : str
        For example ``"150u"``, ``"1meg"``, ``"-2.5e-3"``, ``"inf"``. Case does not matter: as in
        SPICE ``m`` and ``M`` are both milli, and mega is ``meg``.

    Returns
    -------
    float
        The value; ``"150u"`` gives the same float as the literal ``150e-6``.

    Raises
    ------
    ParameterError
        When the text is not a number, or the suffix is not one of ``SUFFIXES``.
    """
    match = _NUMBER.fullmatch(text.strip().lower())
    if match is None:
        raise ParameterError(
            f"{text!r} is not a number; write for example 0.5, 150u or 1meg"
            " (suffixes f p n u m k meg g t)"
        )
    digits, suffix = match.groups()
    if suffix not in SUFFIXES:
        raise ParameterError(
            f"{text!r}: unknown suffix {suffix!r};"
            " permitted are f p n u m k meg g t (m is milli, meg is 1e6)"
        )
    if "inf" in digits:
        if suffix:
            raise ParameterError(f"{text!r}: infinity takes no suffix")
        return float(digits)
    # Shift the decimal exponent in text: 150 * 1e-6 differs from 150e-6 in the last bit.
    exponent = round(_log10(SUFFIXES[suffix]))
    mantissa, _, power = digits.partition("e")
    return float(f"{mantissa}e{int(power or 0) + exponent}")


def _log10(scale: float) -> float:
    return float(f"{scale:e}".partition("e")[2])

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.errors import ParameterError
from circuits.units import SUFFIXES, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("150u", 150e-6),
        ("1meg", 1e6),
        ("1M", 1e-3),
        ("4.7k", 4700.0),
        (".5n", 0.5e-9),
        ("2.5e-3", 2.5e-3),
        ("1e3m", 1.0),
        ("-3F", -3e-15),
        ("inf", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_suffixes_scale_as_in_spice(text, value):
    """Reference: the ngspice manual, section 2.3.1.2, table of scale factors."""
    assert parse_number(text) == value


@given(st.decimals(-999999, 999999, places=3), st.sampled_from(sorted(SUFFIXES)))
def test_suffix_equals_the_same_power_of_ten(mantissa, suffix):
    exponent = round(math.log10(SUFFIXES[suffix]))
    assert parse_number(f"{mantissa}{suffix}") == float(f"{mantissa}e{exponent}")


@given(st.floats(allow_nan=False))
def test_written_floats_read_back_exactly(value):
    assert parse_number(repr(value)) == value


@given(st.text(alphabet="xyz!?äß µ_", min_size=1, max_size=8))
def test_text_without_digits_is_a_parameter_error(text):
    with pytest.raises(ParameterError, match=re.escape(repr(text))):
        parse_number(text)


@pytest.mark.parametrize(
    "text", ["", "u", "1x", "1 k", "nan", "0x10", "1_000", "1mil", "infk", "1e"]
)
def test_junk_is_refused(text):
    with pytest.raises(ParameterError, match="suffix"):
        parse_number(text)

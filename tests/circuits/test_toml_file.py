"""The parser of parameter files: any text ends in a card or in a message."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.errors import ParameterError
from circuits.parameters import Device, Technology

CARDS = {
    Device: [Device.from_toml(name).to_toml() for name in ("taox", "sky130", "vteam")],
    Technology: [Technology.from_toml(name).to_toml() for name in ("lp16", "lp45", "cmos180")],
}
VALUES = st.one_of(
    st.sampled_from(["true", "[]", "[1, 2]", "{a = 1}", "nan", "inf", "-inf", "1979-05-27", '""']),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text("0123456789.eunmpfkg-+", max_size=8).map(lambda text: f'"{text}"'),
)


def read(kind, text):
    """Return the card; any error but the parser's own is a fault."""
    with contextlib.suppress(ParameterError):
        return kind.from_text(text)
    return None


@given(st.sampled_from([Device, Technology]), st.text(max_size=60))
def test_any_text_is_a_card_or_a_message(kind, text):
    assert read(kind, text) is None  # no text of 60 characters names all keys


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([Device, Technology]), st.data())
def test_any_value_of_a_key_is_taken_whole_or_refused(kind, data):
    """What is taken survives writing and reading."""
    lines = data.draw(st.sampled_from(CARDS[kind])).splitlines()
    keys = [k for k, line in enumerate(lines) if " = " in line]
    at = data.draw(st.sampled_from(keys))
    lines[at] = lines[at].partition(" = ")[0] + " = " + data.draw(VALUES)
    card = read(kind, "\n".join(lines))
    assert card is None or kind.from_text(card.to_toml()) == card


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([Device, Technology]), st.data())
def test_a_broken_card_is_refused_in_words(kind, data):
    """Lines lost, doubled or swapped."""
    lines = data.draw(st.sampled_from(CARDS[kind])).splitlines()
    a, b = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    change = data.draw(st.sampled_from(["lose", "double", "swap"]))
    if change == "lose":
        del lines[a]
    elif change == "double":
        lines.insert(b, lines[a])
    else:
        lines[a], lines[b] = lines[b], lines[a]
    card = read(kind, "\n".join(lines))
    assert card is None or kind.from_text(card.to_toml()) == card

import dataclasses
import math
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.errors import ParameterError
from circuits.parameters import (
    Device,
    Technology,
    describe_key,
    load_parameters,
    parameter_keys,
    parse_overrides,
    shipped_names,
)
from circuits.toml_file import key_comments


def test_shipped_files_load_and_survive_a_round_trip():
    for cls, folder in ((Device, "devices"), (Technology, "technologies")):
        for name in shipped_names(folder):
            loaded = cls.from_toml(name)
            assert cls.from_text(loaded.to_toml()) == loaded


def test_default_device_is_the_published_one():
    """Reference: NL-DPE (arXiv 2511.13950) range, and the noise constants of its released code."""
    device = Device.from_toml("taox")
    assert (device.g_min_s, device.g_max_s) == (0.01e-6, 150e-6)
    assert (device.write_noise_exponent, device.write_noise_log_scale) == (0.95, -1.86)
    assert (device.read_noise_exponent, device.read_noise_log_scale) == (0.98, -3.1)


def test_ideal_device_is_linear_and_noiseless():
    device = Device.from_toml("ideal")
    assert math.isinf(device.v_sinh_v)
    assert math.exp(device.write_noise_log_scale) == math.exp(device.read_noise_log_scale) == 0


def test_every_key_is_commented_in_the_shipped_files_and_described():
    for key in parameter_keys():
        assert describe_key(key)
    for folder, name in (("devices", "taox"), ("technologies", "lp16")):
        text = resources.files("netlists").joinpath(folder, f"{name}.toml").read_text()
        assert text.count("#") >= 10


def _device_text(**changes):
    lines = Device.from_toml("taox").to_toml().splitlines()
    keys = {line.partition(" = ")[0]: line for line in lines}
    for key, value in changes.items():
        keys[key] = f"{key} = {value}" if value is not None else ""
    return "\n".join(keys.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"g_maxs": "1e-6"}, "unknown key 'g_maxs'; nearest: g_max_s"),
        ({"g_max_s": None}, "missing key 'g_max_s'"),
        ({"g_max_s": "true"}, "g_max_s = True must be a number"),
        ({"g_max_s": '"150x"'}, "unknown suffix 'x'"),
        ({"g_max_s": "-1.0"}, r"g_max_s = -1 is out of range; permitted 1e-12 to 1"),
        ({"g_max_s": "nan"}, "g_max_s = nan is out of range"),
        ({"g_max_s": "1e-9"}, "g_min_s = 1e-08 must be below g_max_s"),
        ({"name": "3"}, "name = 3 must be a text"),
        ({"g_max_s": "= 3"}, "not valid TOML.*line"),
    ],
)
def test_wrong_files_are_explained(tmp_path, changes, message):
    path = tmp_path / "mine.toml"
    path.write_text(_device_text(**changes))
    with pytest.raises(ParameterError, match=message) as caught:
        Device.from_toml(path)
    assert "mine.toml" in str(caught.value)


def test_all_that_is_wrong_with_a_file_is_named_at_once():
    with pytest.raises(ParameterError) as caught:
        Device.from_text('g_mx_s = 1\ng_min_s = "1x"\n', where="mine")
    lines = str(caught.value).splitlines()
    assert lines[0] == "mine: unknown key 'g_mx_s'; nearest: g_max_s, g_min_s"
    assert any("'1x': unknown suffix 'x'" in line for line in lines)
    assert sum("missing key" in line for line in lines) == 11


def test_comments_are_found_by_full_key():
    text = "# a\n# b\nx = 1\ny = 2\n\nz = 3\n[s]\n# c = d\nx = [4]\n# e\n\n# f\nw = 5\n"
    assert key_comments(text) == {"x": "a b", "y": "a b", "s.x": "c = d", "s.w": "f"}
    assert key_comments("# g\n[s]\nx = 1\n# h\ny = 2") == {"s.x": "g", "s.y": "g h"}


def test_every_key_of_the_shipped_devices_with_figures_has_a_source():
    for name in ("taox", "sky130", "vteam"):
        text = resources.files("netlists").joinpath("devices", f"{name}.toml").read_text()
        comments, device = key_comments(text), Device.from_toml(name)
        keys = {key.partition(".")[2] for key in parameter_keys() if key.startswith("device.")}
        given = {key for key in keys if "." not in key or getattr(device, key.split(".")[0])}
        for key in given - {"name", "description", "source"}:
            assert re.search(r"[Ss]ource|[Oo]urs", comments[key]) or "no effect" in comments[key]


def test_sky130_card_follows_from_the_published_gap_model():
    """I = I0 exp(-gap / g0) sinh(V / V0); 61.4 uA, 0.2751 nm, 0.43 V, gap 0.1 to 1.7 nm."""
    device = Device.from_toml("sky130")
    for g, gap in ((device.g_max_s, 0.1), (device.g_min_s, 1.7)):
        assert g == pytest.approx(61.4e-6 / 0.43 * math.exp(-gap / 0.2751), rel=2e-3)
    assert device.v_sinh_v == 0.43


def test_suffixes_are_read_in_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(_device_text(g_max_s='"100u"'))
    assert Device.from_toml(str(path)).g_max_s == 100e-6


def test_unknown_name_gives_the_shipped_ones():
    with pytest.raises(ParameterError, match=r"nearest: taox; shipped: ideal, sky130, taox, vteam"):
        Device.from_toml("taoxx")


def test_unknown_key_of_a_section_names_section_and_nearest():
    text = Technology.from_toml("lp16").to_toml().replace("r_wire_ohm_per_cell", "r_wire_ohm")
    with pytest.raises(
        ParameterError, match=r"'column.r_wire_ohm'; nearest: column.r_wire_ohm_per"
    ):
        Technology.from_text(text)


def test_the_wire_of_a_cell_follows_from_its_geometry():
    """Metal 4 of FreePDK45, 0.21 ohm per square; two squares in the pitch make 0.42 ohm."""
    lines = Technology.from_toml("lp45").to_toml().replace("pitch_m = 6e-07", "pitch_m = 280e-9")
    text = "\n".join(line for line in lines.splitlines() if "_wire_" not in line)
    column = Technology.from_text(text).column
    assert column.r_wire_ohm_per_cell == pytest.approx(0.42)
    assert column.c_wire_f_per_cell == pytest.approx(64.7e-12 * 280e-9)


def test_an_override_of_geometry_or_of_the_wire_itself_wins():
    _, narrow = load_parameters("taox", "lp45", ["wire.width_m=70n"])
    assert narrow.column.r_wire_ohm_per_cell == pytest.approx(1.8)  # 0.9 at 140 nm
    _, given = load_parameters("taox", "lp45", ["r_wire_ohm_per_cell=3"])
    assert given.wire is None
    assert given.column.r_wire_ohm_per_cell == 3.0
    assert given.column.c_wire_f_per_cell == narrow.column.c_wire_f_per_cell


def test_a_wire_given_twice_or_not_at_all_is_refused():
    text = Technology.from_toml("lp45").to_toml()
    with pytest.raises(ParameterError, match=r"r_wire_ohm_per_cell = 2, but \[wire\] gives 0.9"):
        Technology.from_text(re.sub(r"(r_wire_ohm_per_cell =) \S+", r"\1 2.0", text))
    lines = Technology.from_toml("lp16").to_toml().splitlines()
    text = "\n".join(line for line in lines if "r_wire_ohm" not in line)
    with pytest.raises(ParameterError, match=r"r_wire_ohm_per_cell'; give it.*section \[wire\]"):
        Technology.from_text(text)


def test_a_section_that_a_file_lacks_cannot_be_overridden():
    with pytest.raises(ParameterError, match=r"wire.width_m cannot.* no section \[wire\]"):
        load_parameters("taox", "lp16", ["wire.width_m=70n"])


def test_overrides_reach_both_files_by_full_or_leaf_name():
    device, technology = load_parameters(
        "taox", "lp16", ["g_max_s=100u", "column.r_wire_ohm_per_cell=2.5", "vdd_v=0.95", "rows=64"]
    )
    assert (device.g_max_s, technology.vdd_v) == (100e-6, 0.95)
    assert (technology.column.r_wire_ohm_per_cell, technology.column.rows) == (2.5, 64)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("g_max_s", "write key=value"),
        ("=3", "write key=value"),
        ("gmax=3", "unknown key 'gmax'; nearest: device.g_max_s"),
        ("name=x", "ambiguous: device.name, technology.name"),
    ],
)
def test_wrong_overrides_are_explained(item, message):
    with pytest.raises(ParameterError, match=message):
        parse_overrides([item])


def test_override_out_of_range_is_refused():
    with pytest.raises(ParameterError, match=r"column.rows = 2.5 must be a whole number"):
        load_parameters("taox", "lp16", ["rows=2.5"])


@given(st.sampled_from(sorted(parameter_keys())), st.text(min_size=1, max_size=20))
def test_full_keys_parse_to_themselves(key, text):
    if text.strip():
        assert parse_overrides([f"{key}={text}"]) == {key: text.strip()}


@given(st.text(max_size=20).filter(lambda text: "=" not in text))
def test_override_without_a_value_is_a_parameter_error(item):
    with pytest.raises(ParameterError, match=re.escape(repr(item))):
        parse_overrides([item])


def test_parameters_are_frozen():
    device = Device.from_toml("taox")
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.g_max_s = 1.0


def test_users_own_cards_are_found_beside_the_technology_file(tmp_path):
    technology = Technology.from_toml("lp16")
    (tmp_path / "own.lib").write_text(technology.cards_path().read_text())
    path = tmp_path / "own.toml"
    path.write_text(technology.to_toml().replace('"lp16.lib"', '"own.lib"'))
    assert Technology.from_toml(path).cards_path() == tmp_path / "own.lib"


def test_missing_cards_are_explained(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(Technology.from_toml("lp16").to_toml().replace('"lp16.lib"', '"no.lib"'))
    with pytest.raises(ParameterError, match=r"no.lib.*shipped cards: cmos180.lib, lp16"):
        Technology.from_toml(path)

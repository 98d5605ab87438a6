"""nldpe devices and nldpe technologies, as a user calls them."""

import csv
import tomllib

import numpy as np
import pytest

from behavioral.noise import NoiseLaw
from circuits.parameters import Device, Technology
from system.cards import keys_of, show_card
from system.commands.main import main

TAOX = Device.from_toml("taox")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a CSV file drawn from the TaOx card: 300 states, 6 reads each, three I-V curves."""
    rng = np.random.default_rng(0)
    place = tmp_path_factory.mktemp("data") / "lot7.csv"
    with place.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["target_s", "measured_s", "read_index", "voltage_v", "current_a"])
        for target in np.geomspace(1e-8, 1.5e-4, 300):
            g = target + rng.normal() * float(NoiseLaw.write(TAOX).sigma(target))
            reads = g + rng.normal(size=6) * float(NoiseLaw.read(TAOX).sigma(g))
            out.writerows([f"{target:.8g}", f"{x:.8g}", k, "", ""] for k, x in enumerate(reads))
        for g in (1e-6, 1e-5, 1e-4):
            for k, v in enumerate(np.linspace(0.02, 0.4, 12)):
                i = g * 0.4 * np.sinh(v / 0.4) * (1 + 0.002 * rng.normal())
                out.writerow([g, "", k, f"{v:.4f}", f"{i:.8g}"])
    return place


def test_list_names_every_shipped_card(capsys):
    assert main(["devices", "list"]) == main(["technologies", "list"]) == 0
    shown = capsys.readouterr().out
    assert [w for w in ("taox", "ideal", "sky130", "vteam", "lp16") if w not in shown] == []


@pytest.mark.parametrize(("kind", "name"), [(Device, "taox"), (Technology, "lp16")])
def test_show_prints_every_key_with_value_meaning_and_source(kind, name):
    text = show_card(kind, name)
    for key, item, _ in keys_of(kind.from_toml(name)):
        assert key in text
        if item.metadata["kind"] != "section" and key not in ("name", "description", "source"):
            block = text.partition(f"\n{key} = ")[2].partition("\n\n")[0]
            assert item.metadata["text"].split()[0] in block
            assert "    # " in block
            assert "no comment" not in block


def test_show_tells_what_the_noise_comes_to(capsys):
    """At 1 uS the released code's laws give exp(-1.86) = 0.1557 and exp(-3.1) = 0.04505 uS."""
    assert main(["devices", "show", "taox"]) == 0
    shown = capsys.readouterr().out
    assert "1 uS    0.1557 uS (15.6%)" in shown
    assert "0.04505 uS ( 4.5%)" in shown


def test_diff_prints_what_differs_and_nothing_else(capsys):
    assert main(["devices", "diff", "taox", "sky130"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["v_sinh_v", "V", "0.4", "0.43", "1.075"] for line in lines)
    assert not any("noise_floor_s" in line for line in lines)
    assert main(["devices", "diff", "taox", "taox"]) == 0
    assert "same parameters" in capsys.readouterr().out


def test_check_names_everything_that_is_wrong(tmp_path, capsys):
    text = TAOX.to_toml().replace("g_max_s", "g_mx_s").replace("v_sinh_v = 0.4", "v_sinh_v = -1.0")
    (tmp_path / "mine.toml").write_text(text)
    assert main(["devices", "check", str(tmp_path / "mine.toml")]) == 1
    shown = capsys.readouterr().err
    assert "unknown key 'g_mx_s'; nearest: g_max_s" in shown
    assert "v_sinh_v = -1 is out of range; permitted 0.02 to inf" in shown


def test_check_of_a_technology_opens_its_transistor_cards(tmp_path, capsys):
    text = Technology.from_toml("lp16").to_toml()
    (tmp_path / "mine.toml").write_text(text.replace('"n16lp"', '"nch"'))
    assert main(["technologies", "check", "lp16"]) == 0
    assert main(["technologies", "check", str(tmp_path / "mine.toml")]) == 1
    assert "cards.nmos = 'nch' is not a model" in capsys.readouterr().err


def test_fit_writes_a_card_that_tells_its_source(table, tmp_path, capsys):
    """The data come from the TaOx card: sigma within 20 % where the card has both noises."""
    out, plot = tmp_path / "lot7.toml", tmp_path / "lot7.png"
    assert main(["devices", "fit", str(table), "--out", str(out)]) == 0
    device = Device.from_toml(out)
    for law in (NoiseLaw.write, NoiseLaw.read):
        for g in (1e-7, 1e-6, 1e-4):
            assert law(device).sigma(g) == pytest.approx(law(TAOX).sigma(g), rel=0.2)
    assert device.v_sinh_v == pytest.approx(0.4, rel=0.01)
    assert "fitted from lot7.csv (1836 rows, 300 programmed states) on 20" in device.source
    assert "expected from counting" in out.read_text()
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "300 programmed states, 0 stuck" in capsys.readouterr().out


def test_what_the_data_do_not_tell_comes_from_the_base_card(table, tmp_path):
    noise = [line for line in table.read_text().splitlines() if line.endswith((",,", "current_a"))]
    (tmp_path / "noise.csv").write_text("\n".join(noise))
    out = tmp_path / "d.toml"
    base = ["--base", "sky130", "--name", "lot"]
    assert main(["devices", "fit", str(tmp_path / "noise.csv"), "--out", str(out), *base]) == 0
    assert (Device.from_toml(out).v_sinh_v, Device.from_toml(out).name) == (0.43, "lot")
    assert "taken from the card sky130" in out.read_text()
    assert tomllib.loads(out.read_text())["stuck_off_rate"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nowhere.csv", "--out", "d.toml"], "cannot read nowhere.csv"),
        (["fit", "bad.csv", "--out", "d.toml"], "unknown column 'target'; nearest: target_s"),
        (["fit", "bad.csv", "--out", "no/d.toml"], "does not exist; make it first"),
        (["fit", "bad.csv", "--out", "d.toml", "--plot", "p.gif"], "permitted endings"),
        (["fit", "few.csv", "--out", "d.toml"], "2 measured deviations are too few"),
        (["show", "taoxx"], "nearest: taox"),
        (["program", "taox"], "'taox' has no dynamic model"),
        (["program", "sky130", "--targets-us", "5..x"], "write 1..90 or 1,10,90"),
        (["program", "sky130", "--targets-us", "500"], "permitted 0.296 to 99.3 uS"),
        (["program", "sky130", "--set", "v_set_v=9"], "must not exceed v_most_v"),
        (["disturb", "sky130", "--reads", "1"], "permitted 10 to 1e18"),
        (["disturb", "sky130", "--voltages-v", "9"], "permitted -5 to 5 V"),
    ],
)
def test_mistakes_end_in_a_message_and_no_file(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("target,measured_s\n1u,1u\n")
    (tmp_path / "few.csv").write_text("target_s,measured_s\n1u,1.1u\n2u,2u\n")
    assert main(["devices", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d.toml").exists()
    assert not list(tmp_path.glob("*/*.csv"))


def test_a_section_that_one_card_lacks_shows_as_none(capsys):
    assert main(["devices", "diff", "sky130", "vteam"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stanford.tox_m", "m", "5e-09", "none"] in lines
    assert ["vteam.r_on_ohm", "ohm", "none", "50"] in lines


@pytest.mark.ngspice
def test_program_and_disturb_write_tables_that_fit_reads(tmp_path, monkeypatch, capsys):
    """Coarse pulses for time; `devices fit` takes the table of programmed states as it is."""
    monkeypatch.setenv("NLDPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    coarse = ["--set", "v_step_v=0.05", "--set", "tolerance=0.3", "--workers", "1"]
    cells = ["--targets-us", "5,20", "--cells", "10", *coarse]
    assert main(["devices", "program", "sky130", *cells]) == 0
    assert "20 of 20 cells within the tolerance" in capsys.readouterr().out
    fit = ["fit", "programmed/measurements.csv", "--base", "sky130", "--out", "w.toml"]
    assert main(["devices", *fit]) == 0
    assert np.isfinite(Device.from_toml("w.toml").write_noise_log_scale)
    states = ["--states-us", "10", "--voltages-v", "0.8", "--workers", "1"]
    assert main(["devices", "disturb", "sky130", *states]) == 0
    table = (tmp_path / "disturbed/disturb.csv").read_text().splitlines()
    rows = list(csv.DictReader(table))
    assert float(rows[-1]["reads"]) == 1e6
    assert 1e-6 < float(rows[-1]["change"]) < 1e-3

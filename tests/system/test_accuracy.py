"""The table of accuracy."""

import csv

import pytest

from system.commands.main import main
from system.inference import Score
from system.sweep import runs
from system.sweep.accuracy import PUBLISHED, mode_axis, to_markdown
from system.sweep.points import grid
from system.sweep.table import Row

LENET = "lenet-mnist-float"


@pytest.mark.ngspice
def test_one_command_makes_the_table_and_the_second_time_nothing_runs(
    quick_library, tmp_path, monkeypatch, capsys
):
    words = ["accuracy", LENET, "--library", str(quick_library), "--samples", "30"]
    words += ["--chips", "2", "--workers", "1", "--out", str(tmp_path)]
    assert main(words) == 0
    text = (tmp_path / "accuracy.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"| `{LENET}`"))
    rows = list(csv.DictReader((tmp_path / "accuracy.csv").read_text().splitlines()))
    assert [row["mode"] for row in rows] == ["float", "quantized", "ideal-analog", "noisy"]
    assert [row["chips"] for row in rows] == ["1", "1", "1", "2"]
    assert f"{100 * float(rows[0]['mean']):.2f} %" in line
    monkeypatch.setattr(runs, "perform", lambda task: pytest.fail("done again"))
    assert main(words) == 0
    assert (tmp_path / "accuracy.md").read_text() == text
    assert capsys.readouterr().out.count("published, not ours") == 2


def test_the_worst_chip_is_compared_with_float():
    rows = [Row(p, p.values[0], "accuracy", 100) for p in grid(["net"], [mode_axis()])]
    for row, values in zip(rows, ([0.9], [0.89], [0.88], [0.87, 0.85]), strict=True):
        row.scores = {k: vars(Score(v, 1, 0, 1.0)) for k, v in enumerate(values)}
    text = to_markdown(rows, 2, "here")
    assert "| 90.00 % | 89.00 % | 88.00 % | 86.00 ± 1.41 % | 85.00 | -5.00 points |" in text


def test_published_rows_are_marked_and_stand_apart():
    """RACE-IT, Table III."""
    rows = [
        Row(p, p.values[0], "accuracy", 1, {0: {"value": 1.0}})
        for p in grid(["net"], [mode_axis()])
    ]
    own, published = to_markdown(rows, 1, "here").split("| published, not ours |")
    assert "| EfficientNet, CIFAR-10 | 91.15 % | 89.32 % | 70.25 % | 89.37 % |" in published
    assert "| BERT-base, MNLI | 84.20 % |  | 77.42 % | 82.09 % |" in published
    assert not any(row.network in own for row in PUBLISHED)

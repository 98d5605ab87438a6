"""The demonstration on a few samples: everything it promises is written."""

import shutil

import pytest

from behavioral.library import Library
from system import demo, validation


@pytest.mark.ngspice
def test_the_demonstration_writes_its_report_and_plots(
    quick_library, tmp_path, monkeypatch, capsys
):
    library = Library.from_hdf5(quick_library)
    small = {
        "cnn": demo.Job(("lenet-mnist-float",), 30, 2, 2, ("fc3",)),
        "language": demo.Job(
            ("llama-austen-float",), 1, 1, 1, ("model.layers.0.self_attn.k_proj",)
        ),
    }
    shutil.copy(quick_library, tmp_path / "library.h5")
    monkeypatch.setattr(demo, "characterize", lambda folder, workers: library)
    monkeypatch.setattr(demo, "JOBS", small)
    few = validation.Sampling(tiles=1, columns=1, stimuli=3, searches=2)
    monkeypatch.setattr(demo, "SAMPLING", few)
    findings = demo.run(tmp_path, list(small), workers=1)
    report = (tmp_path / "report.md").read_text()
    assert all(f"{r.mean * 100:.2f}" in report for r in findings.results if r.metric == "accuracy")
    assert library.sha256 in report
    assert demo.PROMPT in report
    for name in ("waterfall-0", "spice-0", "circuits-0-thresholds"):
        assert f"](report-figures/{name}.svg)" in report
        assert "<svg" in (tmp_path / "report-figures" / f"{name}.svg").read_text()
    assert library.sha256 in (tmp_path / "report.html").read_text()
    assert len(findings.results) == 8
    assert "Checking the tables against ngspice" in capsys.readouterr().out

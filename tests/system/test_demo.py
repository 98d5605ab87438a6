"""The demonstration on a few samples: everything it promises is written."""

import pytest

from behavioral.library import Library
from system import demo, validation
from system.report import results_table


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
    monkeypatch.setattr(demo, "characterize", lambda folder, workers: library)
    monkeypatch.setattr(demo, "JOBS", small)
    few = validation.Sampling(tiles=1, columns=1, stimuli=3, searches=2)
    monkeypatch.setattr(demo, "SAMPLING", few)
    findings = demo.run(tmp_path, list(small), workers=1)
    report = (tmp_path / "report.md").read_text()
    assert results_table(findings.results) in report
    assert library.sha256 in report
    assert demo.PROMPT in report
    for name in ("circuits.png", "modes.png", "spice.png"):
        assert f"]({name})" in report
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(findings.results) == 8
    assert "Checking the tables against ngspice" in capsys.readouterr().out

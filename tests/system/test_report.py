"""The report: what it holds, what it refuses, and how it looks in a real browser."""

import json

import pytest

from circuits.errors import FormatError, NldpeError, ParameterError
from system.inference import Result
from system.report import Material, make_report, write_report
from system.report.accuracy import gather, results_table
from system.report.markdown import to_markdown, to_table
from system.report.page import to_html
from system.report.records import Evaluation
from tests.system.browser import Browser

TEXT = {"model": "net", "mode": "noisy", "prompt": "Once <b>", "text": " upon & a |time|",
        "seed": 0, "temperature": 0.0, "library_sha256": "ab"}  # fmt: skip


def result(mode: str, metric: str, mean: float, std: float = 0.0, chips: int = 1) -> Result:
    return Result(
        "net", mode, metric, mean, std, [mean] * chips, 0, chips, 10, "ab", 1.0, 10.0, 0, 0,
        "frozen", {},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Return a folder of results of one network in all modes, and a text."""
    for mode, mean in (("float", 0.99), ("quantized", 0.98), ("noisy", 0.97)):
        content = result(mode, "accuracy", mean, 0.004, 5 if mode == "noisy" else 1).to_dict()
        (tmp_path / f"{mode}.json").write_text(json.dumps(content))
    (tmp_path / "text.json").write_text(json.dumps(TEXT))
    return tmp_path


def test_accuracy_is_in_percent_with_the_spread_over_chips():
    results = [result("float", "accuracy", 0.99), result("noisy", "accuracy", 0.9712, 0.004, 5)]
    table = to_table(results_table(gather([Evaluation(r) for r in results])))
    assert table.splitlines()[-1] == "| `net` | accuracy | 10 | 99.00 % |  |  | 97.12 ± 0.40 % |"


def test_perplexity_is_a_plain_number():
    table = results_table(gather([Evaluation(result("quantized", "perplexity", 31.256))]))
    assert table.rows[0][4] == "31.26"


def test_two_results_of_one_mode_are_both_kept():
    twice = [Evaluation(result("noisy", "accuracy", mean)) for mean in (0.9, 0.8)]
    assert [row[-1] for row in results_table(gather(twice)).rows] == ["90.00 %", "80.00 %"]


def test_the_report_has_only_sections_whose_inputs_were_given(folder):
    report = make_report(Material.read([folder]))
    assert [s.key for s in report.sections] == ["summary", "accuracy", "text", "origin"]
    assert [f.name for f in report.figures] == ["waterfall-0"]


def test_what_a_model_wrote_is_text_and_never_markup(folder):
    report = make_report(Material.read([folder]))
    assert "Once &lt;b&gt;" in to_html(report)
    assert "Once \\<b\\>" in to_markdown(report, "figures")


def test_the_same_material_gives_the_same_bytes(folder):
    first, second = (to_html(make_report(Material.read([folder]))) for _ in range(2))
    assert first == second


def test_the_page_names_nothing_outside_itself(folder):
    page = to_html(make_report(Material.read([folder])))
    page = page.replace("http://www.w3.org/", "")  # names of XML, never fetched
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page


def test_results_of_two_libraries_are_not_shown_as_one(folder):
    (folder / "text.json").write_text(json.dumps({**TEXT, "library_sha256": "cd"}))
    assert "different libraries" in to_html(make_report(Material.read([folder])))


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "cannot read"), ("[1]", "nothing that a report is made of"),
     (json.dumps({**TEXT, "text": 3}), "not a text"),
     (json.dumps({**result("noisy", "accuracy", 0.9).to_dict(), "mean": "x"}), "not a number")],
)  # fmt: skip
def test_a_damaged_or_unknown_file_ends_in_a_message(tmp_path, text, named):
    place = tmp_path / "x.json"
    place.write_text(text)
    with pytest.raises(FormatError, match=named):
        Material.read([place])


def test_damaged_tables_libraries_and_missing_files_end_in_a_message(tmp_path):
    for name, content in (("sweep.csv", "model,metric\nx,y\n"), ("a.h5", "x"), ("a.png", "x")):
        (tmp_path / name).write_text(content)
        with pytest.raises(FormatError):
            Material.read([tmp_path / name])
    with pytest.raises(ParameterError, match="no file or folder"):
        Material.read([tmp_path / "none"])


def test_an_empty_folder_is_nothing_to_report_on(tmp_path):
    with pytest.raises(NldpeError, match="nothing to report on"):
        Material.read([tmp_path])


@pytest.mark.ngspice
def test_the_page_fits_laptop_and_phone_in_a_real_browser(folder, quick_library, tmp_path):
    """No complaint in the console, nothing fetched, no scrolling sideways, figures drawn."""
    page = tmp_path / "page.html"
    report = write_report(Material.read([folder, quick_library]), page)
    with Browser(tmp_path / "profile") as browser:
        for width in (1280, 390):
            browser.open(page, width)
            assert browser.evaluate("innerWidth") == width
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            drawn = browser.evaluate(
                "[...document.querySelectorAll('figure svg')]"
                ".filter(s => s.clientHeight > 99).length"
            )
            assert drawn == len(report.figures)
        assert not browser.complaints

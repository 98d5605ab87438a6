"""Nearness to float32 on texts, and the table of it and of answers."""

import csv

import pytest

from behavioral.library import Library
from system import answers, quality, quality_study
from system.commands.main import main
from system.data import texts
from system.models.ops import FloatOps
from system.parts import PARTS
from system.quality_study import Found, QualityStudy, Row, to_csv, to_markdown
from system.sweep.runs import RunFolder
from tests.system.small_llama import LLAMA, Shifted, small


def test_figures_are_those_of_torch():
    torch = pytest.importorskip("torch")
    network = small()
    exact, other = (kind(network.model.tensors) for kind in (FloatOps, Shifted))
    window = network.encode("She was the youngest of the two daughters of a most")[None]
    found = quality.compare(network, other, exact, window, "test")
    logits = [torch.tensor(network.model.forward(window[:, :-1], o)[0]) for o in (other, exact)]
    target = torch.tensor(window[0, 1:])
    losses = [torch.nn.functional.cross_entropy(z, target) for z in logits]
    rows = [torch.log_softmax(z.double(), -1) for z in logits]
    divergence = torch.nn.functional.kl_div(*rows, log_target=True, reduction="batchmean")
    wanted = [loss.exp().item() for loss in losses]
    assert [found.perplexity, found.exact] == pytest.approx(wanted, rel=1e-5)
    assert found.divergence == pytest.approx(divergence.item(), rel=1e-5)
    agreement = (rows[0].argmax(-1) == rows[1].argmax(-1)).double().mean().item()
    assert found.agreement == pytest.approx(agreement)
    assert found.divergence > 0
    assert found.agreement < 1


def test_reviews_are_whole_and_without_markup():
    text = texts.reviews()
    assert 250_000 < len(text) < 450_000
    assert "<br" not in text
    assert len(text.split("\n\n")) >= 250


@pytest.fixture
def study(quick_library):
    library = Library.from_hdf5(quick_library)
    network = small(library.technology.column.rows)
    return QualityStudy(network, library, samples=1, chips=1, seed=0, parts=True)


@pytest.mark.ngspice
def test_every_mode_and_part_is_measured_once(study, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "ANSWER_TOKENS", 2)
    monkeypatch.setattr(quality_study, "NOISE", {"noisy": "frozen"})
    found = study.run(RunFolder(tmp_path))
    modes = {f.row.mode: f for f in found if not f.row.part}
    exact = modes["float"].chips[0]
    assert (exact["reviews"]["agreement"], exact["reviews"]["divergence"]) == (1.0, 0.0)
    shares = {key: exact["answers"][key] for key in ("kept", "leading", "likeliest")}
    assert shares == {"kept": 1.0, "leading": 1.0, "likeliest": 1.0}
    assert exact["answers"]["lead_change"] == pytest.approx(
        0, abs=1e-4
    )  # one pass, or a token each
    assert [f.row.part for f in found if f.row.part] == list(PARTS)
    whole = max(modes["noisy"].values("persuasion", "divergence"))
    parts = [f.values("persuasion", "divergence") for f in found if f.row.part]
    assert all(0 < value < 2 * whole for values in parts for value in values)
    monkeypatch.setattr(study, "_measure", lambda *a: pytest.fail("done again"))
    assert study.run(RunFolder(tmp_path)) == found


def near(perplexity, kept=None):
    text = {"perplexity": perplexity, "exact": 40.0, "agreement": 0.5, "divergence": 0.25}
    found = {name: text for name in texts.HELD_OUT}
    if kept is None:
        return found
    return {
        **found,
        "answers": {"kept": kept, "leading": 0.5, "likeliest": 0.75, "lead_change": 0.125},
    }


def test_the_worst_chip_is_the_highest_above_float():
    found = [
        Found(Row("net", "float"), [near(40.0, 1.0)]),
        Found(Row("net", "noisy"), [near(42.0, 0.8), near(44.0, 0.6)]),
        Found(Row("net", "noisy", "softmax"), [near(41.0)]),
    ]
    lines = to_markdown(found).splitlines()
    assert "| `net` | noisy | 2 | 43.00 ± 1.41 | +7.5 | +10.0 | 50.0 ± 0.0 |" in lines[3]
    assert lines[3].endswith("| 70 ± 14 | 50 ± 0 | 75.0 ± 0.0 | 0.12 ± 0.00 |")
    assert "| `net` | softmax, noisy | 1 | 41.00 | +2.5 | +2.5 | 50.0 | 0.2500 |" in lines[4]
    rows = list(csv.DictReader(to_csv(found).splitlines()))
    assert len(rows) == 4 * len(texts.HELD_OUT)
    assert (rows[-1]["part"], rows[-1]["answers_kept"]) == ("softmax", "")
    assert (rows[0]["answers_kept"], rows[0]["answers_likeliest"]) == ("1.0", "0.75")


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet-mnist"], "is no language model"),
        ([LLAMA, LLAMA], "is named twice"),
        ([LLAMA, "--map", "slice=1"], "unknown mapping key"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, message, quick_library, tmp_path, capsys):
    out = ["--library", str(quick_library), "--out", str(tmp_path)]
    assert main(["quality", *arguments, *out]) == 1
    assert message in capsys.readouterr().err

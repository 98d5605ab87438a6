"""Greedy answers: which of float32's an arithmetic gives, and by how much leads change."""

import numpy as np
import pytest

from circuits.errors import DataError, ParameterError
from system import answers
from system.commands.main import main
from system.generation import generate
from system.models.ops import FloatOps
from tests.system.small_llama import LLAMA, Shifted, small


@pytest.mark.parametrize("kind", [FloatOps, Shifted])
def test_an_answer_is_kept_if_greedy_decoding_gives_it(kind, monkeypatch):
    monkeypatch.setattr(answers, "ANSWER_TOKENS", 5)
    network = small()
    exact, ops = FloatOps(network.model.tensors), kind(network.model.tensors)
    questions = answers.QUESTIONS[:4]
    wanted = answers.greedy_answers(network, exact, questions)
    said = [
        [
            "".join(generate(network, o, f"{question}<|endoftext|>answer: ", tokens=5))
            for question in questions
        ]
        for o in (exact, ops)
    ]
    same = np.mean([a == b for a, b in zip(*said, strict=True)])
    found = answers.compare_answers(network, ops, wanted)
    assert found.kept == same <= found.leading <= found.likeliest
    assert same == 1 if kind is FloatOps else same < 1


def test_tokens_of_answers_count_until_the_first_that_differs():
    alike = [np.array(x, bool) for x in ([1, 1, 1], [1, 0, 1, 1], [0, 1, 1])]
    changes = [np.array(x) for x in ([0.1, -0.2, 0.3], [0.1, -2.0, 0.0, 0.5], [-3.0, 1.0, -0.4])]
    assert answers.Likeness.of(alike, changes) == answers.Likeness(1 / 3, 4 / 10, 8 / 10, 0.35)


def test_a_lead_is_what_tops_all_other_tokens():
    logits = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    tokens = np.array([0, 8, 3, *logits[3:].argmax(axis=1)])
    wanted = [row[t] - np.delete(row, t).max() for row, t in zip(logits, tokens, strict=True)]
    found = answers.leads_of(logits, tokens)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert (found > 0).tolist() == (logits.argmax(axis=1) == tokens).tolist()


def test_leads_of_answers_are_those_of_one_pass(monkeypatch):
    monkeypatch.setattr(answers, "ANSWER_TOKENS", 5)
    network = small()
    exact, other = (kind(network.model.tensors) for kind in (FloatOps, Shifted))
    wanted = answers.greedy_answers(network, exact, answers.QUESTIONS[:3])
    # float32 sums of one pass and of a token each differ by some 1e-6 of logits of about 10
    assert answers.compare_answers(network, exact, wanted).lead_change < 1e-4
    assert answers.compare_answers(network, other, wanted).lead_change > 1e-2


def test_questions_are_the_lines_of_a_file(tmp_path):
    place = tmp_path / "questions.txt"
    place.write_text("Who wrote Emma?\n\n  What is a barouche? \n", encoding="utf-8")
    assert answers.read_questions(place) == ("Who wrote Emma?", "What is a barouche?")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"\xff\xfe?", "cannot read"), (b" \n\n", "holds no question")],
)
def test_a_file_without_questions_is_refused(content, message, tmp_path):
    place = tmp_path / "questions.txt"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(DataError, match=message):
        answers.read_questions(place)


def test_a_question_beyond_the_context_is_refused():
    network = small()
    with pytest.raises(ParameterError, match="shorten it"):
        answers.greedy_answers(network, FloatOps(network.model.tensors), ["why " * 5000])


@pytest.mark.ngspice
def test_a_missing_file_of_questions_leaves_nothing_behind(quick_library, tmp_path, capsys):
    questions = str(tmp_path / "missing.txt")
    out = ["--library", str(quick_library), "--out", str(tmp_path / "run")]
    assert main(["quality", LLAMA, *out, "--questions", questions]) == 1
    assert "missing.txt" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.ngspice
def test_questions_to_a_model_without_a_chat_template_are_refused(quick_library, tmp_path, capsys):
    questions = tmp_path / "questions.txt"
    questions.write_text("Who wrote Emma?\n", encoding="utf-8")
    out = ["--library", str(quick_library), "--out", str(tmp_path / "run")]
    assert main(["quality", LLAMA, *out, "--questions", str(questions)]) == 1
    assert "chat template" in capsys.readouterr().err

"""Conversations: templates as transformers renders them, turns, interruptions, bad input."""

import io
import json
import shutil
import sys
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from behavioral.library import Library
from circuits.errors import CheckpointError, ParameterError
from system.chat import Chat
from system.chat_template import ChatTemplate, Message
from system.commands.main import main
from system.data.conversations import conversations
from system.generation import Sampling, generate
from system.hardware import Chip
from system.inference import arithmetic
from system.measured_ranges import run_windows
from system.models.ops import FloatOps
from system.networks import load_network, shipped
from system.weights.checkpoint import load_checkpoint

LLAMA = "llama-austen-float"
# The small Llama has one special token; this is ChatML with it.
TEMPLATE = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '<|endoftext|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# SmolLM2's own, as its GGUF file holds it; and one that uses what other models' templates use.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OTHER = """{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- continue %}
    {%- endif %}
    {{ message | tojson }}  {{ message.content | trim }}{{ eos_token }}
{% endfor %}
{% if not tools %}no tools{% endif %}"""
TALK = [
    Message("system", "Be brief."),
    Message("user", " What's <b>new</b>, é? "),
    Message("assistant", "Nothing.\n"),
    Message("user", "Nothing?"),
]


def chat_network(template):
    network = load_network(LLAMA, tile_rows=None)
    return replace(network, checkpoint=replace(network.checkpoint, chat_template=template))


def make_chat(ops=None, template=TEMPLATE, tokens=6, **options) -> Chat:
    network = chat_network(template)
    return Chat(network, ops or FloatOps(network.model.tensors), Sampling(tokens), **options)


def say(chat: Chat, text: str) -> str:
    return "".join(chat.answer(text))


@pytest.mark.parametrize("source", [SMOLLM2, OTHER])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("answer", [True, False])
def test_templates_render_as_in_transformers(source, first, answer):
    from transformers.utils.chat_template_utils import render_jinja_template

    special = {"bos_token": "<s>", "eos_token": "</s>"}
    messages = [vars(m) for m in TALK[first:]]
    rendered, _ = render_jinja_template(
        conversations=[messages], chat_template=source, add_generation_prompt=answer, **special
    )
    assert ChatTemplate(source, special).render(TALK[first:], answer) == rendered[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses .* roles must alternate"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "not safe to run"),
        ("{{ messages.append(1) }}", "not safe to run"),
        ("{{ messages[9].content + 1 }}", "refuses these messages"),
        ("{{ 1 // 0 }}", "refuses these messages"),
    ],
)
def test_what_a_template_may_not_do_is_said(source, message):
    with pytest.raises(ParameterError, match=message):
        ChatTemplate(source).render(TALK)


def test_a_damaged_template_is_named_with_its_line():
    with pytest.raises(CheckpointError, match="line 2: Unexpected end of template"):
        ChatTemplate("a\n{% for m in messages %}")


def test_ranges_of_a_chat_model_are_measured_on_conversations_too():
    """After the windows of the training text, which are those of the model without a template."""
    text = load_network(LLAMA, tile_rows=None).calibration_inputs()
    found = chat_network(TEMPLATE).calibration_inputs()
    assert np.array_equal(found[: len(text)], text)
    talk = found[len(text) :]
    assert len(talk) == len(conversations()) == 24
    first = chat_network(TEMPLATE).decode(talk[0][talk[0] >= 0])
    assert first.startswith("user: " + conversations()[0][0][:100])


def test_a_short_conversation_is_filled_up_and_the_filling_never_run(monkeypatch):
    monkeypatch.setattr("system.networks.conversations", lambda: [["Hello?", "Yes."]])
    network = chat_network(TEMPLATE)
    last = network.calibration_inputs()[-1]
    assert (last[:8] >= 0).all()
    assert (last[-200:] == -1).all()
    seen = []
    monkeypatch.setattr(type(network.model), "forward", lambda self, ids, ops: seen.append(ids))
    run_windows(network.model, last[None], None)
    assert seen[0].shape == (1, np.sum(last >= 0) - 1)


def test_a_template_that_cannot_be_used_leaves_the_text(caplog):
    network = chat_network("{{ raise_exception('roles must alternate') }}")
    assert len(network.calibration_inputs()) == len(
        load_network(LLAMA, tile_rows=None).calibration_inputs()
    )
    assert "roles must alternate" in caplog.text


def test_a_template_that_states_the_date_gives_the_same_ranges_every_day():
    template = "{{ strftime_now('%d %b %Y') }}"
    assert ChatTemplate(template, today=datetime(2024, 7, 26)).render([]) == "26 Jul 2024"
    last = chat_network(template + "{{ messages[0].content }}").calibration_inputs()[-1]
    assert "26 Jul 2024" in chat_network(template).decode(last[last >= 0])


def test_a_second_turn_runs_new_tokens_only_and_answers_as_the_whole_text_would():
    chat = make_chat()
    network, ops = chat._network, chat._ops
    first = say(chat, "Who is she?")
    before = chat.tokens_run
    second = say(chat, "And he?")
    text = "".join(
        f"{m.role}: {m.content}<|endoftext|>" for m in chat.messages[:-1]
    )  # fmt: skip
    assert second == "".join(generate(network, ops, text + "assistant: ", tokens=6))
    added = network.encode("<|endoftext|>user: And he?<|endoftext|>assistant: ")
    assert chat.tokens_run - before == len(added)
    assert [m.content for m in chat.messages] == ["Who is she?", first, "And he?", second]


@pytest.mark.ngspice
def test_log_codes_are_kept_between_turns(quick_library):
    """A kept cache holds what one pass over everything holds: only the blocks of sums differ."""
    library = Library.from_hdf5(quick_library)
    network = load_network(LLAMA, tile_rows=library.technology.column.rows)
    kept, anew = (make_chat(arithmetic(network, library, "noisy", Chip())) for _ in range(2))
    for chat in (kept, anew):
        say(chat, "Who is she?")
    anew._cache = None
    assert say(kept, "And he?") == say(anew, "And he?")
    assert kept.tokens_run < anew.tokens_run


def test_an_interrupted_answer_stays_as_far_as_it_came():
    chat, whole = make_chat(), make_chat(tokens=2)
    answer = chat.answer("Who is she?")
    said = next(answer) + next(answer)
    answer.close()
    assert say(whole, "Who is she?") == said == chat.messages[-1].content
    whole._sampling.tokens = 6
    assert say(chat, "And he?") == say(whole, "And he?")


def test_a_template_that_rewrites_the_past_begins_anew():
    """Here: one that shows the last message only."""
    chat = make_chat(template="{{ messages[-1].content }}<|endoftext|>")
    answers = [say(chat, text) for text in ("Who is she?", "And he?", "Who is she?")]
    assert answers[0] == answers[2]


@pytest.mark.parametrize("text", ["", " \n", "a b " * 600])
def test_a_refused_message_leaves_the_conversation_as_it_was(text):
    chat = make_chat(system="Be brief.")
    say(chat, "Who is she?")
    before = list(chat.messages)
    with pytest.raises(ParameterError, match=r"message is empty|the context of .* holds 512"):
        say(chat, text)
    assert chat.messages == before
    assert say(chat, "And he?")


@pytest.mark.parametrize("form", ["file", "text", "named"])
def test_the_template_of_a_directory_is_found(form, tmp_path):
    place = tmp_path / "net"
    shutil.copytree(shipped()[LLAMA], place)
    assert load_checkpoint(place).chat_template is None
    if form == "file":
        (place / "chat_template.jinja").write_text(TEMPLATE)
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    content = {"chat_template": {"file": "ignored", "text": TEMPLATE, "named": named}[form]}
    (place / "tokenizer_config.json").write_text(json.dumps(content))
    assert load_checkpoint(place).chat_template == TEMPLATE


@pytest.mark.parametrize("found", [5, [{"name": "default"}], [3]])
def test_a_template_of_another_kind_is_refused(found, tmp_path):
    place = tmp_path / "net"
    shutil.copytree(shipped()[LLAMA], place)
    (place / "tokenizer_config.json").write_text(json.dumps({"chat_template": found}))
    with pytest.raises(CheckpointError, match=r"chat.template"):
        load_checkpoint(place)


class Terminal(io.BytesIO):
    """Bytes of a terminal; a line ^C is Ctrl-C."""

    def readline(self, size=-1) -> bytes:
        """Read a line, or be interrupted."""
        line = super().readline()
        if line == b"^C\n":
            raise KeyboardInterrupt
        return line


class Input:
    """What `sys.stdin` is replaced by."""

    def __init__(self, content: bytes, terminal: bool = False):
        self.buffer, self._terminal = Terminal(content), terminal

    def isatty(self) -> bool:
        """Say whether somebody sits there."""
        return self._terminal


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """Run `nldpe chat` on bytes; return its exit code and the conversation it wrote."""
    place, out = tmp_path / "net", tmp_path / "c.json"
    shutil.copytree(shipped()[LLAMA], place)
    (place / "chat_template.jinja").write_text(TEMPLATE)

    def run(content: bytes, *options: str, terminal: bool = False):
        monkeypatch.setattr(sys, "stdin", Input(content, terminal))
        short = ["--mode", "float", "--tokens", "4", "--json", str(out), *options]
        status = main(["chat", str(place), *short])
        return status, json.loads(out.read_text())["messages"]

    return run


def test_every_line_is_answered_and_written(talk, capsys):
    status, messages = talk(b"Who is she?\n\nAnd he?", "--system", "Be brief.")
    assert status == 0
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 2]
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    assert capsys.readouterr().out == "".join(f"{a}\n" for a in answers)


def test_seeds_decide_the_draws(talk):
    hot = ["--temperature", "1.5", "--seed"]
    first, again, other = (talk(b"Who is she?\n", *hot, seed)[1] for seed in "112")
    assert first == again != other


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no message came in"),
        (b"\n \n", "no message came in"),
        (b"Who?\nI am \xff\n", "line 2 is not UTF-8 at byte 6"),
        (b"a b " * 600, "the context of"),
    ],
)
def test_bad_input_ends_a_pipe_with_a_message(content, message, talk, capsys):
    status, messages = talk(content)
    assert status == 1
    assert message in capsys.readouterr().err
    assert len(messages) == 2 * content.startswith(b"Who")


def test_a_terminal_goes_on_after_bad_input(talk, capsys):
    lines = b"\n\xff\n" + b"a b " * 600 + b"\nWho is she?\n"
    status, messages = talk(lines, terminal=True)
    shown = capsys.readouterr()
    assert status == 0
    assert len(messages) == 2
    assert "type a message" in shown.out
    assert "line 2 is not UTF-8" in shown.err
    assert "the context of" in shown.err


def test_ctrl_c_at_the_prompt_ends_with_what_was_said(talk, capsys):
    status, messages = talk(b"Who is she?\n^C\n", terminal=True)
    assert status == 130
    assert len(messages) == 2
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_in_an_answer_ends_the_answer_at_a_terminal(terminal, talk, monkeypatch, capsys):
    real, calls = FloatOps.linear, []

    def linear(self, name, *rest):
        calls.append(name)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return real(self, name, *rest)

    monkeypatch.setattr(FloatOps, "linear", linear)
    status, messages = talk(b"Who is she?\nAnd he?\n", terminal=terminal)
    assert (status, len(messages)) == ((0, 4) if terminal else (130, 2))
    assert "interrupted" in (capsys.readouterr().out if terminal else capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "message"),
    [(LLAMA, "has no chat template"), ("lenet-mnist", "is no language model")],
)
def test_a_network_that_cannot_talk_is_refused(name, message, capsys):
    assert main(["chat", name, "--mode", "float"]) == 1
    assert message in capsys.readouterr().err


def test_generate_writes_what_it_printed(tmp_path, capsys):
    out = tmp_path / "g.json"
    hot = ["--temperature", "1.5", "--seed", "3", "--tokens", "5"]
    shown = []
    for _ in range(2):
        arguments = ["--prompt", "She was", "--mode", "float", *hot, "--json", str(out)]
        assert main(["generate", LLAMA, *arguments]) == 0
        shown.append(capsys.readouterr().out)
    found = json.loads(out.read_text())
    assert shown[0] == shown[1] == f"{found['prompt']}{found['text']}\n"
    assert found.items() >= {"model": LLAMA, "mode": "float", "seed": 3}.items()
    assert (found["temperature"], found["library_sha256"]) == (1.5, None)

"""Chat templates: from messages to the text a model was trained on.

A template is Jinja text that comes with the model, hence from strangers: it runs in Jinja's
sandbox. The environment and its functions are those of Hugging Face transformers
(`apply_chat_template`), for which templates are written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from circuits.errors import CheckpointError, ParameterError


@dataclass(frozen=True)
class Message:
    """What one side said."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatTemplate:
    """A compiled chat template.

    Parameters
    ----------
    source : the Jinja text.
    special : names and texts of special tokens, such as {"bos_token": "<s>"}.

    Raises
    ------
    CheckpointError
        The text is no Jinja template.
    """

    def __init__(self, source: str, special: dict[str, str] | None = None):
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        self._special = special or {}
        try:
            self._template: Template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise CheckpointError(
                f"the chat template is damaged in line {error.lineno}: {error.message}; "
                "nldpe generate needs none"
            ) from error

    def render(self, messages: Sequence[Message], answer: bool = True) -> str:
        """Return the text of a conversation.

        Parameters
        ----------
        messages : in the order they were said.
        answer : end with what begins the assistant's next message.

        Raises
        ------
        ParameterError
            The template refuses the messages, or asks for what the sandbox does not permit.
        """
        spoken = [asdict(message) for message in messages]
        try:
            return self._template.render(
                messages=spoken, add_generation_prompt=answer, tools=None, **self._special
            )
        except SecurityError as error:
            raise ParameterError(f"the chat template is not safe to run: {error}") from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise ParameterError(f"the chat template refuses these messages: {error}") from error


def _to_json(value: Any, indent: int | None = None) -> str:
    """Write JSON as it is, where Jinja's own filter writes it for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(layout: str) -> str:
    return datetime.now().strftime(layout)

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

import numpy as np
from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from circuits.errors import CheckpointError, ParameterError
from system.weights.checkpoint import Checkpoint


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
    today : the date for templates that state one; None: that of the call.

    Raises
    ------
    CheckpointError
        The text is no Jinja template.
    """

    def __init__(
        self, source: str, special: dict[str, str] | None = None, today: datetime | None = None
    ):
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {
            "raise_exception": _refuse,
            "strftime_now": lambda layout: (today or datetime.now()).strftime(layout),
        }
        self._special = special or {}
        try:
            self._template: Template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise CheckpointError(
                f"the chat template is damaged in line {error.lineno}: {error.message}; "
                "nldpe generate needs none"
            ) from error

    @classmethod
    def of(cls, checkpoint: Checkpoint, today: datetime | None = None) -> ChatTemplate:
        """Compile a checkpoint's template; `today` as above.

        Raises
        ------
        CheckpointError
            It has none, or one that is no Jinja template.
        """
        if checkpoint.chat_template is None:
            raise CheckpointError("the checkpoint has no chat template")
        special = {}
        for name in ("bos_token", "eos_token"):
            first = np.atleast_1d(checkpoint.config.get(f"{name}_id") or [])[:1]
            if checkpoint.tokenizer is not None and len(first):
                special[name] = str(checkpoint.tokenizer.id_to_token(int(first[0])))
        return cls(checkpoint.chat_template, special, today)

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

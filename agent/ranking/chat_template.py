"""A model's own chat template, rendered in a sandbox: it comes with the model file, from whoever made that.

No function gives the template the time (`strftime_now`): the same history must give the same prompt tomorrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ncode_search.agent.ranking.prompt import Message, messages


class ChatTemplateError(Exception):
    """The template does not parse, or refuses the prompt in every role."""


class ChatTemplate:
    """One parsed template.

    Some templates refuse a conversation that starts with a system message; these get the prompt as the user's.
    """

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        """Parse `source`; `bos` and `eos` are the texts of the model's tokens. Raises `ChatTemplateError`."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _refuse
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = environment.from_string(source)
            self._role = next(role for role in ("system", "user") if self._accepts(role))
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(str(error)) from error
        except StopIteration:
            raise ChatTemplateError("it accepts neither a system nor a user message alone") from None

    def render(self, text: str) -> str:
        """The prompt `text` as the model expects it, up to where its answer starts. Raises `ChatTemplateError`."""
        try:
            return self._render(messages(text, self._role))
        except Exception as error:  # a template can raise anything
            raise ChatTemplateError(str(error)) from error

    def _render(self, conversation: Sequence[Message]) -> str:
        return self._template.render(messages=conversation, add_generation_prompt=True, **self._tokens)

    def _accepts(self, role: str) -> bool:
        # A template may also leave out a message that it does not know, without a word.
        probe = "0123|1.0,3210;"
        try:
            return probe in self._render(messages(probe, role))
        except Exception:
            return False


def _refuse(reason: str) -> str:
    raise jinja2.TemplateError(reason)

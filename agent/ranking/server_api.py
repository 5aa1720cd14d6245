"""What model servers can be asked, and what their answers mean.

Three kinds of servers speak nearly the same language. What each really answers (llama.cpp's `llama-server` b10434 and
llama-cpp-python's `llama_cpp.server` 0.3.36 were tried, vLLM only read about):

- `llama-server`: ``/apply-template``, ``/tokenize``, ``/completion`` with prompts of token ids, grammars that name
  tokens (``<[123]>``), and the log-probability of what was generated *before* sampling and grammar. It has no
  ``echo``. A grammar that it cannot parse is dropped in silence: answers are checked against what was asked.
- `llama_cpp.server`: ``grammar`` and ``logprobs`` in both endpoints, the latter if it was started with
  ``--logits_all true``, else HTTP 500. Prompts are text only; the chat template cannot be asked for.
- vLLM: ``echo`` with ``logprobs`` for prompts of token ids, ``/tokenize`` for messages, choices as a constraint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ncode_search.agent.ranking.http_client import HttpClient, Limit, NoJsonError, RefusedError, ServerError
from ncode_search.agent.ranking.prompt import messages

_TOO_LONG = re.compile(r"context (size|length|window)|max_model_len|too many tokens|too long", re.IGNORECASE)


class UnsuitableError(ServerError):
    """The server cannot be asked in this way: it lacks what that needs, or does not keep to it."""


class TooSlowError(UnsuitableError):
    """The server answers in this way, but not before the decision's deadline."""


class PromptTooLongError(ServerError):
    """The prompt exceeds the server's context."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """An answer that lacks `what` is one of a server that cannot be asked in this way."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise UnsuitableError(f"its answer has no {what}") from None


@dataclass
class Habits:
    """What is known of a server from earlier decisions; saves questions, changes no answer."""

    role: str | None = None
    """The role in which its chat template takes the prompt."""


@dataclass
class ServerApi:
    """The questions of one decision."""

    client: HttpClient
    model: str
    limit: Limit
    tries: int
    habits: Habits = field(default_factory=Habits)
    _tokens: dict[str, list[int]] = field(default_factory=dict)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to `body`. Raises `PromptTooLongError`, `UnsuitableError` where there is no such question, and
        what `HttpClient.request` raises.
        """
        try:
            return self.client.request(path, {"model": self.model} | body, limit=self.limit, tries=self.tries)
        except RefusedError as error:
            if error.status in (400, 413, 422) and _TOO_LONG.search(error.reason):
                raise PromptTooLongError(str(error)) from error
            if error.status in (400, 404, 405, 415, 422, 501) or "not support" in error.reason:
                raise UnsuitableError(f"{path}: HTTP {error.status}, {error.reason}") from error
            raise
        except NoJsonError as error:
            raise UnsuitableError(str(error)) from error

    def chat(self, text: str, **settings: Any) -> dict[str, Any]:
        """The answer to the prompt `text` in the server's own chat template, greedy unless set otherwise: a choice
        of OpenAI's format.
        """
        body = {"temperature": 0.0, "stream": False} | settings
        for role in ("system", "user") if self.habits.role is None else (self.habits.role,):
            try:
                answer = self.post("/v1/chat/completions", body | {"messages": messages(text, role)})
            except (UnsuitableError, RefusedError) as error:
                # Some templates refuse a conversation that starts with a system message.
                if role == "user" or self.habits.role or _is_final(error):
                    raise
                continue
            with reading("choice"):
                choice = answer["choices"][0]
                content = choice["message"]["content"]
                if not isinstance(content, str):
                    raise ValueError
            self.habits.role = role
            return dict(choice)
        raise AssertionError("one of the roles is the last")

    def rendered(self, text: str) -> str:
        """The prompt in the model's chat template, as `llama-server` renders it."""
        for role in ("system", "user"):
            try:
                answer = self.post("/apply-template", {"messages": messages(text, role)})
            except (UnsuitableError, RefusedError):
                if role == "user":
                    raise
                continue
            with reading("prompt"):
                prompt = str(answer["prompt"])
            if text in prompt:  # a template may leave out a message that it does not know, without a word
                return prompt
        raise UnsuitableError("its chat template takes neither a system nor a user message alone")

    def prompt_tokens(self, text: str) -> list[int]:
        """Tokens of a whole prompt, special ones too, from `llama-server`."""
        return self._tokenized({"content": text, "add_special": True, "parse_special": True})

    def tokens_after(self, text: str, before: str) -> list[int]:
        """Tokens of `text` where it follows `before`: some tokenizers put a space before a text that stands alone."""
        anchor, joined = self._plain_tokens(before[-1:]), self._plain_tokens(before[-1:] + text)
        if joined[: len(anchor)] == anchor and len(joined) > len(anchor):
            return joined[len(anchor) :]
        return self._plain_tokens(text)

    def _plain_tokens(self, text: str) -> list[int]:
        if text not in self._tokens:
            self._tokens[text] = self._tokenized({"content": text, "add_special": False, "parse_special": False})
        return self._tokens[text]

    def _tokenized(self, body: dict[str, Any]) -> list[int]:
        return token_list(self.post("/tokenize", body))


class Pace:
    """Sees early that a row of questions will not be done in time, while there is still time for another way."""

    def __init__(self, limit: Limit, total: int) -> None:
        self._limit, self._total = limit, total
        self._first: float | None = None

    def check(self, done: int) -> None:
        """To be called after each answer; raises `TooSlowError`. The first answer does not count, for it waits until
        the prompt is read.
        """
        if self._first is None:
            self._first, self._done = self._limit.spent, done
            return
        each = (self._limit.spent - self._first) / (done - self._done)
        if each * (self._total - done) > self._limit.remaining:
            raise TooSlowError(f"{self._total} candidates at {each:.2g} s each take too long")


def token_list(answer: Any) -> list[int]:
    """The tokens in the answer of a ``/tokenize``, one at least."""
    with reading("tokens"):
        tokens = [int(token) for token in answer["tokens"]]
        if not tokens:
            raise ValueError
    return tokens


def _is_final(error: ServerError) -> bool:
    """Whether another role could not help."""
    status = error.status if isinstance(error, RefusedError) else None
    cause = error.__cause__
    if isinstance(cause, RefusedError):
        status = cause.status
    return status in (401, 403, 404, 405, 429)

"""The ways to have a server rank candidates, best first.

Three give log-likelihoods, so every candidate gets a score as a model in this process would give it, the mean
log-probability of a token:

- `TokenGrammar` (`llama-server`): the code is generated under a grammar that leaves no choice, token by token as the
  tokenizer cuts it; the server reports how probable each was without the grammar. Its prompt cache keeps the prompt.
- `EchoedTokens` (vLLM): prompt and code as token ids, echoed with log-probabilities.
- `ForcedAnswer` (`llama_cpp.server`, older `llama-server`): as the first, through the chat endpoint, and the grammar
  fixes the text only: where a tokenizer can cut a code in several ways, the model's preferred way counts.
- `EchoedText` (completions without a chat template): as the second, but from text; tokens are assigned by position.

The others find one winner, which gets 1 and the rest 0: `Constraint` in three dialects, and `PlainText`, which takes
an answer only if it names exactly one candidate.

A way finds out by its own answers whether the server keeps to it, and raises `UnsuitableError` where not, or where
it would not be done in time: `llama_cpp.server` sorts the vocabulary of every token in Python, and takes seconds a
candidate for log-likelihoods of a model with a large one, but not for a winner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.ranking.http_client import ServerError
from ncode_search.agent.ranking.prompt import messages
from ncode_search.agent.ranking.server_api import (
    Pace,
    PromptTooLongError,
    ServerApi,
    UnsuitableError,
    reading,
    token_list,
)

Scores = NDArray[np.float64]

ASKS = 3
"""How often a model is asked in plain text before a decision is given up."""
_BATCH = 16
_ANSWER = 64
"""Tokens of an answer in plain text, beyond those of the code."""


class Way(Protocol):
    """One way to ask."""

    name: str
    """For people."""
    ranks: bool
    """Whether it scores every candidate, rather than find one winner."""

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        """Scores of the candidates, shape ``(len(candidates),)``, after the prompt `text`.

        Raises `UnsuitableError` where the server cannot be asked like this, `PromptTooLongError`, and what
        `ServerApi.post` raises.
        """


class TokenGrammar:
    """Forced generation, token by token."""

    name, ranks = "log-likelihoods under a grammar of tokens", True

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        rendered = api.rendered(text)
        prompt = api.prompt_tokens(rendered)
        branches = [api.tokens_after(code, rendered) for code in candidates]
        return _one_by_one(api, [partial(self._mean, api, prompt, branch) for branch in branches])

    def _mean(self, api: ServerApi, prompt: list[int], tokens: list[int]) -> float:
        settings = {"temperature": 0.0, "n_probs": 1, "cache_prompt": True, "stream": False}
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in tokens)
        body = {"prompt": prompt, "n_predict": len(tokens), "grammar": grammar}
        answer = api.post("/completion", settings | body)
        with reading("log-probabilities"):
            made = [int(entry["id"]) for entry in answer["completion_probabilities"]]
            values = [float(entry["logprob"]) for entry in answer["completion_probabilities"]]
        if len(made) < len(tokens) and made == tokens[: len(made)]:
            raise PromptTooLongError("the context ends within the answer")
        if made != tokens:
            raise UnsuitableError("it does not keep to a grammar of tokens")
        return _mean(values)


class EchoedTokens:
    """Prompt and code echoed, as token ids."""

    name, ranks = "log-likelihoods of echoed tokens", True

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        prompt = self._prompt(api, text)
        branches = [token_list(api.post("/tokenize", _untemplated(code))) for code in candidates]
        means: list[float] = []
        pace = Pace(api.limit, len(branches))
        for start in range(0, len(branches), _BATCH):
            means += self._batch(api, prompt, branches[start : start + _BATCH])
            pace.check(len(means))
        return np.array(means)

    def _prompt(self, api: ServerApi, text: str) -> list[int]:
        body = {"messages": messages(text), "add_generation_prompt": True}
        try:
            return token_list(api.post("/tokenize", body))
        except UnsuitableError:
            return token_list(api.post("/tokenize", body | {"messages": messages(text, "user")}))

    def _batch(self, api: ServerApi, prompt: list[int], branches: list[list[int]]) -> list[float]:
        sequences = [prompt + branch for branch in branches]
        body = {"prompt": sequences, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        answer = api.post("/v1/completions", body)
        with reading("log-probabilities of its prompt"):
            choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            found = [choice["logprobs"]["token_logprobs"] for choice in choices]
            if [len(values) for values in found] != [len(sequence) + 1 for sequence in sequences]:
                raise ValueError
            return [_mean([float(value) for value in values[len(prompt) : -1]]) for values in found]


class ForcedAnswer:
    """Forced generation through the chat endpoint."""

    name, ranks = "log-likelihoods under a grammar", True

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        totals: list[float] = []
        means: list[float] = []
        pace = Pace(api.limit, len(candidates))
        for code in candidates:
            # `repeat_penalty` does not touch the numbers, but the choice between ways to cut the code.
            settings = {"grammar": grammar([code]), "repeat_penalty": 1.0, "logprobs": True, "top_logprobs": 1}
            values = self._values(api.chat(text, max_tokens=len(code) + 1, **settings), code)
            totals.append(sum(values))
            means.append(_mean(values))
            # Probabilities of different answers sum to 1 at most, those after the grammar are 1 each.
            if math.fsum(map(math.exp, dict(zip(candidates, totals, strict=False)).values())) > 1.01:
                raise UnsuitableError("its log-probabilities are those after the grammar")
            pace.check(len(means))
        return np.array(means)

    def _values(self, choice: dict[str, Any], code: str) -> list[float]:
        with reading("log-probabilities"):
            rest, values = code, []
            for entry in choice["logprobs"]["content"]:
                if not rest:
                    break  # the end of the answer may be counted as a token
                if not entry["token"] or not rest.startswith(entry["token"]):
                    raise UnsuitableError("it does not keep to a grammar")
                rest = rest.removeprefix(entry["token"])
                values.append(float(entry["logprob"]))
        if rest and values and choice.get("finish_reason") == "length":
            raise PromptTooLongError("the context ends within the answer")
        if rest:
            raise UnsuitableError("it does not keep to a grammar")
        return values


class EchoedText:
    """Prompt and code echoed, as text and without a chat template."""

    name, ranks = "log-likelihoods of echoed text", True

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        return _one_by_one(api, [partial(self._mean, api, text, code) for code in candidates])

    def _mean(self, api: ServerApi, text: str, code: str) -> float:
        body = {"prompt": text + code, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        answer = api.post("/v1/completions", body)
        with reading("log-probabilities of its prompt"):
            choice = answer["choices"][0]
            found = choice["logprobs"]
            if choice["finish_reason"] == "length":
                self._check_alignment(found, len(text + code))
            spans = list(zip(found["text_offset"], found["tokens"], found["token_logprobs"], strict=True))
        # A token that begins in the prompt and ends in the code belongs to the code; what is generated begins behind.
        values = [value for start, token, value in spans if start < len(text + code) and start + len(token) > len(text)]
        return _mean(values)

    def _check_alignment(self, found: Any, end: int) -> None:
        """`llama_cpp.server` shifts the numbers by one where a model has no beginning token, and loses the last one.

        Greedily generated, the token behind the code is the most probable one, so no other is listed in its place.
        """
        if found["text_offset"][-1] < end or set(found["top_logprobs"][-1]) != {found["tokens"][-1]}:
            raise UnsuitableError("its log-probabilities belong to other tokens")


class Constraint:
    """One answer out of the candidates, in one of the dialects for that."""

    ranks = False

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        longest = max(map(len, candidates))
        choice = api.chat(text, max_tokens=longest + 1, **self._settings(candidates))
        content = str(choice["message"]["content"]).strip()
        if content not in candidates:
            raise UnsuitableError(f"it does not keep to a constraint ({self.name})")
        return winner(candidates, content)

    def _settings(self, candidates: Sequence[str]) -> dict[str, Any]:
        if self.name == "grammar":
            # A penalty for repetition would punish the codes' own characters, which the prompt is full of.
            return {"grammar": grammar(candidates), "repeat_penalty": 1.0}
        if self.name == "structured_outputs":
            return {"structured_outputs": {"choice": list(candidates)}}
        return {"guided_choice": list(candidates)}


class PlainText:
    """Whatever the model writes, if it names exactly one candidate."""

    name, ranks = "plain text", False

    def score(self, api: ServerApi, text: str, candidates: Sequence[str]) -> Scores:
        longest = max(map(len, candidates)) + _ANSWER
        for attempt in range(ASKS):
            # The same question again would get the same answer.
            change = {"temperature": 0.7, "seed": attempt} if attempt else {}
            choice = api.chat(text, max_tokens=longest, **change)
            named = named_in(str(choice["message"]["content"]), candidates)
            if len(named) == 1:
                return winner(candidates, named.pop())
        raise ServerError(f"the model named no single candidate in {ASKS} answers")


def all_ways() -> list[Way]:
    """Every way, in the order to try them."""
    constraints = [Constraint(name) for name in ("grammar", "structured_outputs", "guided_choice")]
    return [TokenGrammar(), EchoedTokens(), ForcedAnswer(), EchoedText(), *constraints, PlainText()]


def grammar(codes: Sequence[str]) -> str:
    """A GBNF grammar of exactly these answers. Codes have no character that needs an escape."""
    return "root ::= " + " | ".join(f'"{code}"' for code in dict.fromkeys(codes))


def winner(candidates: Sequence[str], code: str) -> Scores:
    """1 for `code`, 0 for the others; whoever chooses breaks ties by chance."""
    return np.array([float(candidate == code) for candidate in candidates])


def named_in(answer: str, candidates: Sequence[str]) -> set[str]:
    """The candidates that `answer` names, as words of their own; what a model thought before does not count."""
    spoken = answer.rpartition("</think>")[2]
    return {code for code in candidates if re.search(rf"(?<![\w.]){re.escape(code)}(?!\w|\.\w)", spoken)}


def _one_by_one(api: ServerApi, questions: Sequence[Callable[[], float]]) -> Scores:
    pace, means = Pace(api.limit, len(questions)), list[float]()
    for question in questions:
        means.append(question())
        pace.check(len(means))
    return np.array(means)


def _untemplated(code: str) -> dict[str, Any]:
    return {"prompt": code, "add_special_tokens": False}


def _mean(values: Sequence[Any]) -> float:
    if not values or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise UnsuitableError("its log-probabilities are no finite numbers")
    return math.fsum(values) / len(values)

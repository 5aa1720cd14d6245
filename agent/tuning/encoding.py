"""From samples to tokens, and from samples to rows that a model is trained on.

The tokens are those of the run time (`ranking.llama`): the prompt in the model's own chat template up to where the
answer starts, then the candidate, cut apart from the prompt. Behind the candidate stands the token that ends a turn.

Several samples share a row. Each counts its positions from 0, and sees only itself: where positions start again,
transformers masks attention in blocks. Only the answers are learned, so only their logits are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.chat_template import ChatTemplate, ChatTemplateError
from ncode_search.agent.ranking.prompt import largest_fit
from ncode_search.agent.tuning.gguf_tokenizer import adds_begin
from ncode_search.agent.tuning.published import Sample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """A sample in tokens."""

    tokens: list[int]
    answer: int
    """Where the answer starts."""


@dataclass(frozen=True)
class PackedRow:
    """Some samples as one sequence of t tokens with k tokens to learn."""

    tokens: list[int]
    positions: list[int]
    """Of every token in its own sample."""
    before: list[int]
    """Where the tokens stand that the ones to learn follow, k of them."""
    targets: list[int]
    """The tokens to learn."""


class Encoder:
    """Turns prompts, candidates and whole samples into tokens of one model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        """`context`: the most tokens of a sample. Raises `InputError` for a tokenizer that cannot be used."""
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no token that ends a text: give another checkpoint")
        self._tokenizer, self._context = tokenizer, context
        self._template = _template(tokenizer)
        self._begin = tokenizer.bos_token_id if adds_begin(tokenizer) else None
        self._ending = self._render("") or ";"

    def prompt(self, text: str) -> list[int]:
        """Tokens of the whole prompt `text`."""
        tokens = self._cut(self._render(text))
        if self._begin is not None and tokens[:1] != [self._begin]:
            tokens.insert(0, self._begin)
        return tokens

    def candidate(self, code: str) -> list[int]:
        """Tokens of `code` where it follows a prompt."""
        anchor, joined = self._cut(self._ending[-1]), self._cut(self._ending[-1] + code)
        if joined[: len(anchor)] == anchor and len(joined) > len(anchor):
            return joined[len(anchor) :]
        return self._cut(code)

    def __call__(self, sample: Sample) -> Encoded:
        """The whole sample; where it is too long, the worst of its trials are left out."""
        answer = [*self.candidate(sample.answer), self._tokenizer.eos_token_id]
        room = self._context - len(answer)
        prompt = self.prompt(sample.prompt)
        if len(prompt) > room:
            prompt = self._shortened(sample, room)
        return Encoded(prompt + answer, len(prompt))

    def _shortened(self, sample: Sample, room: int) -> list[int]:
        trials = sample.history.split(",")[:-1]

        def tokens(count: int) -> list[int]:
            return self.prompt(replace(sample, history="".join(f"{trial}," for trial in trials[:count])).prompt)

        shortest = tokens(0)
        if len(shortest) > room:
            raise InputError(f"--context {self._context}: the candidates alone have {len(shortest)} tokens")
        return tokens(largest_fit(len(trials), lambda count: len(tokens(count)) <= room))

    def _render(self, text: str) -> str:
        return self._template.render(text) if self._template is not None else text

    def _cut(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def pack(samples: Sequence[Encoded], room: int) -> list[PackedRow]:
    """Rows of at most `room` tokens, or of one sample that is longer; longest samples first."""
    rows: list[PackedRow] = []
    for sample in sorted(samples, key=lambda sample: -len(sample.tokens)):
        row = next((row for row in rows if len(row.tokens) + len(sample.tokens) <= room), None)
        if row is None:
            row = PackedRow([], [], [], [])
            rows.append(row)
        start = len(row.tokens) + sample.answer - 1
        row.before.extend(range(start, start + len(sample.tokens) - sample.answer))
        row.targets.extend(sample.tokens[sample.answer :])
        row.positions.extend(range(len(sample.tokens)))
        row.tokens.extend(sample.tokens)
    return rows


def summed_loss(model: PreTrainedModel, row: PackedRow, device: torch.device) -> torch.Tensor:
    """Cross-entropy in nats, summed over the tokens to learn."""
    import torch

    tokens, positions = (torch.tensor([numbers], device=device) for numbers in (row.tokens, row.positions))
    before, targets = (torch.tensor(numbers, device=device) for numbers in (row.before, row.targets))
    logits = model(input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=before).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def _template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    if tokenizer.chat_template is None:
        return None
    try:
        return ChatTemplate(str(tokenizer.chat_template), tokenizer.bos_token or "", tokenizer.eos_token or "")
    except ChatTemplateError as error:
        raise InputError(f"the model's chat template cannot be used ({error}): give another checkpoint") from error

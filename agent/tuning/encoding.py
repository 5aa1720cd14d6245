"""From samples to tokens, and from samples to rows that a model is trained on.

The tokens are those of the run time (`ranking.llama`): the prompt in the model's own chat template up to where the
answer starts, then the candidate, cut apart from the prompt. Behind the candidate stands the token that ends a turn.

Several samples share a row. Each counts its positions from 0, and sees only itself: where positions start again,
transformers masks attention in blocks. Only the answers are learned, so only their logits are computed.

Samples with the same history are cheaper still: what they begin with is read once, into the key-value cache, and what
follows it side by side. Gradients flow back through the cache, so this too changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
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

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.tokens)


@dataclass(frozen=True)
class ForkedRow:
    """Some samples that begin alike, with k tokens to learn in all."""

    stem: list[int]
    """The tokens that they begin with."""
    branches: list[Encoded]
    """What follows them in each sample."""

    @property
    def targets(self) -> list[int]:
        """The tokens to learn."""
        return [token for branch in self.branches for token in branch.tokens[branch.answer :]]

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.stem) + sum(len(branch.tokens) for branch in self.branches)


Row = PackedRow | ForkedRow


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


def rows_of(groups: Sequence[Sequence[Encoded]], room: int, *, forking: bool) -> list[Row]:
    """Rows of about `room` tokens; the samples of a group have a history in common."""
    several = [group for group in groups if forking and len(group) > 1]
    lone = [sample for group in groups if not forking or len(group) == 1 for sample in group]
    return [*(row for group in several for row in fork(group, room)), *pack(lone, room)]


def fork(samples: Sequence[Encoded], room: int) -> list[Row]:
    """Rows of about `room` tokens at most of samples that begin alike."""
    columns = zip(*(sample.tokens[: sample.answer - 1] for sample in samples), strict=False)
    stem = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    longest = max(len(sample.tokens) for sample in samples) - stem
    each = max((room - stem) // longest, 1)
    parts = [samples[at : at + each] for at in range(0, len(samples), each)]
    return [row for part in parts for row in ([_forked(part, stem)] if len(part) > 1 and stem else pack(part, room))]


def summed_loss(model: PreTrainedModel, row: Row, device: torch.device) -> torch.Tensor:
    """Cross-entropy in nats, summed over the tokens to learn."""
    import torch

    logits, targets = _forked_logits(model, row, device) if isinstance(row, ForkedRow) else _logits(model, row, device)
    wanted = torch.tensor(targets, device=device)
    return torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")


def _forked(samples: Sequence[Encoded], stem: int) -> ForkedRow:
    branches = [Encoded(sample.tokens[stem:], sample.answer - stem) for sample in samples]
    return ForkedRow(samples[0].tokens[:stem], branches)


def _logits(model: PreTrainedModel, row: PackedRow, device: torch.device) -> tuple[torch.Tensor, list[int]]:
    """Logits before each of the tokens to learn, shape ``(k, vocabulary)``, and these tokens."""
    import torch

    tokens, positions = (torch.tensor([numbers], device=device) for numbers in (row.tokens, row.positions))
    before = torch.tensor(row.before, device=device)
    logits = model(input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=before).logits[0]
    return logits, row.targets


def _forked_logits(model: PreTrainedModel, row: ForkedRow, device: torch.device) -> tuple[torch.Tensor, list[int]]:
    """The same of a forked row. Branches are filled up behind their end, where nothing that counts sees it."""
    import torch

    longest = max(len(branch.tokens) for branch in row.branches)
    filled = [branch.tokens + [0] * (longest - len(branch.tokens)) for branch in row.branches]
    before = [range(branch.answer - 1, len(branch.tokens) - 1) for branch in row.branches]
    first = min(part.start for part in before)
    cache = model(input_ids=torch.tensor([row.stem], device=device), use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(filled))
    kept = torch.arange(first, longest - 1, device=device)
    behind = torch.tensor(filled, device=device)
    logits = model(input_ids=behind, past_key_values=cache, use_cache=True, logits_to_keep=kept).logits
    where = [(at, place - first) for at, part in enumerate(before) for place in part]
    return logits[tuple(torch.tensor(where, device=device).T)], row.targets


def _template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    if tokenizer.chat_template is None:
        return None
    try:
        return ChatTemplate(str(tokenizer.chat_template), tokenizer.bos_token or "", tokenizer.eos_token or "")
    except ChatTemplateError as error:
        raise InputError(f"the model's chat template cannot be used ({error}): give another checkpoint") from error

"""``kind = "lora-generate"``: adapters for a causal language model that completes prompts, or continues texts.

Any causal language model of Hugging Face's. `lora_space` says what a space may name, `lora_training` how it is trained.
Examples are packed into rows of up to `max_tokens`, where none sees another; models that cannot keep them apart get one
a row. The score is the loss of the validation completions, in nats a token, or the chrF of what the model writes for
their prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from torchmetrics.functional.text import chrf_score
from transformers import AutoModelForCausalLM

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.lora_training import Batch, Examples, LoraEvaluator
from ncode_search.evaluators.options import require
from ncode_search.evaluators.pretrained import load_tokenizer, padding_of
from ncode_search.evaluators.text_files import Row, read_parts

SCORES = ("loss", "chrf")
IGNORED = -100
"""The label of tokens that are not learned, as transformers and torch have it."""
_APART = 0.2
"""Rounding to bfloat16 is far below this, and a model that does not know of packing is at 1."""


@dataclass(frozen=True)
class Example:
    """A prompt and its completion, as tokens."""

    prompt: list[int]
    """Empty where the whole text is learned."""
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    def cut(self, most: int) -> Example:
        """The first `most` tokens."""
        return Example(self.prompt[:most], self.completion[: max(0, most - len(self.prompt))])

    @property
    def labels(self) -> list[int]:
        """Every token, or `IGNORED` where it is not learned; the first one has nothing before it to tell it from."""
        hidden = max(1, len(self.prompt))
        return [IGNORED] * hidden + (self.prompt + self.completion)[hidden:]


@dataclass(frozen=True)
class PackedRows:
    """Rows of one or several examples."""

    rows: list[list[Example]]
    padding: int
    """The token that fills up shorter rows of a batch."""
    prompts: list[list[int]]
    """Prompts to complete."""
    references: list[str]
    """What was to come after each of them."""
    packed: bool = True
    """Whether rows may be of several examples; else the model is told no positions, which it may not know what to do
    with.
    """

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Padded on the right. Positions begin at 0 with every example, which is how transformers keeps them apart."""
        rows = [self.rows[index] for index in chosen]
        ids = [[*chain.from_iterable(one.prompt + one.completion for one in row)] for row in rows]
        labels = [[*chain.from_iterable(one.labels for one in row)] for row in rows]
        positions = [[*chain.from_iterable(range(len(one)) for one in row)] for row in rows]
        inputs = {"input_ids": _padded(ids, self.padding), "labels": _padded(labels, IGNORED)}
        if self.packed:
            inputs["position_ids"] = _padded(positions, 0)
        return Batch(inputs, int((inputs["labels"] != IGNORED).sum()))


@dataclass(frozen=True, kw_only=True)
class LoraGenerateEvaluator(LoraEvaluator):
    """Trains adapters to write. The fields are the TOML keys."""

    folder: InitVar[Path]

    train: str
    """A ``.jsonl`` or ``.csv`` with prompts and completions or with whole texts, or one text as a ``.txt``."""
    val: str
    """Like `train`: what the score is of."""
    test: str = ""
    """What nothing depends on; left out, there are no test metrics."""
    prompt: str = "prompt"
    """The field with the prompt, which is read but not learned."""
    completion: str = "completion"
    """The field with what is learned."""
    text: str = "text"
    """The field that is learned as a whole, in rows without a prompt."""
    max_tokens: int = 512
    """Of a row. Longer examples are cut, longer texts continue in the next row."""
    batch_size: int = 4
    """Rows that the model sees at once."""
    generate: int = 0
    """Validation prompts, from the first on, that the model completes after every epoch, for the metric ``chrf``."""
    max_new_tokens: int = 64
    """The longest completion."""
    score: str = "loss"
    """``loss``, to be minimized, or ``chrf``, from 0 to 1, to be maximized."""

    _tokenizer: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self, folder: Path) -> None:
        self._check_options()
        require(self.max_tokens >= 2, "max_tokens", self.max_tokens, "at least 2")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.generate >= 0, "generate", self.generate, "zero or a positive number")
        require(self.score in SCORES, "score", self.score, " or ".join(SCORES))
        require(self.score != "chrf" or self.generate > 0, "generate", self.generate, 'at least 1 with score = "chrf"')
        rows = read_parts(folder, train=self.train, val=self.val, test=self.test)
        object.__setattr__(self, "_tokenizer", load_tokenizer(self.model, folder))
        # With a cache, transformers does not tell packed examples apart.
        self._load_base(AutoModelForCausalLM, folder, train_head=False, use_cache=False)
        longest = self._tokens("a " * self.max_tokens)[: self.max_tokens]
        self._check_length(self.max_tokens, longest)
        apart = keeps_apart(self._base.model, min(16, self.max_tokens // 2))
        if not apart:
            getLogger(__name__).warning("%s sees one packed example from another: rows are of one example", self.model)
        sets = {key: self._packed(key, part, apart) for key, part in rows.items()}
        self._check_writing(max((len(prompt) for part in sets.values() for prompt in part.prompts), default=0), longest)
        self._set_up(sets)

    def _check_writing(self, prompt: int, tokens: list[int]) -> None:
        """Refuse completions that the model has no positions for behind the longest prompt, made of any `tokens`."""
        length = prompt + self.max_new_tokens - 1  # it need not read the last one
        if prompt and length > len(tokens):
            wrong = f"max_new_tokens = {self.max_new_tokens}: the model cannot go on from a prompt of {prompt} tokens"
            row = torch.tensor([(tokens * length)[:length]])
            self._try(self._base.model, {"input_ids": row}, wrong, "lower it, or max_tokens")

    def _packed(self, key: str, rows: Sequence[Row], apart: bool) -> PackedRows:
        examples = [part for row in rows for part in self._examples(row) if len(part) > max(1, len(part.prompt))]
        if not examples:
            raise EvaluatorError(
                f"[evaluator] {key}: within max_tokens = {self.max_tokens} there is nothing to learn; raise it"
            )
        asked = [] if key == "train" else [row for row in rows if self._has_prompt(row)][: self.generate]
        if self.generate and not asked and key != "train":
            raise EvaluatorError(f"[evaluator] {key}: no row has a {self.prompt} to complete; give some or no generate")
        prompts = [self._tokens(row.text(self.prompt))[-self.max_tokens :] for row in asked]
        references = [row.text(self.completion) for row in asked]
        packed = _pack(examples, self.max_tokens) if apart else [[example] for example in examples]
        return PackedRows(packed, padding_of(self._tokenizer), prompts, references, apart)

    def _examples(self, row: Row) -> list[Example]:
        """One example, or a whole text in pieces."""
        known = self._tokenizer.eos_token_id
        end = [] if known is None else [known]
        if self._has_prompt(row):
            completion = self._tokens(row.text(self.completion), begin=False) + end
            return [Example(self._tokens(row.text(self.prompt)), completion).cut(self.max_tokens)]
        tokens = self._tokens(row.text(self.text)) + end
        starts = range(0, len(tokens), self.max_tokens)
        return [Example([], tokens[start : start + self.max_tokens]) for start in starts]

    def _has_prompt(self, row: Row) -> bool:
        """In a table that has columns for both kinds of rows, the cells of the other kind are empty."""
        empty = [row.fields.get(key) in (None, "") for key in (self.prompt, self.completion)]
        return self.prompt in row.fields and not (all(empty) and self.text in row.fields)

    def _tokens(self, text: str, begin: bool = True) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=begin)["input_ids"]
        return tokens

    @property
    def _measures(self) -> tuple[str, ...]:
        return ("loss", "chrf") if self.generate else ("loss",)

    def _validate(self, model: Any, examples: Examples, context: Context) -> dict[str, float]:
        loss, labels = 0.0, 0
        for batch in self._batches(examples):
            loss += float(self._run(model, batch.inputs, context).loss) * batch.labels
            labels += batch.labels
        assert isinstance(examples, PackedRows)
        if not examples.prompts:
            return {"loss": loss / labels}
        written = self._complete(model, examples.prompts, context)
        chrf: Any = chrf_score(written, [[reference] for reference in examples.references], n_word_order=0)
        return {"loss": loss / labels, "chrf": float(chrf)}

    def _complete(self, model: Any, prompts: Sequence[list[int]], context: Context) -> list[str]:
        """What the model writes after each prompt, always the likeliest token."""
        written: list[str] = []
        padding = padding_of(self._tokenizer)
        for start in range(0, len(prompts), self.batch_size):
            part = prompts[start : start + self.batch_size]
            # On the left, so that all go on at once; not by the tokenizer, which may have no token for it.
            ids = _padded([row[::-1] for row in part], padding).flip(1)
            mask = _padded([[1] * len(row) for row in part], 0).flip(1)
            with self._autocast(context.device):
                tokens = model.generate(
                    input_ids=ids.to(context.device),
                    attention_mask=mask.to(context.device),
                    max_new_tokens=self.max_new_tokens,
                    use_cache=True,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=padding,
                    eos_token_id=self._tokenizer.eos_token_id,
                )
            new = tokens[:, ids.shape[1] :]
            written += self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return written


@torch.no_grad()
def keeps_apart(model: Any, length: int) -> bool:
    """Whether a causal language model reads the second of two packed examples, of `length` tokens each, as if alone.

    What the first one changes where the second goes on from it is the measure, so that no precision, size or scale of
    the model matters.
    """
    random, words = torch.Generator().manual_seed(0), model.get_input_embeddings().num_embeddings
    first, other, second = torch.randint(words, (3, length), generator=random).to(model.device)
    rows = torch.stack([torch.cat([first, second]), torch.cat([other, second])])
    try:
        positions = torch.arange(length, device=model.device).repeat(2, 2)
        packed = model(input_ids=rows, position_ids=positions).logits[:, length:].float()
    except Exception:  # of whatever kind: there are models without positions
        return False
    # In rows of the same shape, which rounding depends on; no token sees what is behind it.
    going_on = model(input_ids=rows).logits[:, length:].float()
    alone = model(input_ids=rows.roll(length, 1)).logits[:, :length].float()
    is_unseen = (packed[0] - packed[1]).norm() < _APART * (going_on[0] - going_on[1]).norm()
    return bool(is_unseen and (packed - alone).norm() < _APART * (going_on - alone).norm())


def _pack(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Rows of up to `size` tokens, filled in the given order."""
    rows: list[list[Example]] = []
    room = 0
    for example in examples:
        if len(example) > room:
            rows.append([])
            room = size
        rows[-1].append(example)
        room -= len(example)
    return rows


def _padded(rows: Sequence[list[int]], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

"""``kind = "lora-classify"``: adapters for a pretrained language model that names the class of a text.

Any encoder or decoder that Hugging Face has a sequence classification for; its classification head is trained fully.
`lora_space` says what a space may name, `lora_training` how it is trained. The score is a fraction of the validation
texts, or the mean F1 of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score
from transformers import AutoModelForSequenceClassification

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.lora_training import Batch, Examples, LoraEvaluator
from ncode_search.evaluators.options import require
from ncode_search.evaluators.pretrained import load_tokenizer, padding_of
from ncode_search.evaluators.text_files import Row, read_parts

SCORES = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class LabelledTexts:
    """Texts as tokens, and their classes."""

    tokens: list[list[int]]
    labels: list[int]
    padding: int
    """The token that fills up shorter texts of a batch."""

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Padded on the right to the longest text."""
        texts = [torch.tensor(self.tokens[index]) for index in chosen]
        lengths = torch.tensor([len(text) for text in texts])
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self.padding)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        labels = torch.tensor([self.labels[index] for index in chosen])
        return Batch({"input_ids": ids, "attention_mask": mask, "labels": labels}, len(chosen))


@dataclass(frozen=True, kw_only=True)
class LoraClassifyEvaluator(LoraEvaluator):
    """Trains adapters and a head to classify texts. The fields are the TOML keys."""

    folder: InitVar[Path]

    train: str
    """Texts to train on: a ``.csv`` or ``.tsv`` with a header, or a ``.jsonl``."""
    val: str
    """Texts that the score is of."""
    test: str = ""
    """Texts that nothing depends on; left out, there are no test metrics."""
    text: str = "text"
    """The field with the text."""
    label: str = "label"
    """The field with the class: text or a whole number."""
    max_tokens: int = 128
    """Longer texts are cut."""
    score: str = "accuracy"
    """``accuracy`` or ``macro_f1``."""

    def __post_init__(self, folder: Path) -> None:
        self._check_options()
        require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        require(self.score in SCORES, "score", self.score, " or ".join(SCORES))
        rows = read_parts(folder, train=self.train, val=self.val, test=self.test)
        classes = self._classes(rows)
        tokenizer = load_tokenizer(self.model, folder)
        tokens = {key: self._tokens(part, tokenizer) for key, part in rows.items()}
        padding = padding_of(tokenizer, chain.from_iterable(tokens.values()))
        self._load_base(
            AutoModelForSequenceClassification,
            folder,
            train_head=True,
            num_labels=len(classes),
            pad_token_id=padding,
        )
        longest = tokenizer("a " * self.max_tokens, truncation=True, max_length=self.max_tokens)["input_ids"]
        self._check_length(self.max_tokens, longest)
        numbers = {name: number for number, name in enumerate(classes)}
        labels = {key: [numbers[row.label(self.label)] for row in part] for key, part in rows.items()}
        self._set_up({key: LabelledTexts(tokens[key], labels[key], padding) for key in rows})

    def _classes(self, rows: Mapping[str, list[Row]]) -> list[str]:
        """The classes of the training texts; raises `EvaluatorError` unless all parts have the same."""
        parts = {key: {row.label(self.label) for row in part} for key, part in rows.items()}
        if len(parts["train"]) < 2:
            raise EvaluatorError(f"[evaluator] train = {self.train}: all texts have one class; at least 2 are needed")
        for key, part in rows.items():
            for row in part:
                if row.label(self.label) not in parts["train"]:
                    raise EvaluatorError(
                        f"[evaluator] {row.where}: no text of train has the class {row.label(self.label)!r}; "
                        f"it has {', '.join(sorted(parts['train'])[:12])}"
                    )
            if empty := sorted(parts["train"] - parts[key]):
                raise EvaluatorError(f"[evaluator] {key}: no text has the class {empty[0]!r}; give some, or remove it")
        return sorted(parts["train"])

    def _tokens(self, rows: Sequence[Row], tokenizer: Any) -> list[list[int]]:
        texts = [row.text(self.text) for row in rows]
        tokens: list[list[int]] = tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        return tokens

    @property
    def _measures(self) -> tuple[str, ...]:
        return (*SCORES, "loss")

    def _validate(self, model: Any, examples: Examples, context: Context) -> dict[str, float]:
        answers, labels, loss = [], [], 0.0
        for batch in self._batches(examples):
            output = self._run(model, batch.inputs, context)
            answers.append(output.logits.argmax(-1).cpu())
            labels.append(batch.inputs["labels"])
            loss += float(output.loss) * batch.labels
        found, wanted, classes = torch.cat(answers), torch.cat(labels), model.config.num_labels
        return {
            "accuracy": float(multiclass_accuracy(found, wanted, classes, average="micro")),
            "macro_f1": float(multiclass_f1_score(found, wanted, classes, average="macro")),
            "loss": loss / len(examples),
        }

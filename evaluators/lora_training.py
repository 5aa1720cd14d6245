"""What the LoRA evaluators share: their options, and one way of training.

AdamW trains what is not frozen; the learning rate rises along a line and falls along a cosine, step by step. A step
adds up the gradients of `accumulation` batches, in which every label counts the same. The order of the examples and
what dropout drops depend on the seed and the epoch alone.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ncode_search.evaluators import lora_space
from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError, Pruned, Result
from ncode_search.evaluators.options import require
from ncode_search.evaluators.pretrained import PRECISIONS, QUANTIZATIONS, Pretrained, check_length, load_pretrained
from ncode_search.evaluators.torch_state import import_compiler, trial_state


@dataclass(frozen=True)
class Batch:
    """A call of the model."""

    inputs: dict[str, torch.Tensor]
    """Its keywords, labels among them."""
    labels: int
    """The number of labels that its loss is the mean of."""


class Examples(Protocol):
    """A set to train on or to validate with."""

    def __len__(self) -> int: ...

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Those of the given numbers as one batch, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class LoraEvaluator(ABC):
    """The options that all LoRA evaluators have. The fields are the TOML keys."""

    model: str
    """A checkpoint's folder, relative to the search file, or a name on the Hugging Face hub."""
    epochs: int = 3
    """Passes over the training examples."""
    batch_size: int = 16
    """Examples that the model sees at once."""
    accumulation: int = 1
    """Batches a step."""
    learning_rate: float = 0.0005
    """The highest one, unless the space names it."""
    weight_decay: float = 0.01
    """For AdamW, unless the space names it."""
    warmup: float = 0.1
    """The share of all steps in which the learning rate rises."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to this."""
    precision: str = "bfloat16"
    """What the model computes in, and what frozen weights are kept in: ``bfloat16`` or ``float32``."""
    quantization: str = "none"
    """Frozen weights in ``8bit`` or ``4bit`` (NF4) by bitsandbytes, or ``none``."""
    gradient_checkpointing: bool = False
    """Compute activations again instead of keeping them: slower, in less memory."""
    keep_adapters: bool = False
    """Keep every trial's adapters, and what else it trained, in ``kept/`` of its folder, as PEFT saves them."""
    score: str
    """The metric that is the score."""

    _base: Pretrained = field(init=False, repr=False, compare=False)
    _sets: Mapping[str, Examples] = field(init=False, repr=False, compare=False)
    """``train``, ``val``, and perhaps ``test``."""

    @property
    def score_metric(self) -> str:
        """The reported metric that is the score."""
        return f"val_{self.score}"

    @property
    def score_goal(self) -> str:
        """Which scores are better."""
        return self.metric_goals[self.score_metric]

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """What every epoch reports."""
        return (*(f"val_{name}" for name in self._measures), "train_loss")

    @property
    def metric_goals(self) -> Mapping[str, str]:
        """Which values of each reported metric are better."""
        return {name: "minimize" if name.endswith("loss") else "maximize" for name in self.reported_metrics}

    @property
    @abstractmethod
    def _measures(self) -> tuple[str, ...]:
        """The names of what `_validate` measures."""

    @abstractmethod
    def _validate(self, model: Any, examples: Examples, context: Context) -> dict[str, float]:
        """Metrics of `model`, the score's among them; without gradients, in evaluation mode."""

    def check_space(self, space: Mapping[str, Sequence[Any]]) -> None:
        """Refuse what the model cannot have adapters for; see `lora_space.check_space`."""
        lora_space.check_space(space, self._base.targets)

    def __call__(self, config: Mapping[str, Any], context: Context) -> Result:
        """Train and validate.

        Raises:
            DivergedError: when a loss is not finite.
            NoAdapterError: when the configuration leaves no module with an adapter.
        """
        with trial_state(context.seed, context.device, context.threads):
            return self._evaluate(config, context)

    def _evaluate(self, config: Mapping[str, Any], context: Context) -> Result:
        model = self._base.adapted(config, context.device)
        metrics = self._fit(model, config, context)
        if "test" in self._sets:
            metrics |= self._judge(model, "test", context)
        if self.keep_adapters:
            model.save_pretrained(context.kept)
        value = metrics.pop(self.score_metric)
        parameters = float(sum(weight.numel() for weight in model.parameters() if weight.requires_grad))
        return Result(value, {**metrics, "parameters": parameters})

    def _check_options(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.accumulation >= 1, "accumulation", self.accumulation, "at least 1")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "a positive number")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "zero or a positive number")
        require(0 <= self.warmup <= 1, "warmup", self.warmup, "from 0 to 1")
        require(0 < self.max_grad_norm < math.inf, "max_grad_norm", self.max_grad_norm, "a positive number")
        require(self.precision in PRECISIONS, "precision", self.precision, " or ".join(PRECISIONS))
        require(self.quantization in QUANTIZATIONS, "quantization", self.quantization, ", ".join(QUANTIZATIONS))

    @torch.no_grad()
    def _try(self, model: Any, inputs: Mapping[str, torch.Tensor], wrong: str, mend: str) -> None:
        """Refuse an option with which no trial could run: where `model` cannot read `inputs`, `wrong` says what it is.

        Raises `EvaluatorError`.
        """
        device = self._base.model.device
        try:
            with self._autocast(str(device)):
                model(**{name: tensor.to(device) for name, tensor in inputs.items()})
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise EvaluatorError(f"[evaluator] {wrong} ({reason}); {mend}") from error

    def _check_length(self, max_tokens: int, longest: list[int]) -> None:
        """Refuse a `max_tokens` that the model has no positions for; `longest` is a row of so many tokens."""
        check_length("max_tokens", max_tokens, self._base.model)
        # Some have fewer than their configuration says: RoBERTa's begin behind the number of its padding token.
        wrong = f"max_tokens = {max_tokens}: the model cannot read so many"
        self._try(self._base.model, {"input_ids": torch.tensor([longest])}, wrong, "lower it")

    def _smallest_batch(self, examples: Examples) -> int:
        """How many examples are in the smallest batch of an epoch of training."""
        steps = _parts(range(len(examples)), self.batch_size * self.accumulation)
        return min(len(batch) for step in steps for batch in _parts(step, self.batch_size))

    def _set_up(self, sets: Mapping[str, Examples]) -> None:
        object.__setattr__(self, "_sets", sets)
        import_compiler()

    def _load_base(self, auto: Any, folder: Path, *, train_head: bool, **settings: Any) -> None:
        base = load_pretrained(
            auto,
            self.model,
            folder,
            precision=self.precision,
            quantization=self.quantization,
            train_head=train_head,
            **settings,
        )
        if self.gradient_checkpointing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # older transformers know this by this name only
                base.model.gradient_checkpointing_enable({"use_reentrant": False})
        object.__setattr__(self, "_base", base)

    def _fit(self, model: Any, config: Mapping[str, Any], context: Context) -> dict[str, float]:
        """Train `model` and validate it after every epoch; what the last validation gave."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        decay = config.get("weight_decay", self.weight_decay)
        training = _Training(model, torch.optim.AdamW(weights, self._rate(config), weight_decay=decay))
        done, metrics = training.restore(context)
        for epoch in range(done + 1, self.epochs + 1):
            train_loss = self._train_epoch(training, self._rate(config), epoch, context)
            metrics = self._judge(model, "val", context)
            _require_finite(epoch, {"train_loss": train_loss, **metrics})
            training.checkpoint(context, epoch, metrics)
            context.report(epoch, **metrics, train_loss=train_loss)
        return metrics

    @torch.no_grad()
    def _judge(self, model: Any, name: str, context: Context) -> dict[str, float]:
        """The metrics of one of the sets, each with the set's name before its own."""
        model.eval()
        metrics = self._validate(model, self._sets[name], context)
        return {f"{name}_{metric}": value for metric, value in metrics.items()}

    def _rate(self, config: Mapping[str, Any]) -> float:
        return float(config.get("learning_rate", self.learning_rate))

    def _train_epoch(self, training: _Training, rate: float, epoch: int, context: Context) -> float:
        """One epoch; the mean loss of its labels."""
        model, optimizer, train = training.model.train(), training.optimizer, self._sets["train"]
        random = np.random.default_rng([context.seed, epoch])
        torch.manual_seed(int(random.integers(2**63)))
        steps = [*_parts(random.permutation(len(train)).tolist(), self.batch_size * self.accumulation)]
        total, labels = torch.zeros((), device=context.device), 0
        for number, chosen in enumerate(steps):
            if context.should_stop:
                raise Pruned("asked to stop")
            batches = [*self._batches(train, chosen)]
            labels += (count := sum(batch.labels for batch in batches))
            for batch in batches:
                loss = self._run(model, batch.inputs, context).loss.float() * batch.labels
                (loss / count).backward()
                total += loss.detach()
            torch.nn.utils.clip_grad_norm_(training.weights, self.max_grad_norm)
            _set_rate(optimizer, rate * self._share((epoch - 1) * len(steps) + number, self.epochs * len(steps)))
            optimizer.step()
            optimizer.zero_grad()
        return float(total) / labels

    def _share(self, step: int, steps: int) -> float:
        """What part of the highest learning rate a step has, from 0 to 1."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        return (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) / 2

    def _run(self, model: Any, inputs: Mapping[str, torch.Tensor], context: Context) -> Any:
        """The model's output for `inputs`, in the chosen precision."""
        with self._autocast(context.device):
            return model(**{name: tensor.to(context.device) for name, tensor in inputs.items()})

    def _autocast(self, device: str) -> AbstractContextManager[Any]:
        return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _batches(self, examples: Examples, chosen: Sequence[int] | None = None) -> Iterator[Batch]:
        """All or the chosen ones of `examples`, in the given order, but for batches without any label."""
        numbers = range(len(examples)) if chosen is None else chosen
        batches = (examples.batch(part) for part in _parts(numbers, self.batch_size))
        return (batch for batch in batches if batch.labels)


@dataclass(frozen=True)
class _Training:
    """What changes from step to step. Random numbers do not: they begin anew with every epoch."""

    model: Any
    optimizer: torch.optim.Optimizer

    @property
    def weights(self) -> list[torch.Tensor]:
        """What is trained."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def checkpoint(self, context: Context, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep what the next epoch needs; the frozen weights are none of it."""
        optimizer = self.optimizer.state_dict()
        context.checkpoint({"epoch": epoch, "metrics": dict(metrics), "model": self._state(), "optimizer": optimizer})

    def restore(self, context: Context) -> tuple[int, dict[str, float]]:
        """Go on where an earlier attempt was: the number of epochs that are done, and the metrics by then."""
        state = context.restore()
        if state is None:
            return 0, {}
        with torch.no_grad():
            for name, tensor in self._state().items():
                tensor.copy_(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["epoch"]), dict(state["metrics"])

    def _state(self) -> dict[str, torch.Tensor]:
        """Trained weights, and buffers such as the statistics of batch normalisation."""
        trained = {name: weight.detach() for name, weight in self.model.named_parameters() if weight.requires_grad}
        return {**trained, **dict(self.model.named_buffers())}


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Parts of up to `size`, equal but for one number: batch normalisation cannot train on a last part of one."""
    count = -(-len(numbers) // size)
    bounds = [len(numbers) * part // count for part in range(count + 1)]
    return (numbers[start:end] for start, end in pairwise(bounds))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _require_finite(epoch: int, losses: Mapping[str, float]) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} in epoch {epoch}; a lower learning_rate may help")

"""Fine-tune a language model on samples in the published format.

    load_base → adapters → [samples of a step → packed rows → loss of the answers → update]* → a folder for `hf_export`

A step's samples, its learning rate and its random numbers follow from the seed and the step's number. So a checkpoint
is the trained weights and the optimizer's moments, and a run that goes on from one gives the weights of a run that was
never interrupted. The loss is a mean over the tokens to learn of the whole step: how samples are packed into rows, and
rows are spread over processes, changes nothing but rounding.

`accelerate launch` starts a process a GPU; each works on its share of a step's rows.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ncode_search.agent.tuning.encoding import Encoded, Encoder, Row, rows_of, summed_loss
from ncode_search.agent.tuning.formats import from_line
from ncode_search.agent.tuning.hf_model import Base
from ncode_search.agent.tuning.published import Sample
from ncode_search.agent.tuning.tune_settings import TuneSettings

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

MOST_NORM = 1.0
"""Gradients are scaled down to this norm."""


@dataclass(frozen=True)
class Step:
    """What is known after a step."""

    number: int
    """Steps done."""
    steps: int
    loss: float
    """Nats a token to learn, before the step."""
    rate: float
    tokens: int
    """Tokens that were read, of all samples of the step."""
    seconds: float


class Trainer:
    """A model, what is trained of it, and how far it is. `run` goes on from `done`."""

    def __init__(self, base: Base, lines: list[str], settings: TuneSettings, where: str = "sample") -> None:
        """`lines`: samples in the published format, named `where` in errors."""
        from accelerate import Accelerator, DistributedDataParallelKwargs

        self.settings, self._lines, self._where = settings, lines, where
        self.tokenizer = base.tokenizer
        self.encoder = Encoder(base.tokenizer, min(settings.context, base.model.config.max_position_embeddings))
        # Buffers never change; sent with every call of the model, they stop processes whose rows need more calls.
        constant = DistributedDataParallelKwargs(broadcast_buffers=False)
        self.accelerator: Accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[constant])
        self.done = 0
        self._runs = _runs(from_line(line, f"{where}:{number}") for number, line in enumerate(lines, 1))
        self._prepare(base)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.settings.epochs * self._steps_an_epoch

    @property
    def plain_model(self) -> Any:
        """The model without what `accelerate` wraps around it."""
        return self.accelerator.unwrap_model(self.model)

    def run(self) -> Iterator[Step]:
        """Train to the end, a step at a time."""
        while self.done < self.steps:
            yield self._step(self.done)

    @property
    def is_main(self) -> bool:
        """Whether this process, of several, is the one that writes and speaks."""
        return bool(self.accelerator.is_main_process)

    def any_of_all(self, here: bool) -> bool:
        """Whether it is so in any process. All of them have to ask."""
        import torch

        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.accelerator.device), "sum") > 0)

    def trained(self) -> dict[str, torch.Tensor]:
        """The parameters that are trained, by name."""
        return {name: part for name, part in self.plain_model.named_parameters() if part.requires_grad}

    def state(self) -> dict[str, Any]:
        """All that a later `restore` needs."""
        weights = {name: part.detach() for name, part in self.trained().items()}
        return {"done": self.done, "weights": weights, "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        import torch

        with torch.no_grad():
            for name, part in self.trained().items():
                part.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = int(state["done"])

    @property
    def _steps_an_epoch(self) -> int:
        return -(-len(self._lines) // self.settings.batch)

    def _prepare(self, base: Base) -> None:
        import torch

        torch.manual_seed(self.settings.seed)
        model = with_adapters(base.model, self.settings) if self.settings.lora else base.model
        if self.settings.checkpointing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # transformers 4 knows this by the old name only
                model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        model.train()
        parts = [part for part in model.parameters() if part.requires_grad]
        optimizer = torch.optim.AdamW(parts, lr=self.settings.highest_rate, weight_decay=0.0)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def _step(self, number: int) -> Step:
        import torch

        start, rate = time.monotonic(), self.settings.rate_at(number, self.steps)
        torch.manual_seed(int(np.random.SeedSequence([self.settings.seed, number]).generate_state(1)[0]))
        rows = self._rows(number)
        targets = sum(len(row.targets) for row in rows)
        loss = self._accumulate(rows, targets)
        self.accelerator.clip_grad_norm_(self.model.parameters(), MOST_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done = number + 1
        tokens = sum(row.size for row in rows)
        return Step(self.done, self.steps, loss / targets, rate, tokens, time.monotonic() - start)

    def _accumulate(self, rows: list[Row], targets: int) -> float:
        """Add up the gradients of this process's share of `rows`; the loss of all of them, summed."""
        import torch

        total = torch.zeros((), device=self.accelerator.device)
        shares = self._share(rows)
        for at, (row, weight) in enumerate(shares):
            last = at == len(shares) - 1
            with self._together(last), self._precision():
                loss = weight * summed_loss(self.model, row, self.accelerator.device)
                # Gradients are averaged over the processes, but each has its own rows.
                self.accelerator.backward(loss * self.accelerator.num_processes / targets)
            total += loss.detach()
        return float(self.accelerator.reduce(total, "sum"))

    def _share(self, rows: list[Row]) -> list[tuple[Row, float]]:
        """This process's rows with weight 1; where others have a row more, one of weight 0 keeps in step with them."""
        own, count = rows[self.accelerator.process_index :: self.accelerator.num_processes], len(rows)
        each = -(-count // self.accelerator.num_processes)
        return [(row, 1.0) for row in own] + [(rows[-1], 0.0)] * (each - len(own))

    def _rows(self, step: int) -> list[Row]:
        """The samples of a step: those with a history in common forked behind it, the others packed."""
        alike: dict[str, list[Encoded]] = {}
        for index in self._chosen(step):
            sample = from_line(self._lines[index], f"{self._where}:{index + 1}")
            alike.setdefault(sample.history, []).append(self.encoder(sample))
        # Transformers keeps no cache where activations are computed again.
        forking = self.settings.pack > 0 and not self.settings.checkpointing
        return rows_of([*alike.values()], self.settings.pack, forking=forking)

    def _chosen(self, step: int) -> list[int]:
        """Numbers of the samples of a step. Those with a history in common stay together."""
        epoch, at = divmod(step, self._steps_an_epoch)
        runs = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self._runs))
        order = [index for run in runs for index in self._runs[run]]
        return order[at * self.settings.batch : (at + 1) * self.settings.batch]

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.settings.bf16)

    def _together(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange their gradients once a step."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)


def _runs(samples: Iterable[Sample]) -> list[range]:
    """The numbers of successive samples that have a history in common."""
    lengths = [sum(1 for _ in run) for _, run in groupby(samples, key=lambda sample: sample.history)]
    return [range(end - length, end) for end, length in zip(accumulate(lengths), lengths, strict=True)]


def with_adapters(model: Any, settings: TuneSettings) -> Any:
    """`model` with low-rank adapters on all of its linear layers; nothing else is trained any more."""
    import torch
    from peft import LoraConfig, get_peft_model

    if settings.bf16:
        model = model.to(torch.bfloat16)  # frozen: no update can be lost in rounding
    config = LoraConfig(
        r=settings.lora, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for attributes by their old names
        return get_peft_model(model, config)

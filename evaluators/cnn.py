"""``kind = "cnn"``: train a convolutional network on small images; the score is its validation accuracy.

`cnn_space` says what a space may name, `cnn_network` builds the network, `images` loads the data. On the CPU a score is
a function of the configuration, the search's seed, the options and the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from ncode_search.evaluators import cnn_space
from ncode_search.evaluators.base import Context, DivergedError, Pruned, Result
from ncode_search.evaluators.cnn_network import Network, count_parameters
from ncode_search.evaluators.images import ImageData, Split, digits, image_folder
from ncode_search.evaluators.options import require
from ncode_search.evaluators.torch_state import get_random_state, set_random_state, trial_state


@dataclass(frozen=True, kw_only=True)
class CnnEvaluator:
    """Trains the CNN of a configuration and validates it after every epoch. The fields are the TOML keys."""

    score_metric: ClassVar[str] = "val_accuracy"

    folder: InitVar[Path]

    data: str = "digits"
    """``digits`` (scikit-learn's), or a folder: ``train/``, ``val/``, perhaps ``test/``, each with a folder a class."""
    epochs: int = 4
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step, at most."""
    learning_rate: float = 0.002
    """Of the first epoch, for AdamW; it falls along a cosine."""
    weight_decay: float = 0.01
    """For AdamW."""
    image_size: int | None = None
    """Pixels that the sides of a folder's images are resized to; 32 if left out. Digits stay 8x8."""
    split_seed: int = 0
    """Chooses which digits are for training, validation and test. The search's seed does not change the split."""

    _images: ImageData = field(init=False, repr=False, compare=False)

    def __post_init__(self, folder: Path) -> None:
        self._check_numbers()
        if self.data == "digits":
            images = digits(self.split_seed)
        else:
            images = image_folder(folder / self.data, self.image_size or 32)
        object.__setattr__(self, "_images", images)
        # The first optimizer of a process imports torch's compiler: two seconds that are no trial's own.
        torch.optim.AdamW([torch.zeros(1, requires_grad=True)])

    def _check_numbers(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 4, "batch_size", self.batch_size, "at least 4")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "a positive number")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "zero or a positive number")
        require(0 <= self.split_seed < 2**32, "split_seed", self.split_seed, "from 0 to 4294967295")
        if self.image_size is not None:
            require(self.data != "digits", "image_size", self.image_size, 'left out with data = "digits" (8x8)')
            require(1 <= self.image_size <= 1024, "image_size", self.image_size, "from 1 to 1024")

    def check_space(self, space: Mapping[str, Sequence[Any]]) -> None:
        """Refuse what no CNN can be built from; see `cnn_space.check_space`."""
        cnn_space.check_space(space)

    def cost(self, config: Mapping[str, Any]) -> dict[str, float]:
        """``params``: trained weights; ``flops``: operations for one image, a multiplication and an addition being two,
        of convolutions and linear layers, as torch counts them. Nothing is computed.
        """
        architecture = cnn_space.Architecture.from_config(config)
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            network = Network(architecture, self._images.channels, self._images.classes).eval()
            network(torch.empty(1, *self._images.train.images.shape[1:]))
        return {"params": count_parameters(network), "flops": counter.get_total_flops()}

    def __call__(self, config: Mapping[str, Any], context: Context) -> Result:
        """Accuracies are fractions from 0 to 1.

        Raises:
            DivergedError: when the training loss is not finite.
        """
        with trial_state(context.seed, context.device, context.threads):
            return self._evaluate(config, context)

    def _evaluate(self, config: Mapping[str, Any], context: Context) -> Result:
        images, device = self._images, context.device

        architecture = cnn_space.Architecture.from_config(config)
        network = Network(architecture, images.channels, images.classes).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        training = _Training(network, optimizer, schedule, torch.Generator().manual_seed(context.seed))
        done, val_accuracy = training.restore(context)

        for epoch in range(done + 1, self.epochs + 1):
            order = torch.randperm(len(images.train), generator=training.shuffle)
            train_loss = self._train(network, optimizer, order, context)
            if not math.isfinite(train_loss):
                raise DivergedError(
                    f"the training loss is {train_loss} in epoch {epoch}; a lower learning_rate may help"
                )
            schedule.step()
            val_accuracy = self._accuracy(network, images.val, device)
            training.checkpoint(context, epoch, val_accuracy)
            context.report(epoch, val_accuracy=val_accuracy, train_loss=train_loss)

        metrics = {"parameters": float(count_parameters(network))}
        if images.test is not None:
            metrics["test_accuracy"] = self._accuracy(network, images.test, device)
        return Result(val_accuracy, metrics)

    def _train(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, order: torch.Tensor, context: Context
    ) -> float:
        """One epoch; the mean loss of its images."""
        network.train()
        total = torch.zeros((), device=context.device)
        for images, labels in self._images.batches(self._images.train, order, self.batch_size, context.device):
            if context.should_stop:
                raise Pruned("the search has no more use for it")
            loss = cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach() * len(labels)
        return float(total) / len(order)

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, split: Split, device: str) -> float:
        """The fraction of the split's images that the network names rightly."""
        network.eval()
        correct = torch.zeros((), dtype=torch.int64, device=device)
        for images, labels in self._images.batches(split, torch.arange(len(split)), self.batch_size, device):
            correct += (network(images).argmax(1) == labels).sum()
        return int(correct) / len(split)


@dataclass(frozen=True)
class _Training:
    """What changes from epoch to epoch."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    shuffle: torch.Generator

    def checkpoint(self, context: Context, epoch: int, val_accuracy: float) -> None:
        context.checkpoint(
            {
                "epoch": epoch,
                "val_accuracy": val_accuracy,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "shuffle": self.shuffle.get_state(),
                "random": get_random_state(context.device),
            }
        )

    def restore(self, context: Context) -> tuple[int, float]:
        """Go on where an earlier attempt was: the number of epochs that are done, the validation accuracy by then."""
        state = context.restore()
        if state is None:
            return 0, math.nan
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.shuffle.set_state(state["shuffle"])
        set_random_state(context.device, state["random"])
        return int(state["epoch"]), float(state["val_accuracy"])

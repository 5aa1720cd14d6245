"""How a CNN is trained: what the evaluator's keys say, and what a space may search of it.

Each of these is a key of the ``[evaluator]`` table, and a position of the space where a user lists its options there:
the position goes before the key. Both are checked by the same rules when the search starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ncode_search.evaluators.options import require
from ncode_search.evaluators.positions import Position, is_boolean, is_integer, is_number, is_one_of, is_positive

_MANY = 2**62
_PRECISIONS = {"off": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _position(name: str, allowed: str, accepts: Callable[[Any], bool]) -> Position:
    return Position(name, name, allowed, accepts, "the evaluator's")


POSITIONS = (
    _position("epochs", "an integer from 1", is_integer(1, _MANY)),
    _position("batch_size", "an integer from 4", is_integer(4, _MANY)),
    _position("learning_rate", "a positive number", is_positive),
    _position("weight_decay", "zero or a positive number", is_number(0)),
    _position("optimizer", "adamw, sgd", is_one_of(("adamw", "sgd"))),
    _position("schedule", "cosine, constant", is_one_of(("cosine", "constant"))),
    _position("label_smoothing", "a number from 0 to below 1", is_number(0, 1)),
    _position("shift", "an integer from 0 to 64", is_integer(0, 64)),
    _position("flip", "true or false", is_boolean),
    _position("amp", ", ".join(_PRECISIONS), is_one_of(tuple(_PRECISIONS))),
    _position("channels_last", "true or false", is_boolean),
)


@dataclass(frozen=True)
class Recipe:
    """What `POSITIONS` are about; the meaning of each stands at the evaluator's fields."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    optimizer: str
    schedule: str
    label_smoothing: float
    shift: int
    flip: bool
    amp: str
    channels_last: bool

    @classmethod
    def of(cls, options: object, config: Mapping[str, Any]) -> Recipe:
        """The evaluator's `options`, but for what the configuration says itself."""
        return cls(**{one.name: config.get(one.name, getattr(options, one.name)) for one in fields(cls)})

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """For all weights of the network alike."""
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=decay)
        return torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """A step an epoch."""
        if self.schedule == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    def make_scaler(self, device: str) -> torch.amp.GradScaler:
        """Keeps small gradients of float16 from vanishing; does nothing otherwise."""
        return torch.amp.GradScaler(enabled=self.amp == "float16" and torch.device(device).type == "cuda")

    @property
    def memory_format(self) -> torch.memory_format:
        """How images and weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """In full precision, whatever they were computed in."""
        kind, precision = images.device.type, _PRECISIONS[self.amp]
        enabled = precision is not None and (kind == "cuda" or precision is torch.bfloat16)
        with torch.autocast(kind, precision, enabled=enabled):
            logits: torch.Tensor = network(images.contiguous(memory_format=self.memory_format))
        return logits.float()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean over the images, in training."""
        return cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def augmented(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each image of a batch, shape ``(n, channels, height, width)``, shifted and mirrored by itself at random.

        What is shifted in is zero, which is the mean of standardised images.
        """
        if self.flip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
        if self.shift:
            offsets = torch.randint(-self.shift, self.shift + 1, (len(images), 2), generator=generator)
            images = _shifted(images, offsets.to(images.device), self.shift)
        return images


def check_recipe(options: object) -> None:
    """Refuse an evaluator's key that no position accepts. Raises `EvaluatorError`."""
    for one in POSITIONS:
        value = getattr(options, one.names)
        require(one.accepts(value), one.names, value, one.allowed)


def _shifted(images: torch.Tensor, offsets: torch.Tensor, most: int) -> torch.Tensor:
    """A crop of each padded image; `offsets`, shape ``(n, 2)``, are down and to the right, within `most`."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, [most] * 4)
    rows = (most - offsets[:, :1]) + torch.arange(height, device=images.device)
    columns = (most - offsets[:, 1:]) + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    # Indexed so, the channels come last.
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

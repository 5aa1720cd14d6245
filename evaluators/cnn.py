"""``kind = "cnn"``: train a convolutional network on small images; the score is its validation accuracy.

`cnn_space` says what a space may name, `cnn_network` builds the network, `cnn_recipe` is how it is trained, `images`
and `cifar` load the data. On the CPU a score is a function of the configuration, the search's seed, the options and the
number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncode_search.evaluators import cnn_space
from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError, Pruned, Result
from ncode_search.evaluators.cifar import cifar, is_cifar
from ncode_search.evaluators.cnn_network import Network, count_parameters
from ncode_search.evaluators.cnn_recipe import Recipe, check_recipe
from ncode_search.evaluators.images import ImageData, Split, digits, divided_folder, image_folder
from ncode_search.evaluators.options import require, user_path
from ncode_search.evaluators.supernet import Supernet
from ncode_search.evaluators.torch_state import get_random_state, import_compiler, set_random_state, trial_state

Penalty = Callable[[], torch.Tensor]
"""What is added to the loss of a batch."""


@dataclass(frozen=True, kw_only=True)
class CnnEvaluator:
    """Trains the CNN of a configuration and validates it after every epoch. The fields are the TOML keys."""

    score_metric: ClassVar[str] = "val_accuracy"
    score_goal: ClassVar[str] = "maximize"
    metric_goals: ClassVar[Mapping[str, str]] = {"val_accuracy": "maximize", "train_loss": "minimize"}
    reported_metrics: ClassVar[tuple[str, ...]] = tuple(metric_goals)

    folder: InitVar[Path]

    data: str = "digits"
    """``digits`` (scikit-learn's), or a folder: of images in ``train/<class>/``, ``val/<class>/`` and perhaps
    ``test/<class>/``; of images in ``<class>/``, to be divided; or of CIFAR-10's or CIFAR-100's binary version.
    """
    epochs: int = 4
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step, at most."""
    learning_rate: float = 0.002
    """Of the first epoch."""
    weight_decay: float = 0.01
    """The optimizer's."""
    optimizer: str = "adamw"
    """``adamw``, or ``sgd`` with a Nesterov momentum of 0.9."""
    schedule: str = "cosine"
    """``cosine``: the learning rate falls to zero along one, a step an epoch; ``constant``."""
    label_smoothing: float = 0.0
    """The share of the training target that is spread over all classes."""
    shift: int = 0
    """Training images are moved by up to so many pixels, up or down and to a side, at random."""
    flip: bool = False
    """Training images are mirrored left to right at random, half of them."""
    image_size: int | None = None
    """Pixels that the sides of a folder's images are resized to; 32 if left out. Digits stay 8x8, CIFAR's 32x32."""
    split_seed: int = 0
    """Chooses which images are for training, validation and test, where the data do not say. The search's seed does
    not change that.
    """
    amp: str = "off"
    """Automatic mixed precision: ``off``, ``bfloat16``, or ``float16``, which only GPUs compute in: on a CPU it is off.
    """
    channels_last: bool = False
    """Keep the channels of images together in memory, which tensor cores are faster with."""

    _images: ImageData = field(init=False, repr=False, compare=False)

    def __post_init__(self, folder: Path) -> None:
        self._check_numbers()
        object.__setattr__(self, "_images", self._load(user_path(self.data, folder)))
        self._check_shift("[evaluator] shift", self.shift)
        import_compiler()

    def _load(self, path: Path) -> ImageData:
        if self.data == "digits":
            return digits(self.split_seed)
        if is_cifar(path):
            require(self.image_size is None, "image_size", self.image_size, "left out with CIFAR (32x32)")
            return cifar(path, self.split_seed)
        if path.is_dir() and not (path / "train").exists():
            return divided_folder(path, self.image_size or 32, self.split_seed)
        return image_folder(path, self.image_size or 32)

    def _check_numbers(self) -> None:
        check_recipe(self)
        require(0 <= self.split_seed < 2**32, "split_seed", self.split_seed, "from 0 to 4294967295")
        if self.image_size is not None:
            require(self.data != "digits", "image_size", self.image_size, 'left out with data = "digits" (8x8)')
            require(1 <= self.image_size <= 1024, "image_size", self.image_size, "from 1 to 1024")

    def check_space(self, space: Mapping[str, Sequence[Any]]) -> None:
        """Refuse what no CNN can be built from; see `cnn_space.check_space`."""
        cnn_space.check_space(space)
        for option in space.get("shift", ()):
            self._check_shift('[space] "shift"', option)

    def _check_shift(self, where: str, shift: int) -> None:
        height, width = self._images.train.images.shape[2:]
        if shift >= min(height, width):
            raise EvaluatorError(f"{where} = {shift}: the images have {height}x{width} pixels; it must be below that")

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
            DivergedError: when the training loss is not finite, or the outputs for the validation images are not.
        """
        with trial_state(context.seed, context.device, context.threads):
            return self._evaluate(config, context)

    def _evaluate(self, config: Mapping[str, Any], context: Context) -> Result:
        architecture = cnn_space.Architecture.from_config(config)
        network = Network(architecture, self._images.channels, self._images.classes)
        recipe = Recipe.of(self, config)
        val_accuracy = self._fit(network, recipe, context)

        metrics = {"parameters": float(count_parameters(network))}
        if self._images.test is not None:
            metrics["test_accuracy"] = self._accuracy(network, self._images.test, recipe, context.device)
        return Result(val_accuracy, metrics)

    def supernet(
        self, space: Mapping[str, Sequence[Any]], config: Mapping[str, Any], epochs: int, context: Context
    ) -> Supernet:
        """A trained supernet of the edges in `space`; `config` says everything else.

        Raises `EvaluatorError` where there are no edges, `DivergedError` as a trial does.
        """
        with trial_state(context.seed, context.device, context.threads):
            network = Supernet(space, config, self._images.channels, self._images.classes, context.seed)
            self._fit(network, Recipe.of(self, {**config, "epochs": epochs}), context, network.penalty)
            return network

    def _fit(self, network: nn.Module, recipe: Recipe, context: Context, penalty: Penalty | None = None) -> float:
        """Train, or go on; returns the accuracy on the validation images after the last epoch."""
        device = context.device
        # torch's stubs do not have the keyword, and would need a second call for the device.
        network.to(device=device, memory_format=recipe.memory_format)  # type: ignore[call-overload]
        optimizer = recipe.make_optimizer(network)
        schedule = recipe.make_schedule(optimizer)
        scaler = recipe.make_scaler(device)
        training = _Training(network, optimizer, schedule, scaler, torch.Generator().manual_seed(context.seed))
        done, val_accuracy = training.restore(context)

        for epoch in range(done + 1, recipe.epochs + 1):
            order = torch.randperm(len(self._images.train), generator=training.shuffle)
            train_loss = self._train(training, recipe, order, context, penalty)
            _require_finite("the training loss is", train_loss, epoch)
            schedule.step()
            val_accuracy = self._accuracy(network, self._images.val, recipe, device)
            _require_finite("an output for the validation images is no number: the accuracy is", val_accuracy, epoch)
            training.checkpoint(context, epoch, val_accuracy)
            context.report(epoch, val_accuracy=val_accuracy, train_loss=train_loss)
        return val_accuracy

    def _train(
        self, training: _Training, recipe: Recipe, order: torch.Tensor, context: Context, penalty: Penalty | None
    ) -> float:
        """One epoch; the mean loss of its images."""
        network, optimizer, scaler = training.network.train(), training.optimizer, training.scaler
        total = torch.zeros((), device=context.device)
        for images, labels in self._images.batches(self._images.train, order, recipe.batch_size, context.device):
            if context.should_stop:
                raise Pruned("the search has no more use for it")
            loss = recipe.loss(recipe.logits(network, recipe.augmented(images, training.shuffle)), labels)
            if penalty is not None:
                loss = loss + penalty()
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            total += loss.detach() * len(labels)
        return float(total) / len(order)

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, split: Split, recipe: Recipe, device: str) -> float:
        """The fraction of the split's images that the network names rightly; NaN where an output is no number."""
        network.eval()
        correct = torch.zeros((), device=device)
        for images, labels in self._images.batches(split, torch.arange(len(split)), self.batch_size, device):
            logits = recipe.logits(network, images)
            right = (logits.argmax(1) == labels).sum()
            correct += torch.where(logits.isfinite().all(), right, math.nan)
        return float(correct) / len(split)


@dataclass(frozen=True)
class _Training:
    """What changes from epoch to epoch."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    shuffle: torch.Generator
    """Of the order of the images, and of what is done to them."""

    def checkpoint(self, context: Context, epoch: int, val_accuracy: float) -> None:
        context.checkpoint(
            {
                "epoch": epoch,
                "val_accuracy": val_accuracy,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
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
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.shuffle.set_state(state["shuffle"])
        set_random_state(context.device, state["random"])
        return int(state["epoch"]), float(state["val_accuracy"])


def _require_finite(what: str, value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"{what} {value} in epoch {epoch}; a lower learning_rate may help")

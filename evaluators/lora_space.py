"""What a space of LoRA adapters may say: the positions, what each accepts, and the adapters that a configuration means.

The linear layers of a model that can have adapters are those in its numbered blocks. A block is called a layer here, as
in PEFT: ``bert.encoder.layer.3``, ``model.layers.11``, or a stage with its block, ``segformer.stages.1.blocks.0``. What
follows is the module's name in its layer, ``attention.self.query``. A space names modules by that name or by the end of
it, ``query``; the same name in all layers.

A space names the positions that it searches; every other position has the default that `positions` lists.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from peft import LoraConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.positions import (
    Position,
    check_positions,
    is_boolean,
    is_integer,
    is_number,
    is_positive,
)

DEFAULT_RANK = 8
ALL = "all"
MOST_RANK = 1024

_IN_LAYER = re.compile(r"(?P<layer>.*?\.\d+(?:(?:\.(?:blocks?|layers?))?\.\d+)?)\.(?P<module>.+)")
_COUNTED = re.compile(r"(?P<which>first|last|every)-(?P<count>[1-9]\d*)")


class NoAdapterError(ValueError):
    """A configuration leaves no module with an adapter: the trial fails, there is nothing to train."""


@dataclass(frozen=True)
class Module:
    """A linear layer of a model that can have an adapter."""

    path: str
    """Its whole name in the model."""
    layer: int
    """Number of its layer, from 0."""
    name: str
    """Its name in the layer."""


@dataclass(frozen=True)
class Targets:
    """All modules of a model that can have adapters."""

    modules: tuple[Module, ...]
    transposed: bool
    """Whether their weights are stored as GPT-2's are, ``(in, out)``."""

    @cached_property
    def names(self) -> list[str]:
        """Names of modules in their layers, each once."""
        return list(dict.fromkeys(module.name for module in self.modules))

    @cached_property
    def layers(self) -> int:
        """Number of layers."""
        return 1 + max(module.layer for module in self.modules)

    def named(self, target: str) -> set[str]:
        """The names that `target` means: all, one, or those that end in it."""
        if target == ALL or target in self.names:
            return set(self.names) if target == ALL else {target}
        return {name for name in self.names if name.endswith(f".{target}")}


def body_name(model: Any) -> str:
    """The child of a Hugging Face model that its head stands on: the one it names, or where it names none, the largest.

    Empty for a model without children.
    """
    sizes = {name: sum(weight.numel() for weight in child.parameters()) for name, child in model.named_children()}
    return (
        model.base_model_prefix if model.base_model_prefix in sizes else max(sizes, key=sizes.__getitem__, default="")
    )


def find_targets(model: Any) -> Targets:
    """The modules of a Hugging Face model, without its head.

    Raises:
        EvaluatorError: where it has none.
    """
    body = body_name(model)
    linear = {path: module for path, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
    found = [match for path in linear if path.startswith(body) and (match := _IN_LAYER.fullmatch(path))]
    names = {match["layer"] for match in found}
    # What stands in a stage beside its blocks, such as Swin's reductions, is in no layer.
    blocks = [match for match in found if not any(name.startswith(f"{match['layer']}.") for name in names)]
    if not blocks:
        raise EvaluatorError(
            f"[evaluator] model: a {type(model).__name__} has no numbered layers of linear modules; give another model"
        )
    numbers = {layer: number for number, layer in enumerate(dict.fromkeys(match["layer"] for match in blocks))}
    modules = [Module(match[0], numbers[match["layer"]], match["module"]) for match in blocks]
    return Targets(tuple(modules), transposed=isinstance(linear[modules[0].path], Conv1D))


def positions(targets: Targets) -> tuple[Position, ...]:
    """What a space may name for the model that has `targets`."""
    last, names = targets.layers - 1, ", ".join(targets.names)
    rank = is_integer(0, MOST_RANK)
    return (
        Position("rank", "rank", f"an integer from 1 to {MOST_RANK}", is_integer(1, MOST_RANK), str(DEFAULT_RANK)),
        Position("alpha", "alpha", "a positive number", is_positive, "twice the rank"),
        Position("dropout", "dropout", "a number from 0 to below 1", is_number(0, 1), "0"),
        Position(
            "targets",
            "targets",
            f'"{ALL}", or modules of the model, as a list or joined by "+"; this model has {names}',
            lambda option: _is_targets(option, targets),
            f'"{ALL}"',
        ),
        Position(r"target\..+", "target.MODULE", "true, false", is_boolean, "what targets says"),
        Position(
            "layers",
            "layers",
            f'"{ALL}", "first-N", "last-N", "every-N", or a list of numbers from 0 to {last}',
            lambda option: _layers(option, targets.layers) is not None,
            f'"{ALL}"',
        ),
        Position(r"layer\.\d+\.rank", f"layer.0.rank to layer.{last}.rank", f"0 to {MOST_RANK}", rank, "rank"),
        Position("learning_rate", "learning_rate", "a positive number", is_positive, "that of [evaluator]"),
        Position("weight_decay", "weight_decay", "zero or a positive number", is_number(0), "that of [evaluator]"),
        Position("rslora", "rslora", "true, false", is_boolean, "false"),
        Position("dora", "dora", "true, false", is_boolean, "false"),
    )


def check_space(space: Mapping[str, Sequence[Any]], targets: Targets) -> None:
    """Refuse positions and options that the model which has `targets` cannot have adapters for.

    Raises:
        EvaluatorError: with the position, and what is allowed there.
    """
    check_positions(space, positions(targets), owner="a LoRA adapter")
    for position in space:
        _check_module(position, targets)
        _check_layer(position, targets)
    if "targets" in space and (both := [position for position in space if position.startswith("target.")]):
        raise EvaluatorError(f'[space] "{both[0]}": leave out either this or targets, which chooses modules as well')


def _check_module(position: str, targets: Targets) -> None:
    if position.startswith("target.") and not targets.named(position.removeprefix("target.")):
        raise EvaluatorError(
            f'[space] "{position}": the model has no such module in its layers; it has {", ".join(targets.names)}'
        )


def _check_layer(position: str, targets: Targets) -> None:
    if position.startswith("layer.") and int(position.split(".")[1]) >= targets.layers:
        raise EvaluatorError(
            f'[space] "{position}": the model has {targets.layers} layers, 0 to {targets.layers - 1}; name one of them'
        )


def _is_targets(option: Any, targets: Targets) -> bool:
    return bool(names := _names(option)) and all(targets.named(name) for name in names)


def _names(option: Any) -> list[str]:
    if isinstance(option, str):
        return option.split("+")
    return option if isinstance(option, list) and all(isinstance(name, str) for name in option) else []


def _layers(option: Any, count: int) -> set[int] | None:
    """The layers that an option of ``layers`` means among `count`; None for what is no such option."""
    if option == ALL:
        return set(range(count))
    if isinstance(option, list):
        fits = bool(option) and all(type(layer) is int and 0 <= layer < count for layer in option)
        return set(option) if fits else None
    found = _COUNTED.fullmatch(option) if isinstance(option, str) else None
    if found is None or int(found["count"]) > count:
        return None
    number = int(found["count"])
    chosen = {"first": range(number), "last": range(count - number, count), "every": range(0, count, number)}
    return set(chosen[found["which"]])


def lora_config(config: Mapping[str, Any], targets: Targets, fully: Sequence[str]) -> LoraConfig:
    """PEFT's description of a configuration, whose space `check_space` has accepted.

    Args:
        fully: Modules that are trained as a whole, such as the head.

    Raises:
        NoAdapterError: when no module is left to have one.
    """
    ranks, rank = _ranks(config, targets), config.get("rank", DEFAULT_RANK)
    if not ranks:
        raise NoAdapterError("no module has an adapter in this configuration; forbid it, or give one of them a rank")
    others = {f"^{re.escape(path)}": own for path, own in ranks.items() if own != rank}
    alphas = {} if "alpha" in config else {path: 2 * own for path, own in others.items()}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # of rslora beside ranks of one's own: these adapters are not merged
        return LoraConfig(
            r=rank,
            lora_alpha=config.get("alpha", 2 * rank),
            target_modules=list(ranks),
            rank_pattern=others,
            alpha_pattern=alphas,
            lora_dropout=float(config.get("dropout", 0)),
            use_rslora=config.get("rslora", False),
            use_dora=config.get("dora", False),
            fan_in_fan_out=targets.transposed,
            modules_to_save=list(fully) or None,
        )


def _ranks(config: Mapping[str, Any], targets: Targets) -> dict[str, int]:
    """The rank of every module that has an adapter, by its path."""
    names, rank = _chosen_names(config, targets), config.get("rank", DEFAULT_RANK)
    layers = _layers(config.get("layers", ALL), targets.layers) or set()
    ranks = {
        module.path: config.get(f"layer.{module.layer}.rank", rank)
        for module in targets.modules
        if module.name in names and module.layer in layers
    }
    return {path: rank for path, rank in ranks.items() if rank}


def _chosen_names(config: Mapping[str, Any], targets: Targets) -> set[str]:
    """With ``target.MODULE`` positions, the modules that are switched on; else what ``targets`` says."""
    switches = {name.removeprefix("target."): on for name, on in config.items() if name.startswith("target.")}
    chosen = [name for name, on in switches.items() if on] if switches else _names(config.get("targets", ALL))
    return set().union(*(targets.named(name) for name in chosen))

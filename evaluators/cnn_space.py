"""What a space of CNNs may say: the positions, what each accepts, and the architecture that a configuration means.

A network is a stem convolution, then one to four stages, each of one of two kinds.

A stage of cells is a number of equal cells; before it, unless it is the first, a convolution of stride two halves the
image and changes the width. A cell is a graph: node 0 is its input, every later node sums its incoming edges, the last
node is its output. All cells are alike, with as many nodes as the space names.

A stage of which the space names ``depth``, ``kernel``, ``expansion`` or ``se`` is one of inverted bottlenecks
(MobileNetV2, arXiv 1801.04381, with the squeeze-and-excitation of EfficientNet, arXiv 1905.11946); its first block
halves the image, unless it is the first stage, and changes the width.

A space names the positions that it searches, and has as many stages as it names. Every other position keeps the default
that `POSITIONS` lists: an edge is ``none``, but a space without any edge has cells of a single ``conv3x3``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ncode_search.evaluators import cnn_recipe
from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.cnn_layers import ACTIVATIONS, NORMS, OPERATIONS, Style
from ncode_search.evaluators.positions import Position, check_positions, is_integer, is_number, is_one_of

HEAD_POOLS = ("avg", "max")


def _choice(name: str, choices: Sequence[str], default: str) -> Position:
    return Position(re.escape(name), name, ", ".join(choices), is_one_of(choices), default)


_WIDTH = "an integer from 1 to 1024"
POSITIONS = (
    Position(r"stem\.width", "stem.width", _WIDTH, is_integer(1, 1024), "16"),
    Position(r"stem\.kernel", "stem.kernel", "an odd integer from 1 to 15", is_integer(1, 15, odd=True), "3"),
    Position(
        r"cell\.(0-[1-9]|1-[2-9]|2-[3-9]|3-[4-9]|4-[5-9]|5-[6-9]|6-[7-9]|7-[89]|8-9)",
        "cell.I-J (an edge from node I to a later node J, 0 to 9)",
        ", ".join(OPERATIONS),
        is_one_of(OPERATIONS),
        "none",
    ),
    Position(r"stage[1-4]\.depth", "stage1.depth to stage4.depth", "an integer from 1 to 8", is_integer(1, 8), "1"),
    Position(
        r"stage[1-4]\.kernel",
        "stage1.kernel to stage4.kernel",
        "an odd integer from 1 to 15",
        is_integer(1, 15, odd=True),
        "3",
    ),
    Position(
        r"stage[1-4]\.expansion",
        "stage1.expansion to stage4.expansion",
        "an integer from 1 to 16",
        is_integer(1, 16),
        "4",
    ),
    Position(
        r"stage[1-4]\.se",
        "stage1.se to stage4.se (the squeezed share of the channels; 0: no squeeze-and-excitation)",
        "a number from 0 to 1",
        lambda option: type(option) in (int, float) and 0 <= option <= 1,
        "0",
    ),
    Position(r"stage[1-4]\.cells", "stage1.cells to stage4.cells", "an integer from 0 to 8", is_integer(0, 8), "1"),
    Position(r"stage[2-4]\.width", "stage2.width to stage4.width", _WIDTH, is_integer(1, 1024), "twice the last one's"),
    _choice("norm", tuple(NORMS), "batch"),
    _choice("activation", tuple(ACTIVATIONS), "relu"),
    _choice("head.pool", HEAD_POOLS, "avg"),
    Position(r"head\.dropout", "head.dropout", "a number from 0 to below 1", is_number(0, 1), "0"),
    *cnn_recipe.POSITIONS,
)


def check_space(space: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a position or an option that no network can be built from.

    Raises:
        EvaluatorError: with the position and what is allowed there.
    """
    if "stage1.width" in space:
        raise EvaluatorError('[space] "stage1.width": the first stage has the width of the stem: stem.width')
    check_positions(space, POSITIONS, owner="a CNN")
    _check_kinds(space)


def _check_kinds(space: Mapping[str, Sequence[Any]]) -> None:
    """Refuse positions that mean nothing in the kind of stage that others make."""
    stages = range(1, _count_stages(space) + 1)
    for number in stages:
        if _is_bottleneck(space, number) and f"stage{number}.cells" in space:
            raise EvaluatorError(
                f'[space] "stage{number}.cells": the stage is one of bottlenecks, by the other positions that it has; '
                f"name either its cells or its {', '.join(_BOTTLENECK)}"
            )
    edge = next((name for name in space if name.startswith("cell.")), None)
    if edge and all(_is_bottleneck(space, number) for number in stages):
        raise EvaluatorError(f'[space] "{edge}": no stage has cells, all are of bottlenecks; leave the edges out')


@dataclass(frozen=True)
class Stage:
    """Cells of one width."""

    width: int
    cells: int


@dataclass(frozen=True)
class BottleneckStage:
    """Inverted bottlenecks of one width."""

    width: int
    depth: int
    """Number of blocks."""
    kernel: int
    expansion: int
    """Channels inside of a block, as a multiple of those at its input."""
    se: float
    """Channels that its squeeze-and-excitation squeezes them to, as a share of those at its input; 0: it has none."""


@dataclass(frozen=True)
class Architecture:
    """A configuration with its defaults filled in."""

    stages: tuple[Stage | BottleneckStage, ...]
    stem_kernel: int
    edges: Mapping[tuple[int, int], str]
    """Operation of each edge ``(from, to)`` of the cell."""
    style: Style
    head_pool: str
    head_dropout: float

    @property
    def nodes(self) -> int:
        """Number of nodes of the cell, its input included."""
        return 1 + max(end for _, end in self.edges)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """The architecture that `config` means; `check_space` has accepted its space."""
        return cls(
            stages=_stages(config),
            stem_kernel=config.get("stem.kernel", 3),
            edges=_edges(config),
            style=Style(config.get("norm", "batch"), config.get("activation", "relu")),
            head_pool=config.get("head.pool", "avg"),
            head_dropout=float(config.get("head.dropout", 0)),
        )


_BOTTLENECK = ("depth", "kernel", "expansion", "se")


def _count_stages(names: Iterable[str]) -> int:
    return max((int(name[5]) for name in names if re.match(r"stage\d\.", name)), default=1)


def _is_bottleneck(names: Container[str], number: int) -> bool:
    return any(f"stage{number}.{one}" in names for one in _BOTTLENECK)


def _stages(config: Mapping[str, Any]) -> tuple[Stage | BottleneckStage, ...]:
    width = config.get("stem.width", 16)
    stages = []
    for number in range(1, _count_stages(config) + 1):
        if number > 1:
            width = config.get(f"stage{number}.width", 2 * width)
        stages.append(_stage(config, number, width))
    return tuple(stages)


def _stage(config: Mapping[str, Any], number: int, width: int) -> Stage | BottleneckStage:
    def of(name: str, default: int) -> Any:
        return config.get(f"stage{number}.{name}", default)

    if _is_bottleneck(config, number):
        return BottleneckStage(width, of("depth", 1), of("kernel", 3), of("expansion", 4), of("se", 0))
    return Stage(width, of("cells", 1))


def _edges(config: Mapping[str, Any]) -> dict[tuple[int, int], str]:
    named = {name[len("cell.") :]: choice for name, choice in config.items() if name.startswith("cell.")}
    ends = {(int(edge[0]), int(edge[2])): choice for edge, choice in named.items()}
    return dict(sorted(ends.items())) or {(0, 1): "conv3x3"}

"""The network of an `Architecture`: stem, stages of cells or bottlenecks, head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ncode_search.evaluators.cnn_layers import OPERATIONS, Bottleneck, Style, conv
from ncode_search.evaluators.cnn_space import Architecture, BottleneckStage, Stage

MakeCell = Callable[[int], nn.Module]


class Cell(nn.Module):
    """A graph of operations. A cell without any path to its last node gives zeros: a valid network, and a bad one."""

    def __init__(self, width: int, architecture: Architecture) -> None:
        super().__init__()
        self.nodes = architecture.nodes
        chosen = {edge: name for edge, name in architecture.edges.items() if name != "none"}
        self.edges = list(chosen)
        self.operations = nn.ModuleList(OPERATIONS[name](width, architecture.style) for name in chosen.values())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape ``(batch, width, height, width in pixels)``, kept."""
        nodes = [x] + [torch.zeros_like(x)] * (self.nodes - 1)
        # Sorted by their start, the edges into a node all come before the edges out of it.
        for (start, end), operation in zip(self.edges, self.operations, strict=True):
            nodes[end] = nodes[end] + operation(nodes[start])
        return nodes[-1]


class Network(nn.Module):
    """Images, shape ``(batch, channels, height, width)``, to logits, shape ``(batch, classes)``.

    `make_cell` makes the cells of a width; by default those of the architecture.
    """

    def __init__(
        self, architecture: Architecture, channels: int, classes: int, make_cell: MakeCell | None = None
    ) -> None:
        super().__init__()
        make_cell = make_cell or (lambda width: Cell(width, architecture))
        style, stages = architecture.style, architecture.stages
        width = stages[0].width
        layers: list[nn.Module] = [conv(channels, width, architecture.stem_kernel, style)]
        for index, stage in enumerate(stages):
            layers += blocks_of(stage, width, style, make_cell, reduces=index > 0)
            width = stage.width
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1) if architecture.head_pool == "avg" else nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(architecture.head_dropout)
        self.head = nn.Linear(stages[-1].width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.body(images)).flatten(1)
        logits: torch.Tensor = self.head(self.dropout(features))
        return logits


def blocks_of(
    stage: Stage | BottleneckStage, width_in: int, style: Style, make_cell: MakeCell, *, reduces: bool
) -> list[nn.Module]:
    """The blocks of one stage; `reduces`: whether it begins by halving the image."""
    if isinstance(stage, Stage):
        before = [reduction(width_in, stage.width, style)] if reduces else []
        return [*before, *(make_cell(stage.width) for _ in range(stage.cells))]
    widths = [width_in] + [stage.width] * (stage.depth - 1)
    strides = [2 if reduces else 1] + [1] * (stage.depth - 1)
    return [
        Bottleneck(width, stage.width, stage.kernel, stride, stage.expansion, stage.se, style)
        for width, stride in zip(widths, strides, strict=True)
    ]


def reduction(width_in: int, width: int, style: Style) -> nn.Module:
    """Between two stages: half the image (an image of one pixel stays), another width."""
    return conv(width_in, width, 3, style, stride=2)


def count_parameters(network: nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())

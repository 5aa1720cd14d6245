"""The network of an `Architecture`: stem, stages of cells, head."""

from __future__ import annotations

import torch
from torch import nn

from ncode_search.evaluators.cnn_layers import OPERATIONS, Style, conv
from ncode_search.evaluators.cnn_space import Architecture


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
    """Images, shape ``(batch, channels, height, width)``, to logits, shape ``(batch, classes)``."""

    def __init__(self, architecture: Architecture, channels: int, classes: int) -> None:
        super().__init__()
        style, stages = architecture.style, architecture.stages
        layers: list[nn.Module] = [conv(channels, stages[0].width, architecture.stem_kernel, style)]
        for index, stage in enumerate(stages):
            if index:
                layers.append(reduction(stages[index - 1].width, stage.width, style))
            layers += [Cell(stage.width, architecture) for _ in range(stage.cells)]
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1) if architecture.head_pool == "avg" else nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(architecture.head_dropout)
        self.head = nn.Linear(stages[-1].width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.body(images)).flatten(1)
        logits: torch.Tensor = self.head(self.dropout(features))
        return logits


def reduction(width_in: int, width: int, style: Style) -> nn.Module:
    """Between two stages: half the image (an image of one pixel stays), another width."""
    return conv(width_in, width, 3, style, stride=2)


def count_parameters(network: nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())

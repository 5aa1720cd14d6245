"""A weight-sharing supernet of a space of cells: every option of every edge at once, trained on one path at a time.

Each forward pass draws one operation an edge, the same in all cells, and computes that network alone (single-path
one-shot, arXiv 1904.00420). The output of every operation goes through a normalisation of its own, whose weights say
how much of it the network wants: the L1 norm of these is comparable between operations (network slimming, arXiv
1708.06519), while that of all their weights is not, since a skip has none and a larger kernel has more.

``none`` has no weights at all: its saliency is zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.cnn_layers import OPERATIONS, Style, Zero
from ncode_search.evaluators.cnn_network import Network
from ncode_search.evaluators.cnn_space import Architecture, Stage

Names = Mapping[str, Sequence[Sequence[str]]]
"""Position to a list, for each of its options, of names of parameters."""


PENALTY = 1e-3
"""What a unit of the gates' L1 norm costs, in units of the loss. Without it, gates hardly differ; with four times as
much, the training suffers: docs/dead-ends.md.
"""


class Gated(nn.Module):
    """An operation, and how much of it is wanted."""

    def __init__(self, name: str, width: int, style: Style) -> None:
        super().__init__()
        self.operation = OPERATIONS[name](width, style)
        self.has_gate = not isinstance(self.operation, Zero)
        self.gate: nn.Module = nn.BatchNorm2d(width) if self.has_gate else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = self.gate(self.operation(x))
        return gated


class Path:
    """Which operation of each edge is computed now; shared by all cells."""

    def __init__(self, options: Sequence[Sequence[str]], seed: int) -> None:
        self._sizes = list(map(len, options))
        self._generator = torch.Generator().manual_seed(seed)
        self.digits = [0] * len(self._sizes)

    def draw(self) -> None:
        """One operation an edge, uniformly."""
        self.digits = [int(torch.randint(size, (), generator=self._generator)) for size in self._sizes]


class SuperCell(nn.Module):
    """A cell with all options of its edges."""

    def __init__(
        self, width: int, architecture: Architecture, edges: Mapping[tuple[int, int], Sequence[str]], path: Path
    ) -> None:
        super().__init__()
        self.nodes = architecture.nodes
        self.edges = list(edges)
        self.options = nn.ModuleList(
            nn.ModuleList(Gated(name, width, architecture.style) for name in options) for options in edges.values()
        )
        self._path = path

    def options_of(self, edge: int) -> list[Gated]:
        """All operations of an edge."""
        options = self.options[edge]
        assert isinstance(options, nn.ModuleList)
        return [one for one in options if isinstance(one, Gated)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape ``(batch, width, height, width in pixels)``, kept."""
        nodes = [x] + [torch.zeros_like(x)] * (self.nodes - 1)
        for (start, end), options, digit in zip(self.edges, self.options, self._path.digits, strict=True):
            nodes[end] = nodes[end] + options[digit](nodes[start])  # type: ignore[index]
        return nodes[-1]


class Supernet(nn.Module):
    """The network of `config`, but for the edges of its cells, which have all options of `space`.

    Raises `EvaluatorError` where the space has no edges, or the network no cells.
    """

    def __init__(
        self, space: Mapping[str, Sequence[Any]], config: Mapping[str, Any], channels: int, classes: int, seed: int
    ) -> None:
        super().__init__()
        architecture = Architecture.from_config(config)
        self.positions = sorted(name for name in space if name.startswith("cell."))
        cells = sum(stage.cells for stage in architecture.stages if isinstance(stage, Stage))
        if not self.positions or not cells:
            raise EvaluatorError("[space] has no cells with edges to choose; a supernet is of positions like cell.0-1")
        edges = {(int(name[5]), int(name[7])): space[name] for name in self.positions}
        self.path = Path(list(edges.values()), seed)
        self.network = Network(
            architecture, channels, classes, lambda width: SuperCell(width, architecture, edges, self.path)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, of another path each time."""
        self.path.draw()
        logits: torch.Tensor = self.network(images)
        return logits

    def penalty(self) -> torch.Tensor:
        """What is added to the loss, so that the weights of what is of little use become small."""
        gates = [one.gate for one in self.modules() if isinstance(one, Gated) and isinstance(one.gate, nn.BatchNorm2d)]
        return PENALTY * torch.stack([gate.weight.abs().sum() for gate in gates]).sum()

    def gates(self) -> Names:
        """The weights whose L1 norm is the saliency of each option."""
        return {position: self._gates(edge) for edge, position in enumerate(self.positions)}

    def _gates(self, edge: int) -> list[list[str]]:
        cells = {name: cell for name, cell in self.named_modules() if isinstance(cell, SuperCell)}
        options = next(iter(cells.values())).options_of(edge)
        return [
            [f"{cell}.options.{edge}.{digit}.gate.weight" for cell in cells if one.has_gate]
            for digit, one in enumerate(options)
        ]

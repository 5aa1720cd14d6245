"""What a position of a CNN's space can choose between: operations, normalisations and activations, by name.

Every operation keeps the shape ``(batch, width, height, width in pixels)``: kernels are padded, strides are one. So any
choice fits any image, however small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "batch": nn.BatchNorm2d,
    # Up to four groups, of two channels at least: groups of one would only erase small feature maps.
    "group": lambda width: nn.GroupNorm(max(1, math.gcd(width, 8) // 2), width),
    "layer": lambda width: nn.GroupNorm(1, width),
}


@dataclass(frozen=True)
class Style:
    """What all layers of a network share."""

    norm: str
    """A key of `NORMS`."""
    activation: str
    """A key of `ACTIVATIONS`."""


class Zero(nn.Module):
    """The operation ``none``: no connection."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def conv(width_in: int, width: int, kernel: int, style: Style, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, normalisation, activation; `kernel` is odd."""
    layer = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=style.norm == "none")
    return nn.Sequential(layer, NORMS[style.norm](width), ACTIVATIONS[style.activation]())


def separable(width: int, kernel: int, style: Style) -> nn.Sequential:
    """A convolution for each channel by itself, then one of 1x1 that mixes the channels."""
    depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    return nn.Sequential(depthwise, *conv(width, width, 1, style))


class SqueezeExcite(nn.Module):
    """Weighs the channels by what the whole image has of each (arXiv 1709.01507)."""

    def __init__(self, width: int, squeezed: int, activation: str) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1),
            ACTIVATIONS[activation](),
            nn.Conv2d(squeezed, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weighed: torch.Tensor = x * self.weigh(x)
        return weighed


class Bottleneck(nn.Module):
    """An inverted bottleneck: widen, convolve each channel by itself, squeeze and excite, narrow; and a skip around all
    of it where the shape stays the same.
    """

    def __init__(
        self, width_in: int, width: int, kernel: int, stride: int, expansion: int, se: float, style: Style
    ) -> None:
        super().__init__()
        inside = width_in * expansion
        layers = [conv(width_in, inside, 1, style)] if expansion > 1 else []
        layers.append(conv(inside, inside, kernel, style, stride, groups=inside))
        squeeze = [SqueezeExcite(inside, max(1, round(width_in * se)), style.activation)] if se else []
        # No activation at the narrow end: it would lose what little room there is.
        narrow = [nn.Conv2d(inside, width, 1, bias=style.norm == "none"), NORMS[style.norm](width)]
        self.layers = nn.Sequential(*layers, *squeeze, *narrow)
        self.has_skip = stride == 1 and width_in == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.has_skip else y


Operation = Callable[[int, Style], nn.Module]

OPERATIONS: dict[str, Operation] = {
    "none": lambda width, style: Zero(),
    "skip": lambda width, style: nn.Identity(),
    "pool": lambda width, style: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    "maxpool": lambda width, style: nn.MaxPool2d(3, stride=1, padding=1),
    "conv1x1": lambda width, style: conv(width, width, 1, style),
    "conv3x3": lambda width, style: conv(width, width, 3, style),
    "conv5x5": lambda width, style: conv(width, width, 5, style),
    "conv7x7": lambda width, style: conv(width, width, 7, style),
    "sepconv3x3": lambda width, style: separable(width, 3, style),
    "sepconv5x5": lambda width, style: separable(width, 5, style),
}

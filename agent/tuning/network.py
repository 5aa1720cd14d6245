"""The embedded ranker's language model in PyTorch: a Llama whose input is a vector a trial instead of a token.

Trials of the history see each other, a candidate sees the history and itself; there are no positions, so the order of
trials does not matter beyond what a trial's facts say of it. llama.cpp runs the same network as architecture ``llama``
with non-causal attention and all positions 0, where its rotary embedding is the identity.

What comes out, for each candidate, is the logarithm of a probability a bin: the surrogates' normal distributions, mixed
by weights that the model chooses, times a correction that the model makes. An untrained model is the plain mixture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.tokens import FACTS, MARKS, SURROGATES

BINS = 64
REACH = 4.0
"""Bins cover normal scores from -REACH to REACH."""
OUTPUTS = 96
"""Bins, mixture weights, and spare places that make rows a multiple of 32."""
_FLOOR = 1e-3
"""Share of an even distribution in the mixture, so that no score is impossible."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    width: int = 128
    layers: int = 6
    heads: int = 4
    hidden: int = 384

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise InputError(f"layers is {self.layers}; allowed: whole numbers from 1")
        if min(self.width, self.heads, self.hidden) < 1 or self.width % (32 * self.heads):
            raise InputError(f"width is {self.width}; allowed: multiples of 32 for each of {self.heads} heads")

    @classmethod
    def of(cls, width: int, layers: int) -> Shape:
        """Of so many layers; heads of 32 numbers, and a hidden layer of three times the width."""
        return cls(width, layers, max(width // 32, 1), 3 * width)

    def as_dict(self) -> dict[str, int]:
        """For checkpoints and metadata."""
        return asdict(self)


class Attention(nn.Module):
    """Multi-head attention without positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q, self.k, self.v, self.o = (nn.Linear(shape.width, shape.width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, trials: int, mask: Tensor) -> Tensor:
        """x: (B, n + m, width), the n trials first; mask: (B, n), True where there is a trial."""
        q, k, v = (self._split(one(x)) for one in (self.q, self.k, self.v))
        past = functional.scaled_dot_product_attention(
            q[:, :, :trials], k[:, :, :trials], v[:, :, :trials], attn_mask=mask[:, None, None, :]
        )
        asked = self._asked(q[:, :, trials:], k, v, trials, mask)
        joined: Tensor = self.o(torch.cat([past, asked], dim=2).transpose(1, 2).flatten(2))
        return joined

    def _asked(self, q: Tensor, k: Tensor, v: Tensor, trials: int, mask: Tensor) -> Tensor:
        """Attention of candidates to the trials and, each for itself, to themselves."""
        scale = q.shape[-1] ** -0.5
        past = (q @ k[:, :, :trials].transpose(2, 3)) * scale
        past = past.masked_fill(~mask[:, None, None, :], float("-inf"))
        own = (q * k[:, :, trials:]).sum(-1, keepdim=True) * scale
        weights = torch.softmax(torch.cat([past, own], dim=-1).float(), dim=-1).to(v.dtype)
        mixed: Tensor = weights[..., :trials] @ v[:, :, :trials] + weights[..., trials:] * v[:, :, trials:]
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """A layer of Llama."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = nn.RMSNorm(shape.width, eps=1e-5), nn.RMSNorm(shape.width, eps=1e-5)
        self.attention = Attention(shape)
        self.gate, self.up = (nn.Linear(shape.width, shape.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, trials: int, mask: Tensor) -> Tensor:
        """Same shape."""
        x = x + self.attention(self.attention_norm(x), trials, mask)
        y = self.feed_norm(x)
        fed: Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return fed


class RankerNetwork(nn.Module):
    """From marks and facts to log-probabilities a bin."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.enter = nn.Linear(MARKS + FACTS, shape.width)
        blocks = [Block(shape) for _ in range(shape.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(shape.width, eps=1e-5)
        self.head = nn.Linear(shape.width, OUTPUTS, bias=False)
        for block in blocks:
            nn.init.normal_(block.attention.o.weight, std=0.02 / (2 * shape.layers) ** 0.5)
            nn.init.normal_(block.down.weight, std=0.02 / (2 * shape.layers) ** 0.5)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs: Tensor, trials: int, mask: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
        """Log-probabilities (B, m, BINS) of the m candidates.

        inputs: (B, n + m, MARKS + FACTS), the n = `trials` trials first; mask: (B, n); mean, sd: (B, m, 3).
        """
        return log_bins(self.outputs(inputs, trials, mask), mean, sd)

    def outputs(self, inputs: Tensor, trials: int, mask: Tensor) -> Tensor:
        """What llama.cpp computes: (B, m, OUTPUTS)."""
        x = self.enter(inputs).float()  # in bfloat16 the sum over the layers would lose what they add
        for block in self.blocks:
            x = block(x, trials, mask)
        final: Tensor = self.head(self.norm(x[:, trials:])).float()
        return final


def centres(device: torch.device | None = None) -> Tensor:
    """The middle of each bin, shape (BINS,)."""
    width = 2 * REACH / BINS
    return torch.arange(BINS, device=device) * width - REACH + width / 2


def log_bins(outputs: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Log-probabilities a bin, from the network's outputs and the surrogates' predictions."""
    places = centres(outputs.device)
    density = -0.5 * ((places - mean[..., None]) / sd[..., None].clamp(min=0.1)) ** 2
    each = torch.softmax(density, dim=-1)
    weights = torch.softmax(outputs[..., BINS : BINS + len(SURROGATES)], dim=-1)
    mixture = (weights[..., None] * each).sum(-2) * (1 - _FLOOR) + _FLOOR / BINS
    return torch.log_softmax(outputs[..., :BINS] + mixture.log(), dim=-1)


def soft_targets(targets: Tensor) -> Tensor:
    """Scores as distributions over the two nearest bins, (..., BINS)."""
    place = ((targets.clamp(-REACH, REACH) + REACH) / (2 * REACH) * BINS - 0.5).clamp(0, BINS - 1)
    low = place.floor().clamp(max=BINS - 2)
    share = (place - low)[..., None]
    bins = low.long()[..., None]
    soft = torch.zeros(*targets.shape, BINS, device=targets.device)
    return soft.scatter_(-1, bins, 1 - share).scatter_(-1, bins + 1, share)

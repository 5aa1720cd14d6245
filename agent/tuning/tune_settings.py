"""How a language model is fine-tuned. Defaults are the published recipe: all weights, one epoch, rate 1e-5, cosine."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ncode_search.agent.errors import InputError

FULL_RATE, LORA_RATE = 1e-5, 2e-4


@dataclass(frozen=True)
class TuneSettings:
    """What decides the trained weights."""

    lora: int = 0
    """Rank of the low-rank adapters that are trained in place of all weights; 0 for all weights."""
    lora_alpha: int | None = None
    """What the adapters are multiplied by, times the rank; twice the rank by default."""
    epochs: int = 1
    batch: int = 16
    """Samples a step, over all processes and however they are packed."""
    rate: float | None = None
    """Highest learning rate; by default 1e-5 for all weights and 2e-4 for adapters."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises."""
    context: int = 20_480
    """Most tokens of a sample."""
    pack: int = 4096
    """Most tokens of a row of packed samples; 0 for a row a sample."""
    bf16: bool = True
    """Compute in bfloat16; what is trained is kept in 32 bits."""
    checkpointing: bool = False
    """Compute activations again for the gradient instead of keeping them: less memory, a third slower."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "context"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 1 or more")
        for name in ("lora", "pack", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name} {getattr(self, name)}: give 0 or more")
        if not 0 < self.highest_rate < 1:
            raise InputError(f"--rate {self.rate}: give a rate such as {FULL_RATE:g}")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"--warmup {self.warmup}: give a share between 0 and 1")

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up."""
        return (LORA_RATE if self.lora else FULL_RATE) if self.rate is None else self.rate

    @property
    def alpha(self) -> int:
        """What the adapters are multiplied by, times the rank."""
        return 2 * self.lora if self.lora_alpha is None else self.lora_alpha

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step number `step` of `steps`: up along a line, then down along a cosine."""
        warm = math.ceil(self.warmup * steps)
        if step < warm:
            return self.highest_rate * (step + 1) / warm
        return self.highest_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))

    def as_dict(self) -> dict[str, Any]:
        """For notes and comparisons."""
        return asdict(self)

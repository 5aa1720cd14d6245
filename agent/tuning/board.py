"""Figures of a training for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FOLDER = "logs"

Board = Callable[[int, Mapping[str, float]], None]
"""Called with the steps done and figures by name."""


@contextmanager
def board(folder: Path, done: int) -> Iterator[Board]:
    """Where figures go: to `folder` / `FOLDER`, or nowhere.

    `done`: steps of a run that goes on; what it wrote of later ones is hidden.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda step, figures: None
        return
    with SummaryWriter(str(folder / FOLDER), purge_step=done + 1) as writer:

        def write(step: int, figures: Mapping[str, float]) -> None:
            for name, figure in figures.items():
                writer.add_scalar(name, figure, step)

        yield write

"""The commands ``ncode ranker ...``: make a ranker and judge it.

Nothing heavier than click is imported before a command needs it.
"""

from __future__ import annotations

import click


@click.group()
def ranker() -> None:
    """Make rankers: training data, training, export; and judge them."""


@ranker.group()
def train() -> None:
    """Train a ranker: fine-tune a language model, or start from scratch."""

"""The mean of the best so far over the trials, a panel a task, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ncode_search.agent.bench.methods import require
from ncode_search.agent.bench.statistics import Comparison
from ncode_search.agent.errors import InputError


def check_plot(path: Path) -> None:
    """Raise `InputError` where matplotlib is not installed or cannot write such a file."""
    require(["matplotlib"], "--plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds:
        raise InputError(
            f"--plot {path}: the name must end in one of {', '.join(f'.{kind}' for kind in sorted(kinds))}"
        )


def draw(comparisons: Sequence[Comparison], kind: str) -> bytes:
    """The picture as a file of `kind`, such as ``png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(comparisons), 4.8), layout="constrained")
    panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
    for panel, comparison in zip(panels, comparisons, strict=True):
        _draw_task(panel, comparison)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def _draw_task(panel: object, comparison: Comparison) -> None:
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    for method, best in comparison.best.items():
        curves = comparison.task.sign * best
        trials, mean = np.arange(1, curves.shape[1] + 1), curves.mean(axis=0)
        error = curves.std(axis=0, ddof=min(len(curves) - 1, 1)) / np.sqrt(len(curves))
        panel.plot(trials, mean, label=method)
        panel.fill_between(trials, mean - error, mean + error, alpha=0.2)
    _scale(panel, comparison)
    panel.set(title=comparison.task.name, xlabel="trials", ylabel=f"best so far, {comparison.seeds} seeds, ± 1 s.e.")
    panel.legend()


def _scale(panel: object, comparison: Comparison) -> None:
    """Cut the first trials off, which would squash the rest: down to the worst method's mean after ten."""
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    means = np.stack([best.mean(axis=0) for best in comparison.best.values()])
    low, high = means[:, min(9, means.shape[1] - 1)].min(), comparison.task.optimum
    if low < high:
        margin = 0.05 * (high - low)
        limits = comparison.task.sign * (low - margin), comparison.task.sign * (high + margin)
        panel.set_ylim(min(limits), max(limits))

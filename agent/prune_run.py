"""``ncode prune``: a supernet of a file's cells, the saliency of every operation, and a new file without the least.

What the supernet does not choose, such as widths, stands at the middle option meanwhile, and is left whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncode_search.agent.devices import take_one
from ncode_search.agent.errors import InputError
from ncode_search.agent.pruned_file import pruned_text
from ncode_search.agent.pruned_space import PrunedSpace, Saliency, l1_saliency, prune
from ncode_search.agent.search_file import SearchFile
from ncode_search.agent.settings import check_keep
from ncode_search.agent.whole_files import write_atomically
from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError
from ncode_search.evaluators.registry import build


def prune_file(file: SearchFile, output: Path, epochs: int, keep: int | float) -> Iterator[str]:
    """Train, prune and write; yields what to tell. Raises `InputError`, before anything is written, for wrong input."""
    if epochs < 1:
        raise InputError(f"--supernet-epochs is {epochs}; allowed: whole numbers from 1")
    check_keep(keep)
    _check_output(file, output)
    config = standing(file.space.positions)
    with tempfile.TemporaryDirectory() as folder:
        supernet, accuracy = _train(file, config, epochs, Path(folder))
        weights = supernet.state_dict()
        saliency = l1_saliency(weights, supernet.gates())
        pruned = prune(file.space, saliency, keep)
        text = pruned_text(file.path, pruned, f"{output.stem}.db")
        saved = output.with_suffix(".safetensors")
        write_atomically(saved, _as_safetensors(weights))
        write_atomically(output, text.encode())
    others = ", ".join(f"{name} = {option}" for name, option in config.items() if name not in saliency)
    yield f"supernet of {', '.join(saliency)}: {epochs} epochs, random paths name {accuracy:.1%} of the images; {saved}"
    yield f"the rest stood at {others}" if others else "there is nothing else in the space"
    if not _has_learned(accuracy, supernet):
        yield "That is hardly better than chance, and so is what follows: train it for longer (--supernet-epochs)."
    yield ""
    yield from _table(pruned, saliency)
    yield ""
    yield f"{output}: {pruned.space.size:,} of {pruned.full.size:,} codes"


def _has_learned(accuracy: float, supernet: Any) -> bool:
    """Whether it has come a tenth of the way from chance to naming all images."""
    chance: float = 1 / supernet.network.head.out_features
    return accuracy >= chance + 0.1 * (1 - chance)


def standing(positions: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The middle option of every position, the later of two."""
    return {name: options[len(options) // 2] for name, options in positions.items()}


def _train(file: SearchFile, config: Mapping[str, Any], epochs: int, folder: Path) -> tuple[Any, float]:
    """The supernet, and how many of the validation images it named after the last epoch."""
    accuracies: list[float] = []
    options = dict(file.evaluator)
    kind = options.pop("kind")
    home = file.path.parent.absolute()
    try:
        device = take_one(file.settings)
        context = Context(
            trial=0, code="", seed=file.settings.seed, device=device.torch_name, threads=device.threads, folder=home,
            report=lambda step, **metrics: accuracies.append(metrics["val_accuracy"]), trial_folder=folder,
        )  # fmt: skip
        evaluator: Any = build(kind, options, home, file.space.positions, file.settings.goal, device.torch_name)
        if not hasattr(evaluator, "supernet"):
            raise EvaluatorError(f'[evaluator] kind = "{kind}" has no supernet; it takes kind = "cnn" with cells')
        return evaluator.supernet(file.space.positions, config, epochs, context).to("cpu"), accuracies[-1]
    except (InputError, EvaluatorError, DivergedError) as error:
        raise InputError(f"{file.path}: {error}") from None


def _check_output(file: SearchFile, output: Path) -> None:
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}; make it first")
    if output.suffix != ".toml":
        raise InputError(f"{output}: a search file is a .toml; name it so")
    for path in (output, output.with_suffix(".safetensors"), output.with_suffix(".db")):
        if path.exists():
            raise InputError(f"{path}: is there already; name another with -o, or remove it")


def _as_safetensors(weights: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in weights.items()})


def _table(pruned: PrunedSpace, saliency: Saliency) -> Iterator[str]:
    """A line an edge, with the options that were kept and those that were not; both by falling saliency."""
    width = max(map(len, saliency))
    for name, scores in saliency.items():
        options = pruned.full.positions[name]
        ranked = [(options[digit], scores[digit]) for digit in np.argsort(-np.asarray(scores), kind="stable")]
        kept = [one for one in ranked if one[0] in pruned.space.positions[name]]
        dropped = [one for one in ranked if one not in kept]
        yield f"{name:<{width}}  keeps {_scored(kept)}; drops {_scored(dropped) or 'nothing'}"
    if pruned.full.declared.get("equal", {}).get("cells"):
        yield "The edges of a cell keep the same options: those with the largest mean."


def _scored(options: Sequence[tuple[Any, float]]) -> str:
    return ", ".join(f"{option} {score:.2f}" if score else f"{option} 0 (no weights)" for option, score in options)

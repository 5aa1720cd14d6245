"""A fine-tuning as a command runs it: checkpoints, resuming, a log, and the folder that comes out.

The folder holds ``checkpoint.pt`` while the training runs, and at the end the adapters or the whole model, the
tokenizer, and ``ncode.json``: what it is, what it was made from, and how often it answers right. The same command
again goes on from the checkpoint; another one is refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncode_search import __version__
from ncode_search.agent.errors import InputError, SearchFailedError
from ncode_search.agent.tuning.answers import TorchAnswers, read_samples, share_right
from ncode_search.agent.tuning.board import board
from ncode_search.agent.tuning.finetune import Step, Trainer
from ncode_search.agent.tuning.hf_model import load_base
from ncode_search.agent.tuning.sample_file import digest_of, read_lines
from ncode_search.agent.tuning.stopping import asked_to_stop
from ncode_search.agent.tuning.tune_settings import TuneSettings
from ncode_search.agent.whole_files import replacing

NOTES = "ncode.json"
CHECKPOINT = "checkpoint.pt"

Say = Callable[[str], None]


@dataclass(frozen=True)
class TuneJob:
    """What to train on what, and where to."""

    base: str
    data: Path
    out: Path
    settings: TuneSettings
    minutes: float = 5.0
    """Between two checkpoints."""
    validate: Path | None = None
    """Samples to answer before and after the training."""
    validate_most: int = 200
    """Of these at most so many."""

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on from another's checkpoint."""
        return {"base": self.base, "data": digest_of(self.data), "settings": self.settings.as_dict()}


def tune(job: TuneJob, report: Callable[[Step], None], say: Say) -> None:
    """Train to the end, or until the process is asked to stop; then a `SearchFailedError` says how to go on.

    Raises `InputError` for a model, data or a folder that cannot be used.
    """
    identity = job.identity()
    if _finished(job.out, identity):
        say(f"{job.out} is trained already")
        return
    lines = read_lines(job.data)
    if not lines:
        raise InputError(f"{job.data} has no samples: write some with ncode ranker data")
    held_out = read_samples(job.validate, job.validate_most) if job.validate else []
    trainer = Trainer(load_base(job.base), lines, job.settings, str(job.data))
    _make_folder(job.out)
    answers: dict[str, float] = {}
    if not _resume(trainer, job.out, identity, answers) and held_out:
        answers["before"] = _answers(trainer, held_out, say, "before")
    # Other processes say nothing.
    with board(job.out, trainer.done) if trainer.is_main else nullcontext(lambda step, figures: None) as write:
        _train(trainer, job, identity, answers, (report, lambda step: write(step.number, _figures(step))))
    if held_out:
        answers["after"] = _answers(trainer, held_out, say, "after")
    if trainer.is_main:
        _finish(trainer, job, identity, answers)
        say(f"{job.out}: trained; next: ncode ranker export {job.out} {job.out.name}.gguf")


def _train(
    trainer: Trainer,
    job: TuneJob,
    identity: dict[str, Any],
    answers: dict[str, float],
    listeners: Sequence[Callable[[Step], None]],
) -> None:
    saved = time.monotonic()
    with asked_to_stop() as asked:
        for step in trainer.run():
            for told in listeners if trainer.is_main else ():
                told(step)
            stop = trainer.any_of_all(bool(asked)) and step.number < step.steps
            if stop or time.monotonic() - saved >= 60 * job.minutes:
                _save(trainer, job.out, identity, answers)
                saved = time.monotonic()
            if stop:
                trainer.accelerator.wait_for_everyone()  # the first to fail may take the others with it
                raise SearchFailedError(f"stopped after step {step.number} of {step.steps}; the same command goes on")


def _save(trainer: Trainer, out: Path, identity: dict[str, Any], answers: dict[str, float]) -> None:
    import torch

    if trainer.is_main:
        with replacing(out / CHECKPOINT) as new:
            torch.save({"identity": identity, "answers": answers, **trainer.state()}, new)


def _resume(trainer: Trainer, out: Path, identity: dict[str, Any], answers: dict[str, float]) -> bool:
    """Go on from the checkpoint in `out`, if there is one. Raises `InputError` if it is another training's."""
    import torch

    path = out / CHECKPOINT
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} is damaged ({error}): delete it to start anew") from error
    if not isinstance(state, dict) or state.get("identity") != identity:  # maybe one of an embedded ranker
        raise InputError(f"{out} holds another training's checkpoint: name another folder, or delete {path}")
    trainer.restore(state)
    answers.update(state["answers"])
    return True


def _finished(out: Path, identity: dict[str, Any]) -> bool:
    """Whether `out` has the model of this very training. Raises `InputError` if it has another one's."""
    try:
        notes = json.loads((out / NOTES).read_text())
    except FileNotFoundError:
        if (out / "config.json").exists() or (out / "adapter_config.json").exists():
            raise InputError(f"{out} holds a model already: name another folder") from None
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{out / NOTES} cannot be read ({error}): name another folder") from error
    if notes.get("identity") != identity:
        raise InputError(f"{out} holds a model of another training: name another folder")
    return True


def _finish(trainer: Trainer, job: TuneJob, identity: dict[str, Any], answers: dict[str, float]) -> None:
    """Write the model, then the notes that say it is whole, then drop the checkpoint."""
    trainer.plain_model.save_pretrained(job.out)
    trainer.tokenizer.save_pretrained(job.out)
    notes = {"protocol": "published", "program": __version__, "base": job.base, "identity": identity}
    if answers:
        notes["answers"] = answers
    with replacing(job.out / NOTES) as new:
        new.write_text(json.dumps(notes, indent=1) + "\n")
    (job.out / CHECKPOINT).unlink(missing_ok=True)


def _answers(trainer: Trainer, samples: list[Any], say: Say, when: str) -> float:
    trainer.plain_model.eval()
    try:
        share = share_right(TorchAnswers(trainer.plain_model, trainer.encoder), samples)
    finally:
        trainer.plain_model.train()
    if trainer.is_main:
        say(f"{when}: {share:.1%} of {len(samples)} pools answered right")
    return share


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made ({error.strerror}): name another folder") from error


def _figures(step: Step) -> dict[str, float]:
    return {"loss": step.loss, "rate": step.rate, "tokens/s": step.tokens / step.seconds}

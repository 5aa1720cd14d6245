"""Train the embedded ranker from nothing, on shards that `arrays` wrote.

Every batch is read with fresh random marks, so a shard can be read many times. The learning rate warms up, stays, and
falls in the last part; what step is made with which batch and marks is a function of the seed and the step's number, so
a run that was stopped goes on from its checkpoint as if it had not been; Ctrl-C writes one first.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncode_search.agent.errors import InputError, SearchFailedError
from ncode_search.agent.ranking.surrogates import Features
from ncode_search.agent.ranking.tokens import FACTS, MARKS, marks, option_signs
from ncode_search.agent.tuning.arrays import Batch, read_shard, shards_of
from ncode_search.agent.tuning.arrays import about as data_about
from ncode_search.agent.tuning.board import Board, board
from ncode_search.agent.tuning.network import RankerNetwork, Shape, log_bins, soft_targets
from ncode_search.agent.tuning.stopping import asked_to_stop
from ncode_search.agent.tuning.tasks import LENGTHS
from ncode_search.agent.whole_files import replacing

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
"""The checkpoint that searched best on the validation tables."""
LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Raises `InputError` for a value that cannot be."""

    steps: int = 24_000
    """Batches to learn from."""
    rate: float = 1.5e-3
    """Highest learning rate."""
    warmup: int = 300
    """Steps until it is reached."""
    decay: float = 0.3
    """Last share of the steps, in which it falls to a hundredth."""
    weight_decay: float = 0.05
    seed: int = 0
    threads: int | None = None
    """CPU threads; None: torch's choice."""
    bf16: bool = True
    """Multiply in bfloat16; weights stay in 32 bits."""
    save_every: float = 240.0
    """Seconds between checkpoints."""
    search_every: float = 600.0
    """Seconds between validations by searching; there is one at the end, too."""
    report_every: int = 200
    """Steps between two lines of the log."""
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup < 0 or not 0 < self.rate < math.inf or not 0 <= self.decay <= 1:
            raise InputError("steps must be 1 or more, rate above 0, warmup 0 or more, and decay from 0 to 1")
        if self.seed < 0 or (self.threads is not None and self.threads < 1):
            raise InputError(f"seed is {self.seed}, threads {self.threads}; allowed: a seed from 0, threads from 1")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        left = (self.steps - step) / max(self.steps * self.decay, 1)
        return self.rate * max(min(left, 1.0), 0.01)


Judge = Callable[[RankerNetwork], dict[str, float]]
"""Gives figures of a network in training."""


def train(
    data: Path, folder: Path, settings: TrainingSettings, judge: Judge | None = None, search: Judge | None = None
) -> RankerNetwork:
    """Train, or go on with a run that was stopped; returns the trained network.

    `data`: the shards; `folder`: checkpoints and log; `judge`: extra figures for the log, asked at every checkpoint;
    `search`: the same from whole searches, asked less often, with the figures of `searching.SearchJudge`. Raises
    `InputError` where there are no shards, and for a folder that cannot be used or holds another training;
    `SearchFailedError` when it was asked to stop.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    shards_of(data)  # before anything is written
    run = _Run(data, folder, settings)
    run.resume()
    _make(folder)
    with board(folder, run.step) as write:
        run.go(judge, search, write)
    return run.network


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint that `train` wrote. Raises `InputError` where it is none, or damaged."""
    try:
        state = torch.load(path, weights_only=True, map_location=device)
        if missing := {"network", "optimizer", "step", "shape", "about"} - state.keys():
            raise KeyError(min(missing))
    except Exception as error:  # a damaged file can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is no checkpoint of an embedded ranker, or a damaged one ({reason})") from error
    return dict(state)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): name another folder") from error


class _Every:
    """Calls what is due after so many seconds, which begin anew when it has ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, time.monotonic()

    def __call__(self, due: Callable[[], None]) -> None:
        if time.monotonic() - self._since > self._seconds:
            due()
            self._since = time.monotonic()


def _searched_better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    """Figures of other tables cannot be compared: the surrogates alone show which those are."""
    same = old.get("search_surrogates") == new["search_surrogates"]
    return not new["search_fallbacks"] and (not same or new["search"] <= old["search"])


class _Run:
    """A network in training."""

    def __init__(self, data: Path, folder: Path, settings: TrainingSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.folder, self.data = settings, folder, data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = RankerNetwork(settings.shape).to(self.device)
        groups = [
            {
                "params": [one for one in self.network.parameters() if one.ndim >= 2],
                "weight_decay": settings.weight_decay,
            },
            {"params": [one for one in self.network.parameters() if one.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
        self.step = 0
        self.judged: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self._write: Board = lambda step, figures: None

    def resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        state = read_checkpoint(path, self.device)
        self._require_same(state)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        if (path := self.folder / BEST).exists():
            self.best = read_checkpoint(path)["about"]["judged"]

    def _require_same(self, state: Mapping[str, Any]) -> None:
        """Refuse another training's checkpoint: steps, rate and what is judged may change, these things may not."""
        about = state["about"]
        found = {"shape": state["shape"], "seed": about["seed"], "data": about["data"]}
        wanted = {"shape": self.settings.shape.as_dict(), "seed": self.settings.seed, "data": data_about(self.data)}
        if other := [name for name, value in wanted.items() if found[name] != value]:
            name = other[0]
            raise InputError(
                f"{self.folder} holds a training of another {name} ({found[name]}, not {wanted[name]}): "
                "name another folder"
            )

    def save(self, name: str = CHECKPOINT) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "shape": self.settings.shape.as_dict(),
            "about": {
                **asdict(self.settings),
                "steps": self.step,
                "data": data_about(self.data),
                "judged": self.judged,
            },
        }
        with replacing(self.folder / name) as new:
            torch.save(state, new)

    def go(self, judge: Judge | None, search: Judge | None, write: Board) -> None:
        """Learn to the end, or until the process is asked to stop."""
        self._write = write
        checking, searching = _Every(self.settings.save_every), _Every(self.settings.search_every)
        with asked_to_stop() as asked:
            for _ in self._steps():
                if asked and self.step < self.settings.steps:
                    self.save()
                    raise SearchFailedError(
                        f"stopped after step {self.step} of {self.settings.steps}; the same command goes on"
                    )
                checking(lambda: self._check(judge))
                searching(lambda: self._search(search))
        self._check(judge)
        self._search(search)

    def _steps(self) -> Iterator[None]:
        """Make the steps that are left, and write down now and then how they go."""
        recent: list[tuple[float, float]] = []
        started, first = time.monotonic(), self.step
        batches = _batches(self.data, self.settings.seed, self.step)
        while self.step < self.settings.steps:
            recent.append(self._learn(next(batches)))
            self.step += 1
            if self.step % self.settings.report_every == 0:
                speed = (self.step - first) / (time.monotonic() - started)
                self._report(recent, {"steps_a_second": round(speed, 2)})
                recent = []
            yield

    def _check(self, judge: Judge | None) -> None:
        """Save; then judge, and save what the judge says."""
        self.save()
        if judge is not None:
            figures = judge(self.network)
            self.judged |= figures
            self._report([], figures)
            self.save()

    def _search(self, search: Judge | None) -> None:
        """Search, and keep the network beside the newest one if none searched better."""
        if search is None:
            return
        self.save()
        figures = search(self.network)
        self.judged |= figures
        self._report([], figures)
        if _searched_better(figures, self.best):
            self.best = figures
            self.save(BEST)
        self.save()

    def _learn(self, batch: Batch) -> tuple[float, float]:
        """One step; returns the loss and that of the surrogates' plain mixture."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.step)
        rng = np.random.default_rng([self.settings.seed, self.step])
        loss, plain = batch_loss(self.network, batch, rng, self.device, self.settings.bf16)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item(), plain.item()

    def _report(self, recent: Sequence[tuple[float, float]], figures: dict[str, float]) -> None:
        line: dict[str, float] = {"step": self.step}
        if recent:
            loss, plain = np.mean(recent, axis=0)
            line |= {
                "loss": round(float(loss), 4),
                "surrogates": round(float(plain), 4),
                "gain": round(float(plain - loss), 4),
            }
        line |= figures
        self._write(self.step, {name: figure for name, figure in line.items() if name != "step"})
        text = json.dumps(line)
        with (self.folder / LOG).open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)


def batch_loss(
    network: RankerNetwork, batch: Batch, rng: np.random.Generator, device: torch.device, bf16: bool
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the scores in nats, and the same of the surrogates' plain mixture."""
    inputs, mask = (torch.from_numpy(one).to(device) for one in model_inputs(batch, rng))
    mean, sd, targets = (torch.from_numpy(one).to(device) for one in (batch.mean, batch.sd, batch.targets))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        outputs = network.outputs(inputs, batch.trial_facts.shape[1], mask)
    soft = soft_targets(targets)
    loss = -(soft * log_bins(outputs, mean, sd)).sum(-1).mean()
    with torch.no_grad():
        plain = -(soft * log_bins(torch.zeros_like(outputs), mean, sd)).sum(-1).mean()
    return loss, plain


def model_inputs(batch: Batch, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The network's inputs, (B, n + m, MARKS + FACTS), with random marks, and the mask of trials, (B, n)."""
    count, tokens = batch.codes.shape[:2]
    most = batch.trial_facts.shape[1]
    inputs = np.zeros((count, tokens, MARKS + FACTS), dtype=np.float32)
    for at in range(count):
        inputs[at, :, :MARKS] = _task_marks(batch, at, int(rng.integers(1 << 40)))
    facts = inputs[:, :, MARKS:]
    facts[:, :most, :15] = batch.trial_facts
    facts[:, most:, 15:30] = batch.query_facts
    facts[:, :, 30:47] = batch.whole[:, np.newaxis]
    return inputs, np.arange(most) < batch.trials[:, np.newaxis]


def _task_marks(batch: Batch, at: int, salt: int) -> NDArray[np.float64]:
    positions = int(np.count_nonzero(batch.sizes[at]))
    sizes = batch.sizes[at, :positions].astype(int).tolist()
    features = Features(sizes, batch.ordered[at, :positions].tolist())
    codes = batch.codes[at, :, :positions]
    signs = option_signs(codes[: batch.trials[at]], sizes, salt)
    relevance = batch.relevance[at, : len(signs)].astype(np.float64)
    return marks(features(codes), relevance, signs, positions)


def _batches(data: Path, seed: int, start: int) -> Iterator[Batch]:
    """Batches without end, from the one of step `start`; each pass over the shards has an order of its own."""
    shards = shards_of(data)
    step, epoch = 0, 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(shards))
        for shard in order:
            size = len(LENGTHS)
            if step + size <= start:
                step += size
                continue
            batches = read_shard(shards[shard])
            for which in np.random.default_rng([seed, epoch, int(shard)]).permutation(size):
                if step >= start:
                    yield batches[which]
                step += 1
        epoch += 1

"""The settings of a search and of its ranker, with their defaults and their checks.

The fields are the keys of the tables ``[search]`` and ``[ranker]`` of a search file, and the keyword arguments of
`Search`.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from dataclasses import dataclass
from typing import Any

from ncode_search.agent.errors import InputError

GOALS = ("maximize", "minimize")
STOPS = ("median", "asha")
STARTUP = 10
"""Uniform trials before the ranker is asked, unless set otherwise."""

LONGEST = 3650 * 86400.0
"""Seconds; the system's timers end somewhere beyond."""

MOST_CANDIDATES = 1 << 16
"""Of a pool. More cost memory and time, and decide nothing."""
MOST_TRIALS = 1 << 20
"""That a ranker sees."""

_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZES |= {f"{unit}i": 2 ** (10 * power) for power, unit in enumerate("KMGT", start=1)}
_DEVICE = re.compile(r"auto|cpu|cuda:[\w-]+")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class SearchSettings:
    """How a search runs. Raises `InputError` for a value that cannot be."""

    trials: int = 100
    """Trials to complete."""
    workers: int | None = None
    """Evaluator processes; default: `workers_per_device` on each device."""
    devices: str | list[str] = "auto"
    """``auto``: every GPU, or the CPU where there is none; or one or more of ``cpu``, ``cuda:0``, ``cuda:1``, ..."""
    workers_per_device: int | None = None
    """Evaluator processes on each device; default: one, or as many as `memory` lets be there."""
    memory: str | int | None = None
    """What a trial needs of its device's memory: text such as ``"4 GiB"``, ``"500 MB"``. A number has no unit and is
    refused."""
    seed: int = 0
    """Every random draw comes from it and the trial's number."""
    goal: str = "maximize"
    """``maximize`` or ``minimize``."""
    timeout: str | float | None = None
    """Time limit of one attempt at a trial: seconds, or text such as ``"90s"``, ``"10m"``, ``"2h"``, ``"1d"``."""
    retries: int = 1
    """Further attempts at a trial after its first one failed."""
    prune_after: int | None = None
    """Completed trials after which only the options that did best in them are proposed; default: never."""
    keep: int | float = 0.5
    """With `prune_after`: how many options of every position are kept, or what share of them (a float up to 1.0)."""
    patience: int | None = None
    """Completed trials without a new best after which the search is done; default: never."""
    first_failures: int = 10
    """The search pauses where so many trials, the first of a run, all failed."""
    failure_limit: float = 0.9
    """The search pauses where more than this share of the last `failure_window` trials failed; 1.0: never."""
    failure_window: int = 30
    """See `failure_limit`."""
    backup_every: int = 20
    """Completed trials between two backups beside the history, at least a minute apart; one more at a run's end; 0:
    none.
    """

    stop: str | None = None
    """How trials are stopped early: ``median``, ``asha``; default: they are not. See docs/fidelity.md."""
    metric: str | None = None
    """With `stop`: the reported metric that is compared, better where the goal's values are; default: the evaluator's
    score."""
    least_epochs: int = 1
    """With `stop`: epochs that every trial gets."""
    most_epochs: int | None = None
    """With `stop`: epochs of a whole trial; default: the evaluator's `epochs`."""
    reduction: int = 3
    """With ``asha``: one of so many trials goes on, to so many times its epochs."""

    def __post_init__(self) -> None:
        _at_least("trials", self.trials, 1)
        self._check_devices()
        _at_least("seed", self.seed, 0)
        _at_least("retries", self.retries, 0)
        if self.prune_after is not None:
            _at_least("prune_after", self.prune_after, 1)
        check_keep(self.keep)
        self._check_stopping()
        if self.patience is not None:
            _at_least("patience", self.patience, 1)
        _at_least("first_failures", self.first_failures, 1)
        _at_least("failure_window", self.failure_window, 1)
        _at_least("backup_every", self.backup_every, 0)
        check_share("failure_limit", self.failure_limit)
        if self.goal not in GOALS:
            raise InputError(f"goal is {self.goal!r}; allowed: {', '.join(map(repr, GOALS))}")
        object.__setattr__(self, "timeout", None if self.timeout is None else parse_duration("timeout", self.timeout))

    def _check_devices(self) -> None:
        for name in ("workers", "workers_per_device"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        if self.workers is not None and self.workers_per_device is not None:
            raise InputError("workers and workers_per_device say the same in two ways; leave one of them out")
        names = [self.devices] if isinstance(self.devices, str) else self.devices
        if not names or not all(isinstance(name, str) and _DEVICE.fullmatch(name) for name in names):
            raise InputError(f'devices is {self.devices!r}; allowed: "auto", "cpu", "cuda:0", or a list of such names')
        if self.memory is not None:
            parse_size("memory", self.memory)

    def _check_stopping(self) -> None:
        if self.stop not in (None, *STOPS):
            raise InputError(f"stop is {self.stop!r}; allowed: {', '.join(map(repr, STOPS))}")
        _at_least("least_epochs", self.least_epochs, 1)
        _at_least("reduction", self.reduction, 2)
        if self.most_epochs is not None:
            _at_least("most_epochs", self.most_epochs, self.least_epochs + 1)
        for name, default in _STOP_DEFAULTS.items():
            if self.stop is None and getattr(self, name) != default:
                raise InputError(f"{name} is of no use without stop; say stop = 'asha' or 'median', or leave it out")

    def without_stop(self) -> SearchSettings:
        """The same, but that no trial is stopped early."""
        return dataclasses.replace(self, stop=None, **_STOP_DEFAULTS)

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else parse_size("memory", self.memory)

    @property
    def timeout_seconds(self) -> float | None:
        """`timeout` in seconds."""
        return None if self.timeout is None else float(self.timeout)


_STOP_DEFAULTS: dict[str, Any] = {
    name: getattr(SearchSettings, name) for name in ("metric", "least_epochs", "most_epochs", "reduction")
}
"""What belongs to `SearchSettings.stop` alone."""


@dataclass(frozen=True)
class RankerSettings:
    """Who chooses among the candidates, and how many there are. Raises `InputError` for a value that cannot be."""

    kind: str = "embedded"
    """``embedded``: the model that comes with the package; ``llama``: a language model; ``evolution``; ``random``."""
    model: str | None = None
    """A model in place of the packaged one: a path to a ``.gguf`` file, relative to the search file, a server's
    address, like ``http://127.0.0.1:8080``, or ``smollm2``, which is also the default of ``llama``."""
    pool: int = 128
    """Candidates a decision."""
    history: int = 200
    """The most trials that are shown to the model."""
    shuffles: int = 4
    """For ``llama``: orders of the pool's list whose scores are averaged, since models favour places in a list."""
    startup: int | None = None
    """Uniform trials before the ranker is asked; default: a quarter of `trials`, at most 10."""
    deadline: str | float = 60.0
    """Time limit of one decision; past it the evolution ranker decides. Written like `timeout`."""
    threads: int | None = None
    """CPU threads of the model; default: one for an embedded model, all cores for a language model."""
    gpu_layers: int = 0
    """Layers of the model to keep on a GPU, -1 for all of them."""
    server_model: str | None = None
    """For a server: the model's name there; default: the first that it lists."""
    api_key_env: str = "NCODE_API_KEY"
    """For a server: the environment variable that holds its API key, where it wants one."""

    def __post_init__(self) -> None:
        _at_least("pool", self.pool, 1, MOST_CANDIDATES)
        _at_least("history", self.history, 1, MOST_TRIALS)
        _at_least("shuffles", self.shuffles, 1)
        _at_least("gpu_layers", self.gpu_layers, -1)
        if self.startup is not None:
            _at_least("startup", self.startup, 0)
        if self.threads is not None:
            _at_least("threads", self.threads, 1)
        object.__setattr__(self, "deadline", parse_duration("deadline", self.deadline))

    @property
    def deadline_seconds(self) -> float:
        """`deadline` in seconds."""
        return float(self.deadline)

    def startup_trials(self, trials: int | None) -> int:
        """How many trials of a search for `trials` are uniform; None: a search without an end of its own."""
        if self.startup is not None:
            return self.startup
        return STARTUP if trials is None else min(STARTUP, trials // 4)


@dataclass(frozen=True)
class NotifySettings:
    """Whom to tell what happens. Raises `InputError` for a value that cannot be."""

    command: str | None = None
    """What to run at an event, in the search file's folder and without a shell; None: nothing."""
    no_progress: str | float = "6h"
    """Time without a completed trial that is an event. Written like `timeout`."""
    failure_rate: float = 0.5
    """Share of failed ones among the last 20 trials that is an event."""
    timeout: str | float = "30s"
    """Time limit of the command."""
    every: str | float = "5m"
    """The least time between two events of one kind; the newest is sent."""

    def __post_init__(self) -> None:
        for name in ("no_progress", "timeout", "every"):
            object.__setattr__(self, name, parse_duration(name, getattr(self, name)))
        check_share("failure_rate", self.failure_rate)
        if self.command is not None:
            _check_command(self.command)


def _check_command(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"command is {command!r}: {error}; close the quotation") from None
    if not words:
        raise InputError("command is empty; name a program and its arguments, or leave the key out")


def check_share(name: str, value: float) -> None:
    """Raises `InputError` unless it is a share above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise InputError(f"{name} is {value!r}; allowed: a share above 0.0 and up to 1.0")


def parse_duration(name: str, value: str | float) -> float:
    """Seconds from a number of them or from text such as ``"10m"``. Raises `InputError` for anything else."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)):
        value = float(match[1]) * _UNITS[match[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LONGEST:
        allowed = 'seconds above 0, or text such as "90s", "10m", "2h", "1d"; at most 3650 days'
        raise InputError(f"{name} is {value!r}; allowed: {allowed}")
    return float(value)


def parse_size(name: str, value: str | int) -> int:
    """Bytes from text such as ``"4 GiB"``. Raises `InputError` for anything else, a number without a unit as well."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B\s*", value) if isinstance(value, str) else None
    size = round(float(match[1]) * _SIZES[match[2] or ""]) if match else 0
    if not 0 < size < 2**60:
        raise InputError(f'{name} is {value!r}; allowed: a size above 0 with its unit, such as "4 GiB", "500 MB"')
    return size


def check_keep(keep: int | float) -> None:
    """Raises `InputError` unless it is a number of options, or a share of them."""
    is_count = isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1
    if not is_count and not (isinstance(keep, float) and 0 < keep <= 1):
        raise InputError(f"keep is {keep!r}; allowed: a number of options from 1, or a share above 0.0 and up to 1.0")


def _at_least(name: str, value: int, least: int, most: int = 2**63 - 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        to = f" to {most:,}" if isinstance(value, int) and value > most else ""
        raise InputError(f"{name} is {value!r}; allowed: whole numbers from {least}{to}")

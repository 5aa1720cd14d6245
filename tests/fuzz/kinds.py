"""The kinds of files that a user may bring, and everything that the command line does with each."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

from ncode_search import Search, SearchSpace
from ncode_search.agent.bench.tasks import read_tasks
from ncode_search.agent.errors import InputError, SearchFailedError
from ncode_search.agent.ranking.embedded_file import is_embedded, read_embedded
from ncode_search.agent.ranking.gguf_file import check_model, read_header
from ncode_search.agent.search_file import Overrides, SearchFile
from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.registry import build

from . import histories, models, mutation
from .command_line import Answer, call, judge, ncode

ROOT = Path(__file__).parents[2]
SPACE = {"op": ["none", "skip", "conv"], "width": [8, 16, 32], "act": ["relu", True, 0.5, None]}
TOML = """\
[search]
history = "results.db"
trials = 12
workers = 2
seed = 3
goal = "minimize"
timeout = 60.5
[space]
op = ["none", "skip", "conv"]
width = [8, 16, 32]
act.kind = ["relu", true, 0.5]
kernel = { options = [3, 5], when = { op = ["conv"] } }
e01 = ["none", "skip", "conv"]
e02 = ["none", "skip", "conv"]
e12 = ["none", "skip", "conv"]
[equal]
cells = [{ edges = { e01 = [0, 1], e02 = [0, 2], e12 = [1, 2] }, none = "none", skip = "skip" }]
interchangeable = [[["a"], ["b"]]]
[costs.params]
options.width = [8, 16, 32]
pairs = [{ positions = ["op", "width"], costs = [[0, 0, 0], [1, 2, 3], [4, 5, 6]] }]
most = 40
least = -3
unit = 0.5
[[forbidden]]
op = "none"
width = [8, 16]
[evaluator]
kind = "table"
path = "scores.csv"
metric = "accuracy"
[ranker]
kind = "evolution"
pool = 16
"""
CSV = "code,accuracy,cost\n" + "".join(f"{a}{b},{a + b / 10},{a}\n" for a in range(4) for b in range(3))
CANON = "code,canon\n" + "".join(f"{a}{b},{min(a, b)}{b}\n" for a in range(4) for b in range(3))
BENCH = "--rankers pick --trials 3 --startup 1 --pool 4 --seeds 1 --jobs 1 --metric accuracy"
BENCH_EVERY = 40
"""A whole bench takes a second, reading its table a millisecond."""
LOAD = """
import sys
from ncode_search import SearchSpace
from ncode_search.agent import cli
from ncode_search.agent.ranking import make_ranker
space = SearchSpace({"a": [1, 2], "b": [1, 2]})
cli.cli.main = lambda **_: make_ranker("llama", space, model=sys.argv[1]).load()
cli.main()
"""
"""Loads a model as ``ncode run`` does, in a process that llama.cpp may crash."""
LOAD_LIMIT = 100.0
"""Seconds; a whole model of this size takes three."""


class Kind(ABC):
    """A kind of files."""

    suffix: str
    may_leave: tuple[str, ...] = ()
    """Names of files that even those who only look leave behind; they may touch the file itself."""
    limit = 120.0
    """Seconds after which a check of one file hangs: a busy machine starts processes slowly."""

    @cached_property
    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Good files."""

    @abstractmethod
    def damaged(self, rng: random.Random, data: bytes) -> bytes:
        """A file made worse."""

    @abstractmethod
    def answers(self, path: Path) -> list[Answer]:
        """What all commands say of the file, which is alone in its folder; the main one first."""

    def check(self, path: Path) -> bool:
        """Judge all answers; returns whether the first refused the file. Raises what is wrong with them."""
        before = path.read_bytes()
        answers = self.answers(path)
        for answer in answers:
            judge(answer)
        if all(answer.refused for answer in answers):
            left = [other.name for other in path.parent.iterdir() if other.name not in self.may_leave and other != path]
            assert not left, f"refused, but it wrote {left}"
            assert self.may_leave or path.read_bytes() == before, "refused, but the file was changed"
        return answers[0].refused


class SearchFiles(Kind):
    """TOML, for ``ncode space`` and what ``ncode run`` does before it starts processes, and its first decision."""

    suffix = ".toml"

    @cached_property
    def seeds(self) -> list[bytes]:
        """One file with everything in it, and the examples."""
        whole = TOML.replace('interchangeable = [[["a"], ["b"]]]\n', "")
        pair = whole.replace("[equal]\n", 'a = [1, 2]\nb = [1, 2]\n[equal]\ninterchangeable = [[["a"], ["b"]]]\n')
        return [text.encode() for text in (whole, pair)] + [
            path.read_bytes() for path in sorted((ROOT / "examples").glob("*.toml"))
        ]

    def damaged(self, rng: random.Random, data: bytes) -> bytes:
        """Another text."""
        return mutation.mutated(rng, data, mutation.TEXT)

    def answers(self, path: Path) -> list[Answer]:
        """See `Kind`."""
        return [ncode("space", path), call(lambda: self.decide(path))]

    @staticmethod
    def decide(path: Path) -> None:
        """The first decision of a search."""
        overrides = Overrides(trials=3, workers=1, ranker="random", history=path.with_name("results.db"))
        with SearchFile.load(path, overrides).to_search() as search:
            search.ask()


class ScoreTables(Kind):
    """CSV, as the table and as the canonical codes of ``ncode bench``, and as an evaluator's table."""

    suffix = ".csv"

    @cached_property
    def seeds(self) -> list[bytes]:
        """Both kinds of tables, and one with what CSV allows."""
        quoted = '\ufeff"code","accuracy","no\r\ntes"\r\n"00",.5,"a ""b"", c"\r\n"01",1e3,\r\n\r\n'
        return [CSV.encode(), CANON.encode(), quoted.encode()]

    def damaged(self, rng: random.Random, data: bytes) -> bytes:
        """Another text, or a damaged archive."""
        import gzip

        if rng.random() < 0.2:
            return mutation.mutated(rng, gzip.compress(data, mtime=0), mutation.BYTES)
        return mutation.mutated(rng, data, mutation.TEXT)

    def answers(self, path: Path) -> list[Answer]:
        """See `Kind`."""
        answers = [call(lambda: self._build(path)), call(lambda: read_tasks(path, ["accuracy"], minimize=False))]
        with tempfile.NamedTemporaryFile(suffix=".csv") as good:
            Path(good.name).write_text(CSV)
            answers.append(call(lambda: read_tasks(Path(good.name), ["accuracy"], minimize=False, canon=path)))
        whole = not answers[1].code and zlib.crc32(path.read_bytes()) % BENCH_EVERY == 0
        return [*answers, ncode("bench", "--table", path, *BENCH.split())] if whole else answers

    @staticmethod
    def _build(path: Path) -> None:
        try:
            build("table", {"path": path.name, "metric": "accuracy"}, path.parent, {"a": [1, 2, 3, 4], "b": [1, 2, 3]})
        except EvaluatorError as error:
            raise InputError(str(error)) from error  # as a search does with what its workers say


class Histories(Kind):
    """SQLite, for all commands that read a history, and for a search that goes on with it."""

    suffix = ".db"
    may_leave = ("damaged.db-wal", "damaged.db-shm")

    @cached_property
    def seeds(self) -> list[bytes]:
        """A history with trials in every state, and one that has just begun."""
        return [self._made(trials) for trials in (9, 1)]

    def damaged(self, rng: random.Random, data: bytes) -> bytes:
        """Other pages, or other things in them."""
        return mutation.mutated(rng, data, histories.WAYS, 3)

    def answers(self, path: Path) -> list[Answer]:
        """See `Kind`."""
        reads = (["status"], ["best"], ["best", "--json"], ["trials"], ["trials", "--json"], ["trials", "--csv"])
        return [*(ncode(name, path, *options) for name, *options in reads), call(lambda: self.go_on(path))]

    @staticmethod
    def _search(path: Path) -> Search:
        return Search(SearchSpace(SPACE, when={"width": {"op": ["conv"]}}), history=path, ranker="evolution", trials=20)

    @classmethod
    def go_on(cls, path: Path) -> None:
        """The next trial of a search."""
        try:
            with cls._search(path) as search:
                search.tell(search.ask(), 0.5)
        except sqlite3.Error as error:
            raise SearchFailedError(str(error)) from error  # as ``ncode run`` does

    @classmethod
    def _made(cls, trials: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "history.db")
            with cls._search(path) as search:
                for number in range(trials):
                    trial = search.ask()
                    if number % 4 == 2:
                        search.tell(trial, error="Traceback:\n  no\nValueError: no")
                    elif number % 4 < 2:
                        search.tell(trial, number / 8, metrics={"loss": 1 / (number + 1)})
            return path.read_bytes()


class Models(Kind):
    """GGUF, as its header is checked here and, where nothing is found, as llama.cpp loads it in another process."""

    suffix = ".gguf"
    limit = 2 * LOAD_LIMIT
    loads = True
    """Whether llama.cpp is asked too."""

    @cached_property
    def seeds(self) -> list[bytes]:
        """A tiny language model and the packaged ranker."""
        from tests.ranking.tiny_gguf import write_tiny_gguf

        packaged = ROOT / "agent" / "ranking" / "embedded.gguf"
        with tempfile.TemporaryDirectory() as folder:
            return [write_tiny_gguf(Path(folder, "tiny.gguf")).read_bytes(), packaged.read_bytes()]

    def damaged(self, rng: random.Random, data: bytes) -> bytes:
        """Another header."""
        return models.damaged(rng, data)

    def answers(self, path: Path) -> list[Answer]:
        """See `Kind`."""
        checked = call(lambda: self._look_at(path))
        return [checked, self._load(path)] if self.loads and not checked.code else [checked]

    @staticmethod
    def _look_at(path: Path) -> None:
        if is_embedded(read_header(path)):
            read_embedded(path)
        else:
            check_model(path)

    @staticmethod
    def _load(path: Path) -> Answer:
        command = [sys.executable, "-c", LOAD, str(path)]
        with tempfile.TemporaryDirectory() as cache:
            environment = {"XDG_CACHE_HOME": cache, "PATH": "/usr/bin:/bin"}
            done = subprocess.run(
                command, capture_output=True, timeout=LOAD_LIMIT, env=environment, text=True, errors="replace"
            )
        return Answer(done.returncode, done.stderr)


KINDS: dict[str, Kind] = {"toml": SearchFiles(), "csv": ScoreTables(), "sqlite": Histories(), "gguf": Models()}


def check_bytes(kind: Kind, data: bytes, folder: Path) -> bool:
    """`Kind.check` for a file of these bytes, in an empty folder that is left empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / f"damaged{kind.suffix}"
    path.write_bytes(data)
    try:
        return kind.check(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""Runs true searches in child processes, hurts them, and has `invariants` judge what is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ncode_search.agent.search_file import SearchFile
from tests.faults.invariants import TRIGGERS

HERE = Path(__file__).parent
LONG = "NCODE_FAULTS_LONG" in os.environ
"""Whether this is the long form, `make faults`."""

TOML = """
[search]
history = "{history}"
trials = {trials}
workers = {workers}
timeout = {timeout}
retries = {retries}
seed = {seed}
{more}
[space]
{space}
[evaluator]
kind = "python"
function = "fault_functions:{function}"
[ranker]
{ranker}
"""
SPACE = "\n".join(f"{name} = [0, 1, 2, 3, 4]" for name in "abcde")


class FaultySearch:
    """One search in a folder; `close` it, or use it in a ``with``."""

    def __init__(
        self,
        folder: Path,
        function: str = "quick",
        *,
        trials: int = 20,
        workers: int = 2,
        timeout: float = 60.0,
        retries: int = 1000,
        seed: int = 1,
        more: str = "",
        space: str = SPACE,
        ranker: str = 'kind = "evolution"',
        environment: dict[str, str] | None = None,
        history: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.trials = folder, trials
        self.file, self.history, self.witness = (folder / name for name in ("search.toml", "search.db", "witness.log"))
        self.history = history or self.history
        self.witness.touch()
        self.output = folder / "output.log"
        if not (functions := folder / "fault_functions.py").exists():
            shutil.copy(HERE / "fault_functions.py", functions)
        self.file.write_text(TOML.format(
            trials=trials, workers=workers, timeout=timeout, retries=retries, seed=seed, more=more, space=space,
            function=function, ranker=ranker, history=history or "search.db",
        ))  # fmt: skip
        self._environment = {**os.environ, "NCODE_TEST_LOG": str(self.witness), **(environment or {})}
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> FaultySearch:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self._started:
            kill_tree(process)

    def watch_moves(self) -> None:
        """Make the history before the search does, with triggers that log every move."""
        search = SearchFile.load(self.file).to_search()
        search._open()
        search.close()
        with contextlib.closing(sqlite3.connect(self.history)) as db:
            db.executescript(TRIGGERS)

    def start(
        self,
        program: Path | None = None,
        *arguments: object,
        environment: dict[str, str] | None = None,
        terminal: int | None = None,
        under: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """``ncode run``, or another program that runs the file, in a session of its own; on a `terminal`, if one is
        given, and `under` another program, such as ``nohup``.
        """
        command = ["-m", "ncode_search.agent", "run"] if program is None else [str(program)]
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [*under, sys.executable, *command, str(self.file), *map(str, arguments)],
                stdin=subprocess.DEVNULL if terminal is None else terminal, stdout=terminal or output,
                stderr=terminal or output, cwd=self.folder, env=self._environment | (environment or {}),
                start_new_session=True, preexec_fn=None if terminal is None else take_terminal,
            )  # fmt: skip
        self._started.append(process)
        return process

    def kill(self, *pids: int) -> None:
        """Kill -9, witnessed; by then they stand still, so that nothing is done between the witness's line and that."""
        send(signal.SIGSTOP, *pids)
        wait_for(lambda: all(map(stands_still, pids)), 300)
        self.note_kill(*pids)
        send(signal.SIGKILL, *pids)

    def note_kill(self, *pids: int) -> None:
        """Witness that processes were killed."""
        with self.witness.open("a") as witness:
            witness.writelines(f"kill {pid}\n" for pid in pids)

    def finish(self, seconds: float = 60.0) -> str:
        """Run, or go on, to the end; what was printed all along."""
        return self.wait(self.start(), seconds)

    def wait(self, process: subprocess.Popen[bytes], seconds: float = 60.0) -> str:
        """Until a run is over, and well."""
        code = process.wait(seconds)
        said = self.output.read_text(errors="replace")
        assert code == 0, said[-3000:]
        assert "Traceback" not in said, said[-3000:]
        return said

    def lines(self, word: str) -> list[list[str]]:
        """What follows `word` in the witness, a list a line."""
        found = (line.split() for line in self.witness.read_text().splitlines())
        return [rest for first, *rest in found if first == word]

    def count(self, word: str) -> int:
        return len(self.lines(word))

    def rows(self, query: str) -> list[tuple]:
        """What the history answers."""
        with contextlib.closing(sqlite3.connect(f"file:{self.history}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()

    def codes(self) -> set[tuple[int, str]]:
        """Number and code of all trials."""
        return set(self.rows("SELECT id, code FROM trials"))

    def check(self) -> None:
        """Have the invariants judged by their program, in a process of its own."""
        judged = self.judge()
        assert judged.returncode == 0, judged.stdout + judged.stderr + self.output.read_text()[-2000:]

    def judge(self) -> subprocess.CompletedProcess[str]:
        """What that program says."""
        command = [sys.executable, str(HERE / "invariants.py"), str(self.history), str(self.witness)]
        return subprocess.run(
            [*command, "--target", str(self.trials)], capture_output=True, text=True, check=False, cwd="/"
        )


def take_terminal() -> None:
    """Standard input becomes the terminal whose end sends SIGHUP to this process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def workers_of(agent: int) -> list[int]:
    """The workers that an agent has started; it has other children, too, such as the one that tries a model."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        return [int(pid) for pid in children if b"ncode_search.agent.worker" in command_line(int(pid))]
    return []


def command_line(pid: int) -> bytes:
    """Empty for a process that is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def victims_of(agent: int, victim: str) -> list[int]:
    """The ``agent``, a ``worker`` of its, or ``both``."""
    workers = workers_of(agent)
    return {"agent": [agent], "worker": workers[:1], "both": [agent, *workers[:1]]}[victim]


def send(number: int, *pids: int) -> None:
    """To those of the processes that are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped, or gone."""
    try:
        threads = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # one of them has gone meanwhile
        return False
    return {thread.rpartition(")")[2].split()[0] for thread in threads} <= set("TtZX")


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Nothing of a search outlives its test."""
    pids = [*workers_of(process.pid), process.pid]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    process.wait()


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def kill_at_random(search: FaultySearch, kills: int, moment: random.Random) -> int:
    """Kill the agent, a worker or both at random moments, start again what needs it, and finish; returns how often."""
    process = search.start()
    for done in range(kills):
        seen = search.count("begin")
        victim = moment.choice(("agent", "worker", "both"))
        if victim != "agent" or moment.random() < 0.5:  # the others: while it starts
            wait_for(lambda seen=seen, it=process: search.count("begin") > seen or it.poll() is not None)
        time.sleep(moment.uniform(0, 0.3))
        if process.poll() is not None:
            search.wait(process)
            return done
        victims = victims_of(process.pid, victim)
        search.kill(*moment.sample(victims, len(victims)))
        if process.pid in victims:
            process.wait()
            process = search.start()
    search.wait(process, 120)
    return kills


JUMPING_CLOCK = """
import random, time
real, jump = time.time, random.Random(0)
time.time = lambda: real() + jump.choice((-86400, -3600, 0, 3600, 86400))
"""


def jumping_clock(folder: Path) -> dict[str, str]:
    """An environment in which the wall clock of Python's processes is another one at every look."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING_CLOCK)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@contextlib.contextmanager
def locked(history: Path) -> Iterator[None]:
    """Nobody else can write in the block."""
    with contextlib.closing(sqlite3.connect(history, timeout=10, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def long_reader(history: Path) -> Iterator[None]:
    """Somebody reads all through the block, such as a dashboard that is left open, and sees nothing new."""
    with contextlib.closing(sqlite3.connect(history, timeout=10, isolation_level=None)) as db:
        db.execute("BEGIN")
        before = db.execute("SELECT count(*) FROM trials").fetchone()
        yield
        assert db.execute("SELECT count(*) FROM trials").fetchone() == before


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that stand still in the block."""
    send(signal.SIGSTOP, *pids)
    try:
        yield
    finally:
        send(signal.SIGCONT, *pids)

"""A search that is hurt for so many minutes; see the package's text."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disks import small_disk
from tests.faults.harness import HERE, FaultySearch, jumping_clock, wait_for
from tests.faults.moody_server import MoodyServer
from tests.ranking.http_stub import Stub
from tests.soak.faults import Fault
from tests.soak.samples import Samples, processes_with
from tests.soak.subject import Plan, make_search

DISK = 512 << 20
"""Bytes of the small disk."""
TICK = 0.25
"""Seconds between two looks."""
REST = 3.0
"""Seconds before an agent is started again that refused to run."""
PATIENCE = 600.0
"""Seconds in which what must happen has happened, on the slowest machine."""
FAULTY, JUMPING = "an agent whose ranker raises, answers nonsense, stalls", "an agent whose wall clock jumps"


@dataclass
class Agent:
    """One life of the agent."""

    process: subprocess.Popen[bytes]
    ranker: str
    """``file``, ``server`` or ``faulty``."""
    began: float = field(default_factory=time.monotonic)
    excuses: dict[int, str] = field(default_factory=dict)
    """Exit codes with which it may say that it cannot run, and the faults that are the reason."""
    was_terminated: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def age(self) -> float:
        """In seconds."""
        return time.monotonic() - self.began

    def has_refused(self, code: int, said: str) -> bool:
        """Whether it ended so, with this as its last line."""
        return code in self.excuses and said.startswith("ncode: ") and "cannot be written" not in said

    def may_end_with(self, code: int) -> bool:
        """Whether it was asked to, or killed."""
        asked = (0, 1, *self.excuses, -signal.SIGTERM) if self.was_terminated else ()
        return code in (*asked, -signal.SIGKILL)


@dataclass
class Condition:
    """A fault that lasts."""

    fault: Fault
    until: float
    context: contextlib.ExitStack


class Soak:
    """Runs in `folder`; use it in a ``with``, which leaves nothing running."""

    agent: Agent
    search: FaultySearch
    server: Stub

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.random = plan, random.Random(plan.seed)
        self._is_over = False
        self.agents = 0
        self.struck: Counter[str] = Counter()
        self.waits: dict[str, list[float]] = defaultdict(list)
        """Of every kind of fault, the seconds until the next trial was completed."""
        self.refusals: Counter[tuple[str, int]] = Counter()
        """Of starts, by fault and exit code."""
        self.problems: list[str] = []
        self._waiting: list[tuple[str, float, int]] = []
        self._conditions: list[Condition] = []
        self._next_fault, self._restart_at = 0.0, 0.0
        self._read = 0
        """Characters of the agents' output."""
        self._orders = itertools.count()
        self._stack = contextlib.ExitStack()
        self._prepare(folder)

    def _prepare(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.search = self._stack.enter_context(make_search(self.plan, folder, self._small_disk(folder / "disk")))
        self.search.watch_moves()
        self.mood = MoodyServer()
        self.server = Stub(self.mood)
        self._clock = jumping_clock(folder / "clock")
        self.samples = Samples(self.search.history)

    def _small_disk(self, at: Path) -> Path | None:
        with contextlib.suppress(PermissionError):
            return self._stack.enter_context(small_disk(at, str(DISK)))
        return None

    @property
    def has_small_disk(self) -> bool:
        """Whether the history's disk may be filled."""
        return self.search.history.parent != self.search.folder

    def __enter__(self) -> Soak:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end_conditions(math.inf)
        for pid in self.left_behind():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.close()
        self._stack.close()

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return self.samples.now

    @property
    def active(self) -> list[str]:
        """Faults that last."""
        return [condition.fault.name for condition in self._conditions]

    def end(self) -> None:
        """Before its time."""
        self._is_over = True

    def keep(self) -> None:
        """The history in the folder, also where its disk will be gone."""
        if self.has_small_disk:
            shutil.copytree(self.search.history.parent, self.search.folder / "kept")

    def left_behind(self) -> list[int]:
        """All processes of the search."""
        return list(processes_with("NCODE_TEST_LOG", self.search.witness))

    # Hours of it

    def hurt(self) -> Iterator[None]:
        """Until its time is over, `end` is called, or something is wrong; yields between two looks."""
        self.start()
        while self.now < self.plan.minutes * 60 and not self._is_over and not self.problems:
            self._keep_running()
            self._end_conditions(self.now)
            if self.now >= self._next_fault and self.agent.process.poll() is None:
                self._next_fault = self.now + self.random.uniform(*self.plan.pause)
                self._strike()
            self._watch()
            yield
            time.sleep(TICK)
        self._end_conditions(math.inf)

    def start(self) -> None:
        """An agent; now and then one with another ranker, or in a world where the clock jumps."""
        ranker = self.random.choices(("file", "server", "faulty"), (7, 2, 1))[0]
        is_jumping = self.random.random() < 0.2
        program = HERE / "faulty_ranker.py" if ranker == "faulty" else None
        arguments = ("--ranker", self.server.url) if ranker == "server" else ()
        self.server.seen.clear()
        process = self.search.start(program, *arguments, environment=self._clock if is_jumping else {})
        # A busy machine may be too slow for the deadline of a server's first answer.
        excuses = {2: "ranker's server: no answer in time"} if ranker == "server" else {}
        self.agent, self.agents = Agent(process, ranker, excuses=excuses), self.agents + 1
        for name, is_so in ((FAULTY, ranker == "faulty"), (JUMPING, is_jumping)):
            if is_so:
                self._count(name)
        self._note_excuses()

    def stop_agent(self) -> None:
        """SIGTERM, as a service manager sends it."""
        self._end_conditions(math.inf, "SIGSTOP")
        pids, self.agent.was_terminated = self.left_behind(), True
        self.agent.process.terminate()
        try:
            self.agent.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.problems.append(f"at {self.now:.0f} s the agent did not end in {PATIENCE:g} s of SIGTERM")
        self.search.note_kill(*pids)  # in case they went with their agent

    def order(self, fate: str) -> None:
        """The next evaluation meets it."""
        (self.search.folder / "orders" / f"{fate}.{next(self._orders)}").touch()

    def _keep_running(self) -> None:
        code = self.agent.process.poll()
        if code is None:
            return
        if self._restart_at == 0.0:
            self._look_at_end(code)
            self._restart_at = self.now + (REST if code in (1, 2) else 0.0)
        if self.now >= self._restart_at:
            self._restart_at = 0.0
            self.start()

    def _look_at_end(self, code: int) -> None:
        """Whether it was ours, or may be."""
        output = self.search.output.read_text(errors="replace")[self._read :]
        self._read += len(output)
        said = (output.strip().splitlines() or [""])[-1]
        if "Traceback" in output:
            self.problems.append(f"at {self.now:.0f} s the agent ended with a traceback: {said}")
        if self.agent.has_refused(code, said):
            self.refusals[self.agent.excuses[code], code] += 1
        elif not self.agent.may_end_with(code):
            how = "after SIGTERM" if self.agent.was_terminated else "by itself"
            self.problems.append(f"at {self.now:.0f} s the agent ended {how} with code {code}: {said}")

    # Faults

    def _strike(self) -> None:
        has = {"", self.agent.ranker, *(["disk"] if self.has_small_disk else [])}
        possible = [fault for fault in self.plan.faults if fault.needs in has and fault.name not in self.active]
        fault = self.random.choices(possible, [fault.weight for fault in possible])[0]
        seconds, context = self.random.uniform(*fault.seconds), contextlib.ExitStack()
        try:
            if (lasting := fault.strike(self)) is not None:
                context.enter_context(lasting)
                self._conditions.append(Condition(fault, self.now + seconds, context))
        except (sqlite3.OperationalError, OSError):  # locked, full or gone for this one, too
            return
        self._count(fault.name)
        self._note_excuses()

    def _count(self, name: str) -> None:
        self.struck[name] += 1
        with (self.search.folder / "faults.log").open("a") as log:
            log.write(f"{self.now:.1f} {name}\n")
        self._waiting.append((name, self.now, self.samples.complete))

    def _note_excuses(self) -> None:
        for condition in self._conditions:
            if condition.fault.refused_with and not (condition.fault.needs == "file" and self._was_ranked()):
                self.agent.excuses[condition.fault.refused_with] = condition.fault.name

    def _was_ranked(self) -> bool:
        """Whether the model has ranked already: from then on, a start without it goes on."""
        with contextlib.suppress(sqlite3.OperationalError):  # on a full disk
            return bool(self.search.rows("SELECT 1 FROM decisions WHERE ranker = 'embedded' LIMIT 1"))
        return False

    def _end_conditions(self, until: float, kind: str = "") -> None:
        for condition in [*self._conditions]:
            if condition.until <= until and condition.fault.name.startswith(kind):
                self._conditions.remove(condition)
                condition.context.close()

    def _watch(self) -> None:
        self.samples.look()
        self.samples.take(self.agent.pid, self.agent.age, self.struck.total())
        for waiting in [*self._waiting]:
            name, since, complete = waiting
            if self.samples.complete > complete:
                self._waiting.remove(waiting)
                self.waits[name].append(self.now - since)

    # The end

    def finish(self) -> None:
        """Some trials more, undisturbed but for what evaluations were still to meet; then everything is judged."""
        if self.agent.process.poll() is None:
            self.stop_agent()
        if self._restart_at == 0.0:
            self._look_at_end(self.agent.process.returncode)
        self.samples.look()
        self.search.trials = self.samples.complete + self.plan.last
        self.agent = Agent(self.search.start(None, "--trials", self.search.trials), "file")
        try:
            self.search.wait(self.agent.process, PATIENCE)
            wait_for(lambda: not self.left_behind(), 60)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            self.problems.append(f"the search did not go on to its end: {error or type(error).__name__}")
        self._watch()
        self._judge()

    def _judge(self) -> None:
        self.problems += [f"process {pid} was left behind" for pid in self.left_behind()]
        judged = self.search.judge()
        if judged.returncode:
            self.problems += (judged.stdout + judged.stderr).strip().splitlines()

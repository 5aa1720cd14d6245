"""Programs that write to a history from processes of their own: ``python history_writers.py NAME PATH
ARGUMENTS...``.
"""

import os
import sys
from pathlib import Path

from ncode_search.agent import agent_lock
from ncode_search.agent.errors import IllegalTransitionError
from ncode_search.agent.history import Decision, History

DECISION = Decision("llama", None, None, 128, 1, 0.25, False, None)


def write_trials(history: History, first: int, count: int) -> None:
    """Whole trials, one after another, each number printed when it is written."""
    for trial in range(first, first + count):
        history.add(trial, f"code{trial}", "random", DECISION)
        attempt = history.start(trial, f"w{first}", "cpu")
        history.report(trial, attempt, 1, {"loss": 1.0})
        history.complete(trial, attempt, float(trial))
        print(trial, flush=True)


def _ready() -> None:
    """Wait for the word to begin: an interpreter's start takes longer than all that a racer then does."""
    print("ready", flush=True)
    sys.stdin.readline()


def race_for_codes(history: History, first: int) -> None:
    """Add the same codes as everybody else; print those that were won."""
    _ready()
    for number in range(100):
        try:
            history.add(first + number, f"shared{number}", "random")
            print(number)
        except IllegalTransitionError:
            pass


def race_to_start(history: History, trials: int) -> None:
    """Start the same trials as everybody else; print those that were won."""
    _ready()
    for trial in range(1, trials + 1):
        try:
            history.start(trial, str(os.getpid()), "cpu")
            print(trial)
        except IllegalTransitionError:
            pass


def race_to_take_back(history: History, trials: int) -> None:
    """Take back the same trials as everybody else; print those that were won."""
    seen = [history.trial(trial) for trial in range(1, trials + 1)]
    _ready()
    for trial in seen:
        if history.take_back(trial):
            print(trial.id)


def hold_lock(history: History) -> None:
    """Be the agent until killed."""
    agent_lock.claim(history)
    print("claimed", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    name, path, *arguments = sys.argv[1:]
    with History.attach(Path(path)) as opened:
        globals()[name](opened, *map(int, arguments))

"""The command line in this process, and what is asked of its answer whatever it was given."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from ncode_search.agent import cli


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    error: str
    """All that it wrote to standard error."""

    @property
    def refused(self) -> bool:
        """Whether it found its input wrong."""
        return self.code == 2


def ncode(*arguments: object) -> Answer:
    """Run ``ncode arguments``. What escapes from it is what a user would see as a traceback."""
    return _answer(cli.main, "ncode", *map(str, arguments))


def call(work: Callable[[], object]) -> Answer:
    """The same for a part of a command that cannot run alone: its errors end as all errors of commands do."""
    with mock.patch.object(cli.cli, "main", side_effect=lambda **_: work()):
        return _answer(cli.main, "ncode")


def judge(answer: Answer) -> None:
    """Raises `AssertionError` unless it is success, or one line that says what is wrong."""
    assert answer.code in (0, 1, 2), f"exit code {answer.code}"
    if answer.code:
        line = answer.error.removesuffix("\n")
        assert line.startswith("ncode: "), f"exit code {answer.code} with {answer.error!r}"
        assert line.isprintable(), f"not one line of plain text: {answer.error!r}"
        assert len(line) < 2000, f"an error of {len(line)} characters: {line[:500]!r}"


def _answer(main: Callable[[], None], *arguments: str) -> Answer:
    with _streams() as error, mock.patch.object(sys, "argv", list(arguments)):
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        text = error()
    return Answer(code if isinstance(code, int) else 0 if code is None else 1, text)


@contextmanager
def _streams() -> Iterator[Callable[[], str]]:
    """Standard streams as a terminal's are: UTF-8, which output must keep to. Gives what was written to the second."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    raw = io.BytesIO()
    error = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
    with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", error):
        yield lambda: raw.getvalue().decode()
    logging.getLogger().handlers.clear()

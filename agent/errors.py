"""Every error that the package raises on purpose, under one root."""

from __future__ import annotations


class NcodeError(Exception):
    """The root: its text is one line that a person can act on."""


_LONGEST = 1200


def one_line(text: str) -> str:
    """An error as it is printed: on one line, and without what a terminal would obey, whatever a file put into it."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 300]} ... {line[-300:]}"  # the mend is at the end


class InputError(NcodeError):
    """What the user gave is wrong: the text names the file, the key and the mend. The command line exits with 2."""


class RankerGoneError(InputError):
    """The server that is to rank is not there, or not well, now; it may come back."""


class HistoryError(InputError):
    """A history file cannot be used: it is none, it is damaged, another search's, or newer than this program."""


class HistoryUnavailableError(HistoryError):
    """A history file cannot be used now, and may be later without anybody's help: its disk is full, say.

    The command line exits with 1, so that a service manager tries again.
    """


class HistoryLockedError(HistoryUnavailableError):
    """Another program held the history locked for as long as was waited."""


class HistoryInUseError(HistoryError):
    """Another agent that is alive owns the history file."""


class HistoryInUseElsewhereError(HistoryInUseError, HistoryUnavailableError):
    """So did an agent of another machine, when it was last heard of; that it is gone shows after minutes."""


class OwnerUnclearError(HistoryInUseElsewhereError):
    """Whether it still does shows to whoever watches for a minute."""


class IllegalTransitionError(NcodeError):
    """A trial was asked to make a move that its state or its attempt does not allow."""


class SearchFailedError(NcodeError):
    """The search cannot go on; what it had is in its history. The command line exits with 1."""

"""Every error that the package raises on purpose, under one root."""

from __future__ import annotations


class NcodeError(Exception):
    """The root: its text is one line that a person can act on."""


class InputError(NcodeError):
    """What the user gave is wrong: the text names the file, the key and the mend. The command line exits with 2."""


class HistoryError(InputError):
    """A history file cannot be used: it is none, it is damaged, another search's, or newer than this program."""


class HistoryInUseError(HistoryError):
    """Another agent that is alive owns the history file."""


class IllegalTransitionError(NcodeError):
    """A trial was asked to make a move that its state or its attempt does not allow."""


class SearchFailedError(NcodeError):
    """The search cannot go on; what it had is in its history. The command line exits with 1."""

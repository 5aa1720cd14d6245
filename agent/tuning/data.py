"""Write training samples to a file: in a stream, with several processes, and so that a killed run can go on.

A sample depends on its number only, so the file needs no notes beside it. Samples are made and appended in blocks. A
run that finds the file counts the whole samples in it, cuts off what comes behind them, makes the first and the last
one again to see that they are its own, and goes on with the next. In a ``.gz`` every block is a gzip member of its
own. The bytes are the same for any number of processes and interruptions.
"""

from __future__ import annotations

import gzip
import multiprocessing
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ncode_search.agent.errors import InputError
from ncode_search.agent.tuning.formats import FORMATS, to_line
from ncode_search.agent.tuning.published import SampleMaker, SampleSettings, Source

BLOCK = 64
"""Samples that are made, compressed and appended at once."""
_GZIP_LEVEL = 5
_CHUNK = 1 << 20

Report = Callable[[int], None]
"""Told how many samples the file has."""


@dataclass(frozen=True)
class DataSettings:
    """What `write_samples` writes."""

    sources: Sequence[Source]
    """The columns of tables to draw from, each as often as any other."""
    samples: int
    seed: int = 0
    form: str = "published"
    sample: SampleSettings = field(default_factory=SampleSettings)

    def __post_init__(self) -> None:
        if self.form not in FORMATS:
            raise InputError(f"--format {self.form}: there are {', '.join(FORMATS)}")
        if self.samples < 1:
            raise InputError(f"--samples {self.samples}: ask for one at least")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: a seed is 0 or greater")
        if not self.sources:
            raise InputError("--table: name one table at least")


def write_samples(path: Path, settings: DataSettings, *, jobs: int = 1, report: Report = lambda count: None) -> int:
    """Write `settings.samples` samples to `path`, or what it lacks of them; the number that it had already.

    Raises `InputError` for tables that cannot be read and for a file that holds something else.
    """
    compress = path.suffix == ".gz"
    maker = _BlockMaker(settings, compress)  # before the file is touched: the tables may be wrong
    try:
        with path.open("r+b" if path.exists() else "x+b") as file:
            had = _resume(path, file, maker)
            for count in _append(file, maker, had, jobs):
                report(count)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from error
    return had


class _BlockMaker:
    """Makes the bytes of a block of samples."""

    def __init__(self, settings: DataSettings, compress: bool) -> None:
        self.settings, self.compress = settings, compress
        self._make = SampleMaker(settings.sources, settings.sample, settings.seed)

    def line(self, index: int) -> bytes:
        """Sample number `index`."""
        return to_line(self._make(index), self.settings.form).encode()

    def __call__(self, span: tuple[int, int]) -> bytes:
        """The samples from the first to before the second number."""
        text = b"".join(map(self.line, range(*span)))
        return gzip.compress(text, _GZIP_LEVEL, mtime=0) if self.compress else text


def _append(file: BinaryIO, maker: _BlockMaker, had: int, jobs: int) -> Iterator[int]:
    """Append the samples from `had` on; yields how many there are after every block."""
    spans = _spans(had, maker.settings.samples)
    for (_, stop), block in zip(spans, _blocks(maker, spans, jobs), strict=True):
        file.write(block)
        file.flush()
        yield stop


def _spans(start: int, samples: int) -> list[tuple[int, int]]:
    """The blocks that are missing; they end at multiples of `BLOCK`, whatever is there already."""
    ends = [*range(start - start % BLOCK + BLOCK, samples, BLOCK), samples]
    return [(begin, end) for begin, end in zip([start, *ends], ends, strict=False) if begin < end]


def _blocks(maker: _BlockMaker, spans: Sequence[tuple[int, int]], jobs: int) -> Iterator[bytes]:
    jobs = min(jobs, len(spans))
    if jobs <= 1:
        yield from map(maker, spans)
        return
    # Fresh interpreters: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _begin, (maker.settings, maker.compress)) as pool:
        yield from pool.imap(_block, spans)


_own_maker: list[_BlockMaker] = []
"""Of a process of the pool."""


def _begin(settings: DataSettings, compress: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    _own_maker.append(_BlockMaker(settings, compress))


def _block(span: tuple[int, int]) -> bytes:
    return _own_maker[0](span)


@dataclass(frozen=True)
class _Found:
    """The whole samples that a file has."""

    count: int = 0
    end: int = 0
    """The byte behind the last of them."""
    last: bytes = b""


def _resume(path: Path, file: BinaryIO, maker: _BlockMaker) -> int:
    """Find the whole samples of `file`, cut off what comes behind them, go there; answers how many there are."""
    if not _starts_with(file, maker.line(0), maker.compress):
        raise InputError(f"{path} exists and holds something else: delete it, or name another file")
    find = _in_members if maker.compress else _in_lines
    found = find(file, maker.settings.samples)
    if found.count > maker.settings.samples:
        raise InputError(f"{path} has {found.count:,} samples already: ask for as many, or name another file")
    if found.count and found.last != maker.line(found.count - 1):
        raise InputError(f"{path} was written with other settings: delete it, or name another file")
    file.truncate(found.end)
    file.seek(found.end)
    return found.count


def _starts_with(file: BinaryIO, line: bytes, compress: bool) -> bool:
    """Whether `file` starts with `line`, as far as it goes."""
    file.seek(0)
    start = file.read(_CHUNK)
    try:
        text = zlib.decompressobj(wbits=31).decompress(start) if compress else start
    except zlib.error:
        return False
    return text.startswith(line) or line.startswith(text)


def _in_lines(file: BinaryIO, _wanted: int) -> _Found:
    file.seek(0)
    count = end = at = 0
    while chunk := file.read(_CHUNK):
        count += chunk.count(b"\n")
        if (last := chunk.rfind(b"\n")) >= 0:
            end = at + last + 1
        at += len(chunk)
    file.seek(max(end - _CHUNK, 0))
    return _Found(count, end, _last_line(file.read(end - file.tell())))


def _in_members(file: BinaryIO, wanted: int) -> _Found:
    """A member of less than a block is the end of a file of fewer samples; it is missing where more are wanted."""
    found = _Found()
    for text, end in _members(file):
        lines = text.count(b"\n")
        if lines < BLOCK and found.count + lines < wanted:
            break
        found = _Found(found.count + lines, end, _last_line(text))
    return found


def _members(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The text and the end of every whole gzip member."""
    file.seek(0)
    data, end = b"", 0
    while True:
        stream, parts = zlib.decompressobj(wbits=31), []
        while not stream.eof:
            data = data or file.read(_CHUNK)
            if not data:
                return
            try:
                parts.append(stream.decompress(data))
            except zlib.error:
                return
            end += len(data) - len(stream.unused_data)
            data = stream.unused_data
        yield b"".join(parts), end


def _last_line(text: bytes) -> bytes:
    return text[text.rfind(b"\n", 0, -1) + 1 :]

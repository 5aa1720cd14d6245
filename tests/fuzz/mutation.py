"""Damage to files: of their bytes, of their tokens, and of what a kind of file has more of than others."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

ODD_BYTES = (
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\n",
    b"\r",
    b'"',
    b"\x1b[31m",
)
ODD_TEXTS = (
    "", "0", "-1", "1e999", "-1e999", "nan", "inf", "-inf", "true", "false", "null", "9" * 400, "1" + "0" * 5000,
    "2147483648", "18446744073709551616", "-9223372036854775809", "0.1", "1.0", "1e-320", '""', '"a\\nb"', '"\\u0000"',
    '"\\u2028"', "[]", "{}", "[[]]", "[" * 3000, "{a=" * 1500, "[1, 2, 3]", '["a", "b"]', '{ x = 1 }', "1979-05-27",
    "07:32:00", "a" * 300, "é", "𝟘", "\u202e", "\x1b[31m", "..", "/", "none", "kind", "table", "score", "code",
)  # fmt: skip
_TOKEN = re.compile(rb"\"[^\"\n]*\"|[A-Za-z_][\w.]*|-?\d[\w.+-]*|\S|\s+")
Mutation = Callable[[random.Random, bytes], bytes]


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) or 1)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if data else data


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def drop(rng: random.Random, data: bytes) -> bytes:
    first, last = _range(rng, data)
    return data[:first] + data[last:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    first, last = _range(rng, data)
    return data[:last] + data[first:last] * rng.choice((1, 2, 50)) + data[last:]


def swap(rng: random.Random, data: bytes) -> bytes:
    a, b = sorted((_range(rng, data), _range(rng, data)))
    if a[1] > b[0]:
        return data
    return data[: a[0]] + data[b[0] : b[1]] + data[a[1] : b[0]] + data[a[0] : a[1]] + data[b[1] :]


def insert_odd(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(ODD_BYTES) * rng.choice((1, 1, 1, 100)) + data[at:]


def change_token(rng: random.Random, data: bytes) -> bytes:
    """Another token of the file, or an odd one, in the place of one."""
    tokens = _TOKEN.findall(data)
    if not tokens:
        return data
    other = rng.choice(tokens) if rng.random() < 0.5 else rng.choice(ODD_TEXTS).encode()
    tokens[rng.randrange(len(tokens))] = other
    return b"".join(tokens)


def change_line(rng: random.Random, data: bytes) -> bytes:
    """A line dropped, given twice, moved or with another end."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice((line, line, line.replace(b"\n", b"\r"))))
    return b"".join(lines)


BYTES: tuple[Mutation, ...] = (flip_bit, cut, drop, repeat, swap, insert_odd)
TEXT: tuple[Mutation, ...] = (*BYTES, *[change_token] * 8, *[change_line] * 3)


def mutated(rng: random.Random, data: bytes, ways: tuple[Mutation, ...], most: int = 4) -> bytes:
    """`data` after one or a few mutations."""
    for _ in range(rng.randint(1, most)):
        data = rng.choice(ways)(rng, data)
    return data


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    first = rng.randrange(len(data) + 1)
    return first, min(len(data), first + rng.choice((1, 2, 8, 64, 1000)))

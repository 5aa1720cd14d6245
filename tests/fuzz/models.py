"""Damage to the headers of GGUF files, where all that can crash a reader is."""

from __future__ import annotations

import random
import struct

from . import mutation

ODD_NUMBERS = (0, 1, 2, 7, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
WEIGHTS = b"token_embd.weight"
"""The first tensors' names stand at the end of a header."""


def change_number(rng: random.Random, data: bytes) -> bytes:
    """An odd number, or a near one, of one, two, four or eight bytes, anywhere."""
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, len(data) - width))
    old = int.from_bytes(data[at : at + width], "little")
    new = rng.choice((*ODD_NUMBERS, old + 1, old - 1, old * 2, old // 2)) % 2 ** (8 * width)
    return data[:at] + new.to_bytes(width, "little") + data[at + width :]


def change_key(rng: random.Random, data: bytes) -> bytes:
    """The number or the kind of the value behind one of the keys, or the key's name."""
    keys = [at for at in _strings(data) if b"." in data[at + 8 : at + 40]]
    if not keys:
        return data
    at = rng.choice(keys)
    length = int.from_bytes(data[at : at + 8], "little")
    if rng.random() < 0.2:
        return data[: at + 8] + rng.randbytes(1) + data[at + 9 :]
    value = at + 8 + length + rng.choice((0, 4, 4, 4, 8, 16))
    number = struct.pack("<I", rng.choice(ODD_NUMBERS) % 2**32)
    return data[:value] + number + data[value + 4 :]


WAYS: tuple[mutation.Mutation, ...] = (*mutation.BYTES, *[change_number] * 4, *[change_key] * 8)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The file with another header; seldom, cut short."""
    end = data.rfind(b".weight") + 64
    changed = mutation.mutated(rng, data[:end], WAYS, 2)
    whole = changed + data[end:]
    return mutation.cut(rng, whole) if rng.random() < 0.03 else whole


def _strings(data: bytes) -> list[int]:
    """Where texts stand: a length of eight bytes and as many printable ones."""
    found = []
    at = 24
    while at + 8 < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        if 3 < length < 64 and data[at + 8 : at + 8 + length].isascii() and at + 8 + length < len(data):
            found.append(at)
            at += 8 + length
        else:
            at += 1
    return found

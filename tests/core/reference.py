"""What the core must compute, slowly and obviously: one digit, one code at a time, in Python's own integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_."
WORD = 2**64
Code = tuple[int, ...]


def size(sizes: Sequence[int]) -> int:
    result = 1
    for options in sizes:
        result *= options
    return result


def text(code: Code) -> str:
    return "".join(ALPHABET[digit] for digit in code)


def index(sizes: Sequence[int], code: Code) -> int:
    result = 0
    for options, digit in zip(sizes, code, strict=True):
        result = result * options + digit
    return result


def code_at(sizes: Sequence[int], position: int) -> Code:
    digits = []
    for options in reversed(sizes):
        position, digit = divmod(position, options)
        digits.append(digit)
    return tuple(reversed(digits))


def all_codes(sizes: Sequence[int]) -> list[Code]:
    return list(product(*(range(options) for options in sizes)))


def neighbours(sizes: Sequence[int], code: Code) -> list[Code]:
    return [
        (*code[:position], option, *code[position + 1 :])
        for position, options in enumerate(sizes)
        for option in range(options)
        if option != code[position]
    ]


def mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


def mix_low(x: int) -> int:
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD % WORD
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 % WORD
    return x ^ x >> 33


def _words(code: Code) -> list[int]:
    return [int.from_bytes(bytes(code[i : i + 8]), "little") for i in range(0, len(code), 8)]


def hash64(code: Code) -> int:
    state = mix(int.from_bytes(b"ncode-hi", "big") + len(code))
    for word in _words(code):
        state = mix(state ^ word)
    return state


def hash128(code: Code) -> tuple[int, int]:
    low = mix_low(int.from_bytes(b"ncode-lo", "big") + len(code))
    for word in _words(code):
        low = mix_low(low ^ word)
    return hash64(code), low


class Random:
    """xoshiro256++ and Lemire's unbiased draw below a bound."""

    RANDOM, REDRAW, MUTATE, CROSSOVER, PERMUTATION, FEASIBLE, FEASIBLE_MUTATE, FEASIBLE_CROSSOVER = range(8)

    def __init__(self, seed: int, stream: int) -> None:
        start = mix(seed) ^ mix(WORD - 1 - stream)
        self._state = [mix((start + (i + 1) * 0x9E3779B97F4A7C15) % WORD) for i in range(4)]

    def next(self) -> int:
        a, b, c, d = self._state
        result = (_rotated((a + d) % WORD, 23) + a) % WORD
        c, d = c ^ a, d ^ b
        self._state = [a ^ d, b ^ c, c ^ (b << 17) % WORD, _rotated(d, 45)]
        return result

    def below(self, bound: int) -> int:
        while True:
            high, low = divmod(self.next() * bound, WORD)
            if low >= WORD % bound:
                return high

    def below128(self, bound: int) -> int:
        if bound < WORD:
            return self.below(bound)
        while True:
            high = self.next() % 2 ** (bound // WORD).bit_length()
            if (value := high * WORD + self.next()) < bound:
                return value


def _rotated(x: int, count: int) -> int:
    return (x << count | x >> 64 - count) % WORD


def random(sizes: Sequence[int], count: int, seed: int) -> list[Code]:
    chunks = _chunks(Random(seed, Random.RANDOM))
    redraws = Random(seed, Random.REDRAW)
    return [tuple(_digit(options, next(chunks), redraws) for options in sizes) for _ in range(count)]


def _chunks(draws: Random) -> Iterator[int]:
    while True:
        word = draws.next()
        yield from (word >> 16 * i & 0xFFFF for i in range(4))


def _digit(options: int, chunk: int, redraws: Random) -> int:
    high, low = divmod(chunk * options, 2**16)
    return high if low >= 2**16 % options else redraws.below(options)


def mutate(sizes: Sequence[int], parents: Sequence[Code], seed: int, changes: int) -> list[Code]:
    draws = Random(seed, Random.MUTATE)
    free = positions_with_choice(sizes)
    return [mutated(sizes, parent, draws, free, changes) for parent in parents]


def positions_with_choice(sizes: Sequence[int]) -> list[int]:
    return [position for position, options in enumerate(sizes) if options > 1]


def mutated(sizes: Sequence[int], parent: Code, draws: Random, free: list[int], changes: int) -> Code:
    """One code; `free` is shuffled on."""
    code = list(parent)
    for k in range(min(changes, len(free))):
        chosen = k + draws.below(len(free) - k)
        free[k], free[chosen] = free[chosen], free[k]
        others = [option for option in range(sizes[free[k]]) if option != code[free[k]]]
        code[free[k]] = others[draws.below(len(others))]
    return tuple(code)


def crossover(first: Sequence[Code], second: Sequence[Code], seed: int) -> list[Code]:
    draws = Random(seed, Random.CROSSOVER)
    return [crossed(one, other, draws) for one, other in zip(first, second, strict=True)]


def crossed(one: Code, other: Code, draws: Random) -> Code:
    words = [draws.next() for _ in range(0, len(one), 64)]
    return tuple(other[p] if words[p // 64] >> p % 64 & 1 else one[p] for p in range(len(one)))


def permuted(count: int, seed: int, position: int) -> int:
    """Where the seed's permutation of ``range(count)`` sends a position."""
    bits = (count - 1).bit_length()
    low_size = 2 ** ((bits + 1) // 2)
    high_size = 2**bits // low_size
    draws = Random(seed, Random.PERMUTATION)
    keys = [draws.next() for _ in range(40 if bits <= 8 else 12)]
    while True:
        high, low = divmod(position, low_size)
        for even, odd in zip(keys[::2], keys[1::2], strict=True):
            low ^= mix(high ^ even) % low_size
            high ^= mix(low ^ odd) % high_size
        position = high * low_size + low
        if position < count:
            return position

"""Values that histories hold or replay: if one changes, old histories are misread. Mend the core, not the test."""

from __future__ import annotations

import numpy as np
import pytest

from ncode_search import _core

SPACE = _core.Space([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 64])
TEXTS = ["12125c3ejnqh", "104667bhf2mT", "010697371o3n", "020687ci7nqQ"]
CODES = SPACE.from_text(TEXTS)


def test_text_and_index() -> None:
    assert _core.ALPHABET == "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_."
    assert SPACE.to_text(CODES) == TEXTS
    assert SPACE.to_index(CODES) == [11279675834001, 8532756292727, 2559137808087, 4693134238964]


def test_hash64() -> None:
    assert _core.hash64(CODES).tolist() == [
        0xC3B2553A539C0334,
        0x381D08D0BF518B3D,
        0xD8AFD7D26412EF28,
        0x6392A0B16E63C016,
    ]
    assert _core.hash64(np.zeros((1, 1), np.uint8)).tolist() == [0xEC55C07B394A1F06]


def test_hash128() -> None:
    assert _core.hash128(CODES).tolist() == [
        [0xC3B2553A539C0334, 0x53B140306DC78A1A],
        [0x381D08D0BF518B3D, 0x6E8087C4C551C640],
        [0xD8AFD7D26412EF28, 0x331DA2FB495D8603],
        [0x6392A0B16E63C016, 0x6D2C85CF066B59D6],
    ]
    widest = np.full((1, 256), 63, np.uint8)
    assert _core.hash128(widest).tolist() == [[0xAA03E67E9BC43921, 0x4E5F28C0EA5582D1]]


@pytest.mark.parametrize(
    ("code", "high", "low"),
    [
        ([], 0x80609153EA60270D, 0x95A54157FAE792B4),
        ([255], 0x7084BE04F8AAFA28, 0xC2E6581B9767C1B9),
        ([0] * 7, 0x1BF8E8EB48F9577C, 0x05D6541C4416FD6F),
        ([0] * 8, 0x82E9931972FDD0BF, 0x27D3B6711B3D1B79),
        ([0] * 9, 0x9ED57CD744FD6C76, 0xA5049F027CE16AF3),
        ([1, 2, 3, 4, 5, 6, 7], 0x1377470F5E5FD229, 0x056A8AEB89FC940A),
        ([1, 2, 3, 4, 5, 6, 7, 8], 0x5F98447DF3AB6BF7, 0x910B9E8B74A756AC),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], 0x22A7D80B2E1475C5, 0x2CECC434F8EACF41),
        ([0] * 255, 0xA33AA5F8BA90B552, 0x32D0C77F9071579F),
        ([0] * 256, 0x0198061D8715E359, 0x25CCCB3D00A680A6),
        ([63] * 255, 0xCB3402EC5ED0EA0C, 0x4DFB98EBA3FB8F08),
    ],
)
def test_hashes_beside_the_sizes_of_words(code: list[int], high: int, low: int) -> None:
    """In a batch of any length: the last rows of short codes are read in another way than the others."""
    for rows in (1, 8, 9, 300):
        codes = np.array([code] * rows, np.uint8).reshape(rows, len(code))
        assert _core.hash64(codes).tolist() == [high] * rows
        assert _core.hash128(codes).tolist() == [[high, low]] * rows


def test_random() -> None:
    assert SPACE.to_text(SPACE.random(4, 2024)) == TEXTS
    assert SPACE.to_text(SPACE.random(4, 0)) == ["02064c68bc2A", "11447ab76j3Q", "003259e63hee", "011608gh1j5j"]


def test_sample() -> None:
    assert SPACE.to_text(SPACE.sample(4, 2024)) == ["120506e074k2", "121634bcf5k8", "0142a2gbg82b", "1233a1g1gpna"]
    last = SPACE.sample(9, 0, SPACE.size - 4)
    assert SPACE.to_text(last) == ["001210g925rY", "014164a16o9n", "120245eibglf", "1130aabgh7rc"]


def test_mutate_and_crossover() -> None:
    children = SPACE.mutate(CODES, 7, 3)
    assert SPACE.to_text(children) == ["12113c3ej3qh", "104667bhm3mH", "011657371o3k", "0232878i7nqQ"]
    children = SPACE.crossover(CODES, CODES[::-1], 7)
    assert SPACE.to_text(children) == ["1202873i7nqh", "014697bhfo3n", "1006973h123T", "02028c3ejnqQ"]


def test_feasible_codes() -> None:
    costs = [list(range(size)) for size in SPACE.sizes]
    feasible = _core.Feasible(SPACE, [(costs, [(3, [[d * e for e in range(11)] for d in range(7)])], 40, 60)])
    assert feasible.size == 203220646974
    drawn = [feasible.random(2, 7), feasible.sample(2, 7), feasible.mutate(CODES, 7, 3)]
    assert [SPACE.to_text(codes)[:2] for codes in drawn] == [
        ["00014c82a3c4", "11200b935e67"],
        ["024054e62049", "110129541k29"],
        ["02125c3e3602", "004163bh0218"],
    ]
    children = feasible.crossover(CODES, CODES[::-1], 7)
    assert SPACE.to_text(children) == ["120657301111", "014667000000", "104667000000", "12125c3i2200"]
    wide = _core.Feasible(_core.Space([2] * 127), forbidden=[[(0, [1]), (1, [1])]])
    assert wide.to_index(wide.random(2, 7)) == [
        8002312179333095055024686079143361229,
        120834651684930423536367479397181468421,
    ]

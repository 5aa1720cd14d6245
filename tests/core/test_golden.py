"""Values that histories hold or replay: if one changes, old histories are misread. Mend the core, not the test."""

from __future__ import annotations

import numpy as np

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

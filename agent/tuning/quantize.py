"""Quantize a GGUF with llama.cpp, in this process: whole or not at all, and refused in one line where it cannot be.

llama.cpp quantizes a matrix row by row, in blocks of 32 weights or, for the K and IQ4_XS kinds, of 256. Matrices with
other rows get a coarser cousin of blocks of 32, without a word. Here a kind that would apply to no matrix at all is
refused, since the file would not be what it says.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from ncode_search.agent.devices import available_cores
from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.gguf_file import read_header
from ncode_search.agent.ranking.llama_library import forget_log, last_words, llama
from ncode_search.agent.whole_files import replacing

PLAIN = ("F32", "F16", "BF16")
KINDS = (
    *PLAIN,
    *("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
)
"""What a file can be quantized to; the kinds of llama.cpp that need no importance matrix."""

_SMALL_BLOCK, _LARGE_BLOCK = 32, 256


def quantize(source: Path, target: Path, kind: str, *, threads: int | None = None) -> None:
    """Write the GGUF `source` again as `target` with weights of `kind`. The same path for both is allowed.

    Raises `InputError` for a kind that is unknown or does not fit the model's rows, and for a file that is no GGUF or
    is quantized already.
    """
    kind = require_kind(kind)
    read_header(source)
    _require_rows(source, kind)
    with replacing(target) as new:
        _call(source, new, kind, threads or available_cores())


def require_kind(kind: str) -> str:
    """`kind` as llama.cpp writes it; raises `InputError` for an unknown one."""
    if kind.upper() not in KINDS:
        raise InputError(f"--quantize {kind}: there are {', '.join(KINDS)}")
    return kind.upper()


def _call(source: Path, target: Path, kind: str, threads: int) -> None:
    api = llama()
    params = api.llama_model_quantize_default_params()
    params.ftype = getattr(api, f"LLAMA_FTYPE_{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}")
    params.nthread = threads
    forget_log()
    status = api.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if status != 0:
        raise InputError(f"{source} cannot be quantized to {kind} ({last_words()}): start from a file in F32 or F16")


def _require_rows(source: Path, kind: str) -> None:
    if kind in PLAIN:
        return
    rows = _row_lengths(source)
    if odd := {name: length for name, length in rows.items() if length % _SMALL_BLOCK}:
        name, length = next(iter(odd.items()))
        raise InputError(
            f"--quantize {kind} needs rows of a multiple of {_SMALL_BLOCK} weights, {name} has {length}: take F16"
        )
    if ("_K" in kind or kind == "IQ4_XS") and all(length % _LARGE_BLOCK for length in rows.values()):
        name, length = next(iter(rows.items()))
        raise InputError(
            f"--quantize {kind} needs rows of a multiple of {_LARGE_BLOCK} weights, {name} has {length}: take Q8_0"
        )


def _row_lengths(source: Path) -> dict[str, int]:
    """Weights a row of every matrix, by name."""
    import gguf

    matrices = (tensor for tensor in gguf.GGUFReader(source).tensors if len(tensor.shape) > 1)
    return {tensor.name: int(tensor.shape[0]) for tensor in matrices}

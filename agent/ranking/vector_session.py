"""A loaded model that takes vectors: the embedded ranker's part inside llama.cpp.

The history is decoded as one batch that every candidate's sequence shares; then all candidates at once, each in a
sequence of its own, so that it sees the history and itself. Attention is not causal. llama.cpp wants the candidates
at a later position than the history; the model's file scales its rotary embedding away, so positions mean nothing.

One thread at a time.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.ranking.llama_library import last_words
from ncode_search.agent.ranking.loaded_model import LoadedModel

MOST_CANDIDATES = 255
"""Candidates a decode call: llama.cpp allows 256 sequences, and one is the history."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class VectorSettings:
    """How the model is loaded."""

    threads: int = 1
    """CPU threads. The model is small: a second one gains little, and waits long where trainings use the cores."""
    gpu_layers: int = 0
    """Layers on the GPU; negative for all of them."""
    room: int = 384
    """Trials of a history that fit, those without a value included."""


class VectorSession(LoadedModel):
    """A model that takes vectors, and its context."""

    def __init__(self, path: Path, settings: VectorSettings) -> None:
        self._settings = settings
        self._batch: Any = None
        # Repacked weights crash on some processors (see `selftest`), and so small a model gains nothing from them.
        super().__init__(path, settings.gpu_layers, extra_buffers=False)
        self.width = int(self._api.llama_model_n_embd(self._model))
        self._api.llama_set_causal_attn(self._context, False)
        self._batch = self._api.llama_batch_init(max(settings.room, MOST_CANDIDATES), self.width, 1)

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._batch is not None:
            self._api.llama_batch_free(self._batch)
        self._batch = None
        super().close()

    def outputs(self, history: Vectors, candidates: Vectors) -> Vectors:
        """The model's outputs for each candidate, shape ``(m, outputs)``.

        `history`: shape ``(n, width)``, 1 ≤ n ≤ `room`; `candidates`: shape ``(m, width)``. Raises ValueError where
        they do not fit, RuntimeError where llama.cpp fails.
        """
        if not 1 <= len(history) <= self._settings.room or history.shape[1:] != (self.width,):
            raise ValueError(f"the model takes 1 to {self._settings.room} trials of {self.width} numbers")
        self._api.llama_memory_clear(self._memory, True)
        self._decode(history, np.zeros(len(history), dtype=np.int32), position=0)
        parts = [
            self._branches(candidates[start : start + MOST_CANDIDATES])
            for start in range(0, len(candidates), MOST_CANDIDATES)
        ]
        return np.concatenate(parts)

    def _branches(self, candidates: Vectors) -> Vectors:
        sequences = np.arange(1, len(candidates) + 1, dtype=np.int32)
        for sequence in sequences.tolist():
            self._api.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        self._decode(candidates, sequences, position=1)
        found = self._logits(len(candidates))
        for sequence in sequences.tolist():
            self._api.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        if not np.isfinite(found).all():
            raise RuntimeError("the model answers with numbers that are not finite")
        return found

    def _logits(self, count: int) -> Vectors:
        pointer = self._api.llama_get_logits(self._context)
        if not pointer:
            raise RuntimeError(f"llama.cpp gave no outputs ({last_words()})")
        return np.ctypeslib.as_array(pointer, shape=(count, self._words)).copy()  # type: ignore[no-any-return]

    def _decode(self, vectors: Vectors, sequences: NDArray[np.int32], *, position: int) -> None:
        count = len(vectors)
        batch = self._batch
        batch.n_tokens = count
        ctypes.memmove(batch.embd, np.ascontiguousarray(vectors, dtype=np.float32).ctypes.data, vectors.size * 4)
        ctypes.memset(batch.logits, position, count)  # outputs of the candidates only
        for at, sequence in enumerate(sequences.tolist()):
            batch.pos[at] = position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = sequence
        if (status := self._api.llama_decode(self._context, batch)) != 0:
            raise RuntimeError(f"llama.cpp could not decode {count} vectors (status {status}; {last_words()})")

    def _context_params(self) -> Any:
        api, settings = self._api, self._settings
        params = api.llama_context_default_params()
        params.n_ctx = settings.room + MOST_CANDIDATES
        # Attention that is not causal needs a batch to be computed in one piece.
        params.n_batch = params.n_ubatch = max(settings.room, MOST_CANDIDATES)
        params.n_seq_max = MOST_CANDIDATES + 1
        params.kv_unified = True
        params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_threads = params.n_threads_batch = settings.threads
        return params

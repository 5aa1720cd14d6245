"""A model of llama.cpp with a context: loaded, and freed whatever happens. What all sessions have in common.

One thread at a time.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeVar

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.llama_library import forget_log, last_words, llama

_Model = TypeVar("_Model", bound="LoadedModel")


class LoadedModel(ABC):
    """A model and its context; `close` it, or use it in a ``with``. Raises `InputError` where it cannot be used."""

    def __init__(self, path: Path, gpu_layers: int, extra_buffers: bool) -> None:
        """`gpu_layers`: layers on the GPU, negative for all; `extra_buffers`: whether weights may be repacked."""
        self._path = path
        self._api = llama()
        self._model: Any = None
        self._context: Any = None
        forget_log()
        try:
            self._load(gpu_layers, extra_buffers)
            self._context = self._api.llama_init_from_model(self._model, self._context_params())
            if not self._context:
                raise InputError(f"model {path} has no room for its context ({last_words()}): give a smaller one")
            self._memory = self._api.llama_get_memory(self._context)
        except BaseException:
            self.close()
            raise

    def __enter__(self: _Model) -> _Model:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._context:
            self._api.llama_free(self._context)
        if self._model:
            self._api.llama_model_free(self._model)
        self._context = self._model = None

    @abstractmethod
    def _context_params(self) -> Any:
        """llama.cpp's parameters of the context; raises `InputError` where the model is of the wrong kind."""

    def _load(self, gpu_layers: int, extra_buffers: bool) -> None:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.use_extra_bufts = extra_buffers
        # A file that is truncated while it is mapped kills the process that reads from it (SIGBUS).
        if hasattr(self._api, "LLAMA_LOAD_MODE_NONE"):
            params.load_mode = self._api.LLAMA_LOAD_MODE_NONE
        else:  # older versions
            params.use_mmap = False
        self._model = self._api.llama_model_load_from_file(os.fsencode(self._path), params)
        if not self._model:
            raise InputError(f"model {self._path} cannot be loaded ({last_words()}): give another .gguf file")
        self._vocab = self._api.llama_model_get_vocab(self._model)
        self._words = int(self._api.llama_vocab_n_tokens(self._vocab))

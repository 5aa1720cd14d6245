"""A loaded model that says how likely given continuations of a prompt are: a thin layer over llama.cpp's C interface.

The prompt is decoded once, as sequence 0. Candidates branch from it as sequences 1, 2, ...: their tokens form a tree
(`token_tree`), each row of which belongs to every candidate that passes through it. What is decoded always goes in
chunks that start at multiples of the chunk size, so that a prompt which shares its beginning with the one before
keeps the whole chunks of it, and still gives the same numbers to the last bit as one decoded afresh.

One thread at a time. llama.cpp's return codes are all checked: most of its faults would otherwise be a crash later.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.llama_library import last_words, physical_cores
from ncode_search.agent.ranking.loaded_model import LoadedModel
from ncode_search.agent.ranking.token_tree import PROMPT, Row, TokenTree, grouped

BRANCH_ROWS = 512
"""Places in the key-value cache for candidates; also the most tokens that one candidate may have."""
MOST_BRANCHES = 63
"""Candidates a group; llama.cpp allows 256 sequences, and one is the prompt."""

Check = Callable[[], None]


@dataclass(frozen=True)
class SessionSettings:
    """How a model is loaded."""

    context: int = 4096
    """Most tokens of prompt and candidate together; the model's training context where that is smaller."""
    threads: int | None = None
    """CPU threads; None for the physical cores."""
    gpu_layers: int = 0
    """Layers on the GPU; negative for all of them. Without effect in a llama.cpp that was built without GPU."""
    extra_buffers: bool = True
    """llama.cpp's weight repacking, which crashes on some processors: see `selftest`."""
    exact: bool = False
    """Keys and values in 32 instead of 16 bits: twice the memory, a fifth slower, exact to about 1e-5."""

    @property
    def chunk(self) -> int:
        """Tokens a decode call: 128 keep a CPU busy and let an overdue call end soon; a GPU wants more."""
        return 128 if self.gpu_layers == 0 else 512


class LlamaSession(LoadedModel):
    """A language model and its context."""

    def __init__(self, path: Path, settings: SessionSettings) -> None:
        self.settings = settings
        self._prompt: list[int] = []  # the tokens of sequence 0
        self._prompt_logits = np.zeros((1, 0), dtype=np.float32)  # behind its last token
        super().__init__(path, settings.gpu_layers, settings.extra_buffers)

    @property
    def chat_template(self) -> str | None:
        """Source of the model's chat template."""
        source = self._api.llama_model_chat_template(self._model, None)
        return source.decode(errors="replace") if source else None

    @property
    def special_texts(self) -> tuple[str, str]:
        """Texts of the tokens that begin and end a text, empty where the model has none."""
        return self._text(self._api.llama_vocab_bos(self._vocab)), self._text(self._api.llama_vocab_eos(self._vocab))

    def tokenize_prompt(self, text: str) -> list[int]:
        """Tokens of a whole prompt, special ones too; the beginning one is added if the model wants it."""
        tokens = self._tokenize(text, special=True)
        begin = self._api.llama_vocab_bos(self._vocab)
        if self._api.llama_vocab_get_add_bos(self._vocab) and begin >= 0 and tokens[:1] != [begin]:
            tokens.insert(0, begin)
        return tokens

    def tokenize_after(self, text: str, before: str) -> list[int]:
        """Tokens of `text` where it follows `before`: some tokenizers put a space before a text that stands alone."""
        anchor = self._tokenize(before[-1:], special=False)
        joined = self._tokenize(before[-1:] + text, special=False)
        if joined[: len(anchor)] == anchor and len(joined) > len(anchor):
            return joined[len(anchor) :]
        return self._tokenize(text, special=False)

    def log_likelihoods(
        self, prompt: Sequence[int], branches: Sequence[Sequence[int]], check: Check = lambda: None
    ) -> NDArray[np.float64]:
        """Natural logarithm of the probability of each branch after the prompt, shape ``(len(branches),)``.

        `check` is called before each decode call, and may raise to end the work. Raises ValueError for an empty
        prompt or branch or one that exceeds the context, `RuntimeError` where llama.cpp fails or answers with no
        numbers.
        """
        self._require_room(prompt, branches)
        distinct = sorted({tuple(tokens) for tokens in branches})
        found: dict[tuple[int, ...], float] = {}
        with self._clean_on_error():
            self._decode_prompt(list(prompt), check)
            for tree in grouped(distinct, MOST_BRANCHES, BRANCH_ROWS):
                found.update(zip(tree.branches, self._score_tree(tree, check).tolist(), strict=True))
        return np.array([found[tuple(tokens)] for tokens in branches])

    def _require_room(self, prompt: Sequence[int], branches: Sequence[Sequence[int]]) -> None:
        lengths = [len(tokens) for tokens in branches]
        if not prompt or not lengths or min(lengths) == 0:
            raise ValueError("the prompt and each branch need a token at least")
        if max(lengths) > BRANCH_ROWS or len(prompt) + max(lengths) > self.context:
            raise ValueError(
                f"{len(prompt)} tokens of prompt and {max(lengths)} of a candidate exceed the context of {self.context}"
            )

    def _require_decoder(self) -> None:
        """Refuse what cannot continue a prompt in branches; such calls abort the process."""
        api, model = self._api, self._model
        if not api.llama_model_has_decoder(model) or api.llama_model_has_encoder(model):
            kind = "is no decoder-only model"
        elif api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model):
            kind = "is recurrent"
        elif api.llama_model_is_diffusion(model):
            kind = "is a diffusion model"
        elif api.llama_vocab_type(self._vocab) == api.LLAMA_VOCAB_TYPE_NONE:
            kind = "has no tokenizer"
        else:
            return
        raise InputError(f"model {self._path} {kind}: give a .gguf of a causal language model such as Llama or Qwen")

    def _context_params(self) -> Any:
        self._require_decoder()
        trained = self._api.llama_model_n_ctx_train(self._model)
        self.context: int = min(self.settings.context, trained) if trained > 0 else self.settings.context
        params = self._api.llama_context_default_params()
        params.n_ctx = self.context + BRANCH_ROWS
        params.n_batch = params.n_ubatch = self.settings.chunk
        params.n_seq_max = MOST_BRANCHES + 1
        params.kv_unified = True  # with separate caches a partial copy aborts the process
        if self.settings.gpu_layers == 0:
            # On a CPU flash attention is no faster, and ten times less exact.
            params.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if self.settings.exact:
            params.type_k = params.type_v = self._api.GGML_TYPE_F32
        params.n_threads = params.n_threads_batch = self.settings.threads or physical_cores()
        return params

    def _text(self, token: int) -> str:
        text = self._api.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return text.decode(errors="replace") if text else ""

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        data = text.encode()
        tokens = (self._api.llama_token * (len(data) + 8))()
        count = self._api.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), False, special)
        if count < 0:
            raise RuntimeError(f"llama.cpp cannot tokenize a text of {len(data)} bytes ({count})")
        return list(tokens[:count])

    @contextmanager
    def _clean_on_error(self) -> Iterator[None]:
        """After an error nobody knows what the cache holds: start afresh."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._api.llama_memory_clear(self._memory, True)
        self._prompt = []

    def _decode_prompt(self, tokens: list[int], check: Check) -> None:
        """Make sequence 0 hold `tokens`, and remember the logits behind its last one."""
        if tokens == self._prompt:
            return
        kept = self._keep_prefix(tokens)
        self._prompt = []
        last = len(tokens) - 1
        for start in range(kept, len(tokens), self.settings.chunk):
            check()
            stop = min(start + self.settings.chunk, len(tokens))
            rows = [Row(tokens[at], at, [PROMPT]) for at in range(start, stop)]
            self._decode(rows, 0, wanted={last - start})
        self._prompt_logits = self._logits(1).copy()
        self._prompt = tokens

    def _keep_prefix(self, tokens: list[int]) -> int:
        """Drop what sequence 0 does not share with `tokens`; answers how many tokens stay, in whole chunks."""
        most = min(len(tokens) - 1, len(self._prompt))  # the last token's logits are needed
        same = next((at for at in range(most) if tokens[at] != self._prompt[at]), most)
        kept = same - same % self.settings.chunk
        if not self._api.llama_memory_seq_rm(self._memory, 0, kept, -1):
            self._forget()
            return 0
        return kept

    def _score_tree(self, tree: TokenTree, check: Check) -> NDArray[np.float64]:
        """Log-likelihoods of the tree's branches, shape ``(len(tree.branches),)``; leaves the cache as it was."""
        total = np.zeros(len(tree.branches))
        self._add(total, tree, PROMPT, self._prompt_logits)
        for branch in range(len(tree.branches)):
            self._api.llama_memory_seq_cp(self._memory, 0, branch + 1, -1, -1)
        for start in range(0, len(tree.rows), self.settings.chunk):
            check()
            rows = tree.rows[start : start + self.settings.chunk]
            self._decode(rows, len(self._prompt), wanted=set(range(len(rows))))
            self._add(total, tree, start, self._logits(len(rows)))
        for branch in range(len(tree.branches)):
            self._api.llama_memory_seq_rm(self._memory, branch + 1, -1, -1)
        return total

    def _add(self, total: NDArray[np.float64], tree: TokenTree, first: int, logits: NDArray[np.float32]) -> None:
        """Add to `total` what the rows from `first` on say about the tokens that follow them."""
        normalizers = log_sum_exp(logits)
        for row, branch, token in tree.targets_of(first, first + len(logits)):
            total[branch] += float(logits[row - first, token]) - normalizers[row - first]
        if not np.isfinite(total).all():
            raise RuntimeError(f"model {self._path} answers with numbers that are not finite: it is damaged")

    def _decode(self, rows: Sequence[Row], offset: int, wanted: set[int]) -> None:
        """Decode `rows` at positions `offset` + depth; logits are kept for the rows in `wanted`."""
        batch = self._api.llama_batch_init(len(rows), 0, MOST_BRANCHES + 1)
        try:
            for at, row in enumerate(rows):
                batch.token[at], batch.pos[at], batch.logits[at] = row.token, offset + row.depth, at in wanted
                batch.n_seq_id[at] = len(row.branches)
                for place, branch in enumerate(row.branches):
                    batch.seq_id[at][place] = branch + 1
            batch.n_tokens = len(rows)
            code = self._api.llama_decode(self._context, batch)
        finally:
            self._api.llama_batch_free(batch)
        if code != 0:
            raise RuntimeError(f"llama.cpp cannot decode {len(rows)} tokens (code {code}: {last_words()})")

    def _logits(self, rows: int) -> NDArray[np.float32]:
        """The logits of the last decode call, shape ``(rows, vocabulary)``: llama.cpp's own memory until the next."""
        pointer = self._api.llama_get_logits(self._context)
        if not pointer:
            raise RuntimeError(f"llama.cpp has no logits ({last_words()})")
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (rows, self._words))


def log_sum_exp(logits: NDArray[np.float32], block: int = 16) -> NDArray[np.float64]:
    """Logarithm of the sum of exponentials a row, shape ``(n,)``, `block` rows at a time to stay in the cache."""
    parts = []
    for start in range(0, len(logits), block):
        rows = logits[start : start + block]
        highest = rows.max(axis=1, keepdims=True)
        sums = np.exp(rows - highest).sum(axis=1, dtype=np.float64)
        parts.append(highest[:, 0] + np.log(sums))
    return np.concatenate(parts)

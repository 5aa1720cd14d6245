"""How often a language model answers right: the share of pools in which it takes the best candidate for the likeliest.

Its answer is the candidate with the highest mean log-probability a token, as in the ranker at run time, but the pool
stays in the order of the sample. A model without any idea is right in one pool of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.chat_template import ChatTemplate
from ncode_search.agent.ranking.gguf_file import SMOLLM2, check_model, resolve_model, sha256
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings
from ncode_search.agent.ranking.selftest import proven_settings
from ncode_search.agent.tuning.encoding import Encoder
from ncode_search.agent.tuning.formats import from_line
from ncode_search.agent.tuning.published import Sample
from ncode_search.agent.tuning.sample_file import read_lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel


MOST_TOKENS = 20_480
"""Context of a model in llama.cpp; as much as the model was trained with, where that is less."""


class Answering(Protocol):
    """A model that can be asked."""

    def mean_log_probabilities(self, prompt: str, candidates: Sequence[str]) -> NDArray[np.float64]:
        """Of each candidate after `prompt`, a token, shape ``(len(candidates),)``."""


class TorchAnswers:
    """A model in PyTorch."""

    def __init__(self, model: PreTrainedModel, encoder: Encoder) -> None:
        self._model, self._encoder = model, encoder

    def mean_log_probabilities(self, prompt: str, candidates: Sequence[str]) -> NDArray[np.float64]:
        """See `Answering`. The prompt is read once; the candidates continue it side by side."""
        import torch

        device = self._model.device
        branches = [self._encoder.candidate(code) for code in candidates]
        longest = max(map(len, branches))
        padded = torch.tensor([branch + [0] * (longest - len(branch)) for branch in branches], device=device)
        with torch.inference_mode():
            read = self._model(
                torch.tensor([self._encoder.prompt(prompt)], device=device), use_cache=True, logits_to_keep=1
            )
            cache = read.past_key_values
            cache.batch_repeat_interleave(len(branches))
            behind = self._model(padded, past_key_values=cache, use_cache=True).logits
            logits = torch.cat([read.logits.expand(len(branches), 1, -1), behind[:, :-1]], dim=1).float()
            found = logits.log_softmax(dim=2).gather(2, padded[:, :, None])[:, :, 0].cpu().numpy()
        return np.array([found[at, : len(branch)].mean() for at, branch in enumerate(branches)], dtype=np.float64)


class GgufAnswers:
    """A model in llama.cpp."""

    def __init__(self, session: LlamaSession) -> None:
        self._session = session
        source = session.chat_template
        self._template = ChatTemplate(source, *session.special_texts) if source is not None else None

    def mean_log_probabilities(self, prompt: str, candidates: Sequence[str]) -> NDArray[np.float64]:
        """See `Answering`."""
        tokens = self._session.tokenize_prompt(self._render(prompt))
        branches = [self._session.tokenize_after(code, self._render("") or ";") for code in candidates]
        lengths = np.array([len(branch) for branch in branches])
        return np.asarray(self._session.log_likelihoods(tokens, branches) / lengths, dtype=np.float64)

    def _render(self, text: str) -> str:
        return self._template.render(text) if self._template is not None else text


@contextmanager
def opened(model: str, threads: int | None = None) -> Iterator[Answering]:
    """The model of a ``.gguf`` file or ``smollm2`` in llama.cpp, a checkpoint's in PyTorch. Raises `InputError`."""
    if model == SMOLLM2 or model.endswith(".gguf"):
        path = resolve_model(model)
        check_model(path)
        settings = proven_settings(path, sha256(path), SessionSettings(threads=threads, context=MOST_TOKENS))
        with LlamaSession(path, settings) as session:
            yield GgufAnswers(session)
        return
    from ncode_search.agent.tuning.hf_export import load_trained
    from ncode_search.agent.tuning.hf_model import require_libraries

    require_libraries(threads)
    base, _ = load_trained(model)
    yield TorchAnswers(base.model.eval(), Encoder(base.tokenizer, base.model.config.max_position_embeddings))


def share_right(
    model: Answering, samples: Iterable[Sample], report: Callable[[int], None] = lambda count: None
) -> float:
    """The share of `samples`, at least one, whose answer is the model's."""
    right = []
    for count, sample in enumerate(samples, 1):
        candidates = sample.candidates.split(";")[:-1]
        answer = candidates[int(model.mean_log_probabilities(sample.prompt, candidates).argmax())]
        right.append(answer == sample.answer)
        report(count)
    return float(np.mean(right))


def chance(samples: Sequence[Sample]) -> float:
    """The share of `samples`, at least one, that a model without any idea answers right."""
    return float(np.mean([1 / sample.candidates.count(";") for sample in samples]))


def read_samples(path: Path, most: int | None = None) -> list[Sample]:
    """The samples of a file in the published format, or the first `most` of them. Raises `InputError`."""
    lines = read_lines(path)[:most]
    if not lines:
        raise InputError(f"{path} has no samples: write some with ncode ranker data")
    return [from_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]

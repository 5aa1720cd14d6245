"""llama.cpp's numbers against PyTorch's, and branches against one sequence at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings, log_sum_exp
from tests.soak.samples import resident

from .tiny_gguf import Shape, TorchLlama, make_weights, quantize, write_tiny_gguf

SETTINGS = SessionSettings(threads=1, exact=True)
PROMPT = "0123|1.0,3210|0.5,0022|0.0,"
CODES = ["0123", "0120", "3", "30", "0122", "301222", "zzzz0123", "0" * 60]


@pytest.fixture(scope="module")
def session(tiny_gguf: Path) -> Iterator[LlamaSession]:
    with LlamaSession(tiny_gguf, SETTINGS) as session:
        yield session


@pytest.mark.parametrize("prompt", ["0", PROMPT, PROMPT * 12], ids=["one token", "one chunk", "many chunks"])
def test_log_likelihoods_are_those_of_pytorch(session: LlamaSession, prompt: str) -> None:
    tokens = session.tokenize_prompt(prompt)
    branches = [session.tokenize_after(code, ",") for code in CODES]
    assert len({len(branch) for branch in branches}) > 3
    reference = TorchLlama(make_weights(Shape()))
    expected = [reference.log_likelihood(tokens, branch) for branch in branches]
    np.testing.assert_allclose(session.log_likelihoods(tokens, branches), expected, rtol=0, atol=1e-3)


def test_a_half_precision_cache_is_near(session: LlamaSession, tiny_gguf: Path) -> None:
    tokens = session.tokenize_prompt(PROMPT * 12)
    branches = [session.tokenize_after(code, ",") for code in CODES]
    with LlamaSession(tiny_gguf, SessionSettings(threads=1)) as usual:
        scores = usual.log_likelihoods(tokens, branches)
    np.testing.assert_allclose(scores, session.log_likelihoods(tokens, branches), rtol=2e-3, atol=2e-2)


def test_branches_together_are_branches_alone(session: LlamaSession) -> None:
    tokens = session.tokenize_prompt(PROMPT * 5)
    branches = [session.tokenize_after(code, ",") for code in CODES]
    together = session.log_likelihoods(tokens, branches)
    alone = [session.log_likelihoods(tokens, [branch])[0] for branch in branches]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_many_groups(session: LlamaSession) -> None:
    rng = np.random.default_rng(0)
    tokens = session.tokenize_prompt(PROMPT)
    branches = [rng.integers(10, 200, rng.integers(1, 30)).tolist() for _ in range(200)]
    together = session.log_likelihoods(tokens, branches)
    some = [0, 77, 199]
    np.testing.assert_allclose(
        together[some], session.log_likelihoods(tokens, [branches[at] for at in some]), atol=1e-3
    )


def test_a_branch_longer_than_a_chunk(session: LlamaSession) -> None:
    branch = session.tokenize_after("3" * 300, ",")
    expected = TorchLlama(make_weights(Shape())).log_likelihood(session.tokenize_prompt("0"), branch)
    np.testing.assert_allclose(session.log_likelihoods(session.tokenize_prompt("0"), [branch]), [expected], rtol=1e-3)


def test_equal_branches_are_equal(session: LlamaSession) -> None:
    tokens = session.tokenize_prompt(PROMPT)
    scores = session.log_likelihoods(tokens, [[40, 41], [50], [40, 41], [50]])
    assert scores[0] == scores[2]
    assert scores[1] == scores[3]


def test_a_kept_prefix_changes_no_bit(session: LlamaSession, tiny_gguf: Path) -> None:
    prompts = [
        session.tokenize_prompt(text) for text in (PROMPT * 14, PROMPT * 12 + "3", PROMPT * 14, "1" + PROMPT * 9)
    ]
    branches = [session.tokenize_after(code, ",") for code in CODES]
    reused = [session.log_likelihoods(prompt, branches) for prompt in prompts]
    for prompt, scores in zip(prompts, reused, strict=True):
        with LlamaSession(tiny_gguf, SETTINGS) as fresh:
            np.testing.assert_array_equal(fresh.log_likelihoods(prompt, branches), scores)


def test_a_kept_prefix_is_not_decoded_again(session: LlamaSession) -> None:
    calls: list[None] = []
    prompt = session.tokenize_prompt(PROMPT * 20)
    session.log_likelihoods(prompt, [[50]], lambda: calls.append(None))
    before = len(calls)
    session.log_likelihoods([*prompt, 40], [[50]], lambda: calls.append(None))
    assert before > 3
    assert len(calls) == before + 1


def test_complaint_15_prompts_that_were_left_behind_take_no_memory(session: LlamaSession) -> None:
    """As they do on a server, which keeps 8 GiB of them: here about 100 KB each."""
    prompts = [[2 + at % 5, *session.tokenize_prompt(PROMPT * 8)] for at in range(250)]
    sizes = []
    for prompt in prompts:
        session.log_likelihoods(prompt, [[5]])
        sizes.append(resident(os.getpid()))
    assert sizes[-1] - sizes[100] < 4 << 20


@pytest.mark.parametrize("call", [3, 7], ids=["in the prompt", "in the branches"])
def test_told_to_stop_it_stops_and_goes_on_later(session: LlamaSession, call: int) -> None:
    calls: list[None] = []

    def check() -> None:
        calls.append(None)
        if len(calls) == call:
            raise TimeoutError

    prompt = session.tokenize_prompt(PROMPT * 21)
    branches = [[at] * 100 for at in range(40, 44)]
    expected = session.log_likelihoods(prompt, branches)
    session.log_likelihoods([40], [[50]])
    with pytest.raises(TimeoutError):
        session.log_likelihoods(prompt, branches, check)
    np.testing.assert_array_equal(session.log_likelihoods(prompt, branches), expected)


@pytest.mark.parametrize(
    ("prompt", "branches"), [([], [[1]]), ([1], []), ([1], [[]]), ([1] * 1024, [[1]]), ([1], [[1] * 600])]
)
def test_what_does_not_fit_is_refused(session: LlamaSession, prompt: list[int], branches: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"token|context"):
        session.log_likelihoods(prompt, branches)


def test_the_whole_context_can_be_used(session: LlamaSession) -> None:
    branches = [[at] * 100 for at in range(40, 80)]
    assert np.isfinite(session.log_likelihoods([50] * (session.context - 100), branches)).all()


def test_special_tokens_in_prompts_only(session: LlamaSession) -> None:
    assert session.tokenize_prompt("<|im_start|>") == [1]
    assert len(session.tokenize_after("<|im_start|>", ",")) > 1


@pytest.mark.parametrize(("add_bos", "expected"), [(False, 0), (True, 1)])
def test_the_beginning_token_is_added_once(tmp_path: Path, add_bos: bool, expected: int) -> None:
    with LlamaSession(write_tiny_gguf(tmp_path / "bos.gguf", add_bos=add_bos), SETTINGS) as session:
        assert session.tokenize_prompt("3").count(0) == expected
        assert session.tokenize_prompt("<|endoftext|>3").count(0) == 1
        assert 0 not in session.tokenize_after("3", ",")


def test_quantized_numbers_are_near(session: LlamaSession, tiny_gguf: Path, tmp_path: Path) -> None:
    prompt, branches = session.tokenize_prompt(PROMPT), [session.tokenize_after(code, ",") for code in CODES]
    with LlamaSession(quantize(tiny_gguf, tmp_path / "q8.gguf"), SETTINGS) as small:
        scores = small.log_likelihoods(prompt, branches)
    np.testing.assert_allclose(scores, session.log_likelihoods(prompt, branches), rtol=0.05, atol=0.5)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    weights = make_weights(Shape())
    weights["output_norm"][:] = np.nan
    with (
        LlamaSession(write_tiny_gguf(tmp_path / "nan.gguf", weights=weights), SETTINGS) as session,
        pytest.raises(RuntimeError, match="not finite"),
    ):
        session.log_likelihoods([50], [[50]])


def test_a_model_that_llama_cpp_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = make_weights(Shape())
    del weights["blk.1.attn_k"]
    path = write_tiny_gguf(tmp_path / "holey.gguf", weights=weights)
    with pytest.raises(InputError, match=r"holey\.gguf cannot be loaded .*attn_k") as caught:
        LlamaSession(path, SETTINGS)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_llama_cpp_says_nothing(tiny_gguf: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with LlamaSession(tiny_gguf, SETTINGS) as session:
        session.log_likelihoods([50], [[50]])
    assert capfd.readouterr() == ("", "")


def test_closing_twice(tiny_gguf: Path) -> None:
    session = LlamaSession(tiny_gguf, SETTINGS)
    session.close()
    session.close()


def test_log_sum_exp() -> None:
    rows = np.array([[0, 0], [1e4, -1e4], [-1e4, -1e4 - 1], [88, 89]] * 9, dtype=np.float32)
    np.testing.assert_allclose(log_sum_exp(rows, block=5), np.logaddexp.reduce(rows.astype(float), axis=1), rtol=1e-6)

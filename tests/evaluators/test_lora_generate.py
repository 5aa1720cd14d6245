"""The writer really learns, its packed examples do not see each other, and it refuses what it cannot use."""

from __future__ import annotations

import gc
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError
from ncode_search.evaluators.lora_generate import IGNORED, Example, LoraGenerateEvaluator, PackedRows, keeps_apart

from .tiny_models import (
    ANIMALS,
    write_another_decoder,
    write_decoder,
    write_encoder,
    write_lines,
    write_prompts,
    write_tokenizer,
)

pytestmark = pytest.mark.usefixtures("frozen_libraries")

MakeContext = Callable[..., Context]
Reports = list[tuple[int, dict[str, float]]]

CONFIG = {"rank": 8, "learning_rate": 0.03}


def _evaluator(folder: Path, **options: Any) -> LoraGenerateEvaluator:
    """A Llama of two layers that is to say a word again."""
    if not (folder / "decoder").exists():
        write_decoder(folder / "decoder")
    small = {"model": "decoder", "epochs": 2, "max_tokens": 24, "precision": "float32", **write_prompts(folder)}
    return LoraGenerateEvaluator(**{**small, **options}, folder=folder)


def _refused(folder: Path, **options: Any) -> str:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.slow
def test_learns_to_write(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    evaluator = _evaluator(tmp_path, epochs=12, batch_size=2, generate=4, max_new_tokens=4)
    result = evaluator(CONFIG, make_context())
    assert [step for step, _ in reports] == [*range(1, 13)]
    assert result.value < reports[0][1]["val_loss"] / 2
    assert result.metrics["val_chrf"] > reports[0][1]["val_chrf"]
    assert result.metrics["val_chrf"] > 0.5
    assert set(result.metrics) == {"val_chrf", "parameters"}


def test_a_tokenizer_needs_no_token_for_padding_and_none_for_the_end(tmp_path: Path, make_context: MakeContext) -> None:
    write_decoder(tmp_path / "decoder")
    write_tokenizer(tmp_path / "decoder", bos_token="[CLS]")
    rows = [{"prompt": "the", "completion": "cat is here"}, {"prompt": "the oak is", "completion": "here"}] * 8
    files = {"train": write_lines(tmp_path / "own.jsonl", rows), "val": "own.jsonl"}
    evaluator = _evaluator(tmp_path, epochs=12, batch_size=2, generate=2, max_new_tokens=3, **files)
    assert evaluator(CONFIG, make_context()).metrics["val_chrf"] > 0.5


@pytest.mark.parametrize(("score", "goal"), [("loss", "minimize"), ("chrf", "maximize")])
def test_says_which_values_are_better(tmp_path: Path, score: str, goal: str) -> None:
    evaluator = _evaluator(tmp_path, generate=1, score=score)
    assert evaluator.score_goal == goal
    assert evaluator.metric_goals == {"val_loss": "minimize", "val_chrf": "maximize", "train_loss": "minimize"}


@torch.no_grad()
@pytest.mark.parametrize(("kind", "packed"), [("llama", 4), ("gpt2", 4), ("opt", 1), ("bloom", 1), ("mamba", 1)])
def test_the_untrained_loss_is_that_of_every_example_alone(
    tmp_path: Path, make_context: MakeContext, caplog: pytest.LogCaptureFixture, kind: str, packed: int
) -> None:
    if kind != "llama":
        write_another_decoder(tmp_path / "decoder", kind)
    evaluator = _evaluator(tmp_path)
    rows = evaluator._sets["val"]
    assert isinstance(rows, PackedRows)
    assert max(len(row) for row in rows.rows) == packed
    assert ("decoder sees one packed example from another: rows are of one example" in caplog.text) == (packed == 1)
    total, count = 0.0, 0
    for example in (one for row in rows.rows for one in row):
        ids = torch.tensor([example.prompt + example.completion])
        logits = evaluator._base.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        wanted = torch.tensor(example.completion)
        total -= float(logits[-len(wanted) :].gather(1, wanted[:, None]).sum())
        count += len(wanted)
    measured = evaluator._judge(evaluator._base.model, "val", make_context())
    assert measured["val_loss"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(("kind", "apart"), [("llama", True), ("gpt2", True), ("opt", False), ("bloom", False)])
@pytest.mark.parametrize("scale", [0.02, 0.2])
@pytest.mark.parametrize("length", [1, 8])
def test_whether_examples_are_kept_apart_is_seen_in_any_precision(
    tmp_path: Path, kind: str, apart: bool, scale: float, length: int
) -> None:
    if kind == "llama":
        write_decoder(tmp_path)
    else:
        write_another_decoder(tmp_path, kind, initializer_range=scale)
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, use_cache=False)
        assert keeps_apart(model, length) == apart


def test_only_completions_are_learned(tmp_path: Path) -> None:
    batch = PackedRows([[Example([7, 8], [9, 5]), Example([], [6, 5])], [Example([1], [5])]], 0, [], []).batch([0, 1])
    assert batch.inputs["input_ids"].tolist() == [[7, 8, 9, 5, 6, 5], [1, 5, 0, 0, 0, 0]]
    assert batch.inputs["labels"].tolist() == [[IGNORED, IGNORED, 9, 5, IGNORED, 5], [IGNORED, 5] + [IGNORED] * 4]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert batch.labels == 4


def test_long_texts_continue_in_the_next_row(tmp_path: Path, make_context: MakeContext) -> None:
    (tmp_path / "long.txt").write_text("the cat is here " * 20)
    evaluator = _evaluator(tmp_path, train="long.txt", val="long.txt", epochs=1)
    rows = evaluator._sets["train"]
    assert isinstance(rows, PackedRows)
    assert [len(row[0]) for row in rows.rows] == [24, 24, 24, 9]
    assert evaluator(CONFIG, make_context()).value < math.log(20)


def test_long_examples_are_cut_and_those_without_a_completion_left_out(tmp_path: Path) -> None:
    lines = [{"prompt": "the " * 3, "completion": "cat " * 30}, {"prompt": "the " * 30, "completion": "cat"}]
    rows = _evaluator(tmp_path, train=write_lines(tmp_path / "long.jsonl", lines))._sets["train"]
    assert isinstance(rows, PackedRows)
    assert [(len(one.prompt), len(one.completion)) for row in rows.rows for one in row] == [(3, 21)]
    alone = write_lines(tmp_path / "alone.jsonl", lines[1:])
    assert "train: within max_tokens = 24 there is nothing to learn; raise it" in _refused(tmp_path, train=alone)


def test_accumulation_is_the_same_step(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    _evaluator(tmp_path, batch_size=4)(CONFIG, make_context())
    _evaluator(tmp_path, batch_size=1, accumulation=4)(CONFIG, make_context())
    assert reports[0][1] == pytest.approx(reports[2][1], rel=1e-4)


def test_repeats_itself(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    evaluator, config = _evaluator(tmp_path, precision="bfloat16"), {**CONFIG, "dropout": 0.3}
    evaluator(config, make_context())
    evaluator(config, make_context())
    assert reports[:2] == reports[2:]


def test_a_diverging_training_fails_with_a_reason(tmp_path: Path, make_context: MakeContext) -> None:
    with pytest.raises(DivergedError, match="_loss is nan in epoch 1"):
        _evaluator(tmp_path)({"learning_rate": 1e30}, make_context())


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_learns_on_quantized_weights(
    tmp_path: Path, make_context: MakeContext, reports: Reports, quantization: str
) -> None:
    write_decoder(tmp_path / "decoder", width=64)  # bitsandbytes quantizes blocks of 64
    evaluator = _evaluator(tmp_path, quantization=quantization, epochs=6)
    result = evaluator(CONFIG, make_context())
    assert result.value < reports[0][1]["val_loss"]
    known = _tensors()
    copied = evaluator._base._copy()
    assert sum(size for place, size in _tensors().items() if place not in known) < 1000, "what is frozen is shared"
    assert copied is not None


def _tensors() -> dict[int, int]:
    """The bytes of all tensors, by their addresses."""
    gc.collect()
    found = (one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter))
    return {one.data_ptr(): one.nbytes for one in found}


def test_refuses_a_quantization_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _refused(tmp_path, quantization="4bit") == (
        '[evaluator] quantization = "4bit": bitsandbytes is not installed; '
        "pip install 'ncode-search[quantized]', or leave it out"
    )


def test_a_table_may_have_columns_for_prompts_and_for_texts(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("prompt,completion,text\nthe cat,is here,\n,,the oak is here\n")
    files = {"train": "own.csv", "val": "own.csv"}
    rows = _evaluator(tmp_path, generate=2, **files)._sets["val"]
    assert isinstance(rows, PackedRows)
    assert [len(example.prompt) for row in rows.rows for example in row] == [2, 0]
    assert len(rows.prompts) == 1
    (tmp_path / "own.csv").write_text("prompt,completion,text\n,is here,\n")
    assert "own.csv, line 2: prompt is ''; it must be text that is not empty" in _refused(tmp_path, **files)


def test_refuses_a_checkpoint_that_writes_nothing(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    message = _refused(tmp_path, model="encoder")
    assert 'model = "encoder": the checkpoint lacks weights of cls.predictions' in message


def test_refuses_prompts_that_are_not_there(tmp_path: Path) -> None:
    name = write_lines(tmp_path / "texts.jsonl", [{"text": f"the {word}"} for word in ANIMALS])
    assert "val: no row has a prompt to complete" in _refused(tmp_path, val=name, generate=1)
    nothing = write_lines(tmp_path / "nothing.jsonl", [{"question": "the cat"}])
    assert "nothing.jsonl, line 1: there is no text, only question; name another" in _refused(tmp_path, train=nothing)
    empty = write_lines(tmp_path / "empty.jsonl", [{"prompt": "the", "completion": " "}])
    assert "line 1: completion is ' '; it must be text that is not empty" in _refused(tmp_path, train=empty)


def test_refuses_completions_longer_than_the_positions(tmp_path: Path, make_context: MakeContext) -> None:
    write_another_decoder(tmp_path / "decoder", "gpt2", n_positions=32)
    long = [{"prompt": "the " * 27, "completion": "cat"}]
    options = {"val": write_lines(tmp_path / "long.jsonl", long), "max_tokens": 32, "generate": 1, "epochs": 1}
    result = _evaluator(tmp_path, **options, max_new_tokens=6)(CONFIG, make_context())
    assert "val_chrf" in result.metrics
    message = _refused(tmp_path, **options, max_new_tokens=7)
    assert message.startswith("[evaluator] max_new_tokens = 7: the model cannot go on from a prompt of 27 tokens (")
    assert message.endswith("); lower it, or max_tokens")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 1}, "max_tokens = 1: must be at least 2"),
        ({"max_tokens": 65}, "max_tokens = 65: must be at most 64, the positions of the model"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0: must be at least 1"),
        ({"generate": -1}, "generate = -1: must be zero or a positive number"),
        ({"score": "chrf"}, 'generate = 0: must be at least 1 with score = "chrf"'),
        ({"score": "bleu"}, "score = bleu: must be loss or chrf"),
    ],
)
def test_refuses_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    assert _refused(tmp_path, **options) == f"[evaluator] {message}"

